"""``noisewright compare``: searches against plain best of N, and each other, at one budget."""

from __future__ import annotations

from typing import Any

from noisewright.cli import grids, options
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors
from noisewright.cli.requests import check_device


def compare(
    prompts: options.Prompts,
    *,
    search: options.Searches,
    search_arg: options.SearchArgs = None,
    budget: options.EqualBudget = "32 images",
    model: options.Model = "noisewright/shapes",
    verifier: options.Verifier = None,
    judge: options.Judge = None,
    steps: options.Steps = None,
    set: options.Set = None,
    column: options.Column = None,
    category: options.Category = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    seeds: options.Seeds = None,
    seed: options.FirstSeed = None,
    out: options.GridOut = None,
    workers: options.Workers = None,
    executor: options.Executor = "local",
    log: options.Log = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> Ended | None:
    """Compare searches at equal NFE or seconds: paired, with a verdict.

    What makes a search large or small is fitted to the budget, so that each ends within it.
    """
    from noisewright.cli import terminal

    check_device(device, None)
    grids.check_loggers(log)
    settings = grids.settings_of(
        set, model=model, verifier=verifier or None, judge=judge or None, num_inference_steps=steps, device=device
    )
    grids.check_free(settings, "search", "search_args", "budget", "target")
    choice = {"column": column, "category": category, "limit": limit, "sample": sample, "seed": seed or 0}
    share_processors()
    from noisewright.benchmark import fronts
    from noisewright.samplers.quiet import quiet

    hush_libraries()
    with terminal.waiting(f"loading {settings['model']} ...", is_watched(json)), quiet():
        spec, warnings = fronts.comparison_asked(
            prompts, search, search_arg or (), budget, settings, seeds or 1, seed or 0, fronts.before_in(out), choice
        )
    if "second" in str(spec.base["budget"]) and (workers or 1) > 1:
        warnings.append(f"{workers} workers share the processor: their seconds are not those of one alone")
    if dry_run:
        grids.print_estimate(spec, out, workers, warnings, json)
        return None
    with grids.directory(out, "compare") as (where, shown):
        grids.said(warnings, where, shown)
        found = fronts.comparison_of(grids.run(spec, where, workers, executor, json), log or ())
        grids.said(found.concluded.warnings, where, shown)
        if json:
            terminal.print_json(grids.retyped(found.to_json(), where, shown))
        else:
            grids.print_points(found.concluded)
            _print(found, spec.notes)
            grids.print_files(found.concluded.files, where, shown, "report.html")
        return grids.ended(found.concluded, shown)


def _print(found: Any, notes: tuple[str, ...]) -> None:
    grids.print_verdicts(notes)
    grids.print_verdicts(found.verdicts)
