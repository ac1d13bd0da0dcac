"""``noisewright audit``: which verifier to trust on some prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli import grids, options, output
from noisewright.cli.exits import Ended, Interrupted
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors
from noisewright.cli.requests import check_device

if TYPE_CHECKING:
    from noisewright.benchmark.audit import Audit
    from noisewright.benchmark.store import Results


def audit(
    prompts: options.Prompts,
    *,
    verifier: options.Verifiers,
    judge: options.Judge = None,
    candidates: options.Candidates = 16,
    votes: options.Votes = None,
    model: options.Model = "noisewright/shapes",
    steps: options.Steps = None,
    set: options.Set = None,
    column: options.Column = None,
    category: options.Category = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    seed: options.FirstSeed = None,
    out: options.GridOut = None,
    workers: options.Workers = None,
    executor: options.Executor = "local",
    device: options.Device = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> Ended | None:
    """Find out which verifier to trust on your prompts.

    Each prompt's candidates are made once and scored by all: how far verifiers agree, who pays for whom, what each
    picks, and whether other seeds, or a person's choices, would say the same.
    """
    from noisewright.cli import terminal

    check_device(device, None)
    settings = grids.settings_of(set, num_inference_steps=steps, device=device)
    grids.check_free(settings, "verifier", "judge", "ensemble", "search", "search_args", "budget", "target", "model")
    choice = {"column": column, "category": category, "limit": limit, "sample": sample, "seed": seed or 0}
    share_processors()
    from noisewright.benchmark import fronts

    given, beside = fronts.votes_of(votes)
    hush_libraries()
    with terminal.waiting("reading prompts ...", is_watched(json)):
        spec, count, warnings = fronts.audit_asked(
            prompts, verifier, judge or None, candidates, model, seed or 0, choice, settings
        )
    if dry_run:
        grids.print_estimate(spec, out, workers, warnings, json)
        return None
    with grids.directory(out, "audit") as (where, shown):
        grids.said(warnings, where, shown)
        results = grids.run(spec, where, workers, executor, json)
        if results.interrupted and not results.done:
            raise Interrupted(f"interrupted before a prompt was done; the same command with --out {shown} goes on")
        with terminal.waiting("comparing ...", is_watched(json)):
            found = fronts.audit_of(results, count, given, beside)
        grids.said(found.warnings, where, shown)
        if json:
            terminal.print_json(grids.retyped(found.to_json(), where, shown))
        else:
            print_audit(found)
            grids.print_files(found.files, where, shown, "audit.html")
        return _ended(found, results, shown)


def _ended(found: Audit, results: Results, shown: Path) -> Ended | None:
    from noisewright.cli import terminal

    again = f"the same command with --out {shown} goes on"
    if results.interrupted:
        raise Interrupted(f"interrupted after {found.prompts} of {len(results.spec.prompts)} prompts; {again}")
    if found.failed:
        row = results.failed[0]
        terminal.say(f"{row['error']} (the first: {row['prompt'][:60]})")
        terminal.say(f"{found.failed} of {len(results.spec.prompts)} prompts failed; {again}")
        return Ended(1)
    return None


def print_audit(found: Audit) -> None:
    """Who pays for whom, who agrees with whom, what a person chose, and the verdict."""
    from noisewright.cli import terminal

    names = [*found.verifiers, *found.judges]
    pickers = list(dict.fromkeys(one.picker for one in found.pays))
    values = {(one.picker, one.scorer): one.deviations for one in found.pays}
    rows = [[name, *(grids.interval_text(values[name, other], 2) for other in names)] for name in pickers]
    title = f"who pays for whom: the best of {found.candidates} by the row, in standard deviations by the column"
    _table([f"picked by ({terminal.plural(found.prompts, 'prompt')})", *names], rows, title)
    rows = [[f"{one.one}, {one.other}", grids.interval_text(one.spearman, 2), grids.interval_text(one.kendall, 2)]
            for one in found.agreement]  # fmt: skip
    _table(["agreement within a prompt", "Spearman", "Kendall"], rows)
    _print_seeds(found)
    if found.chosen is not None:
        rows = []
        for name in names:
            one = found.chosen.agreement[name]
            rate = "" if one.rate != one.rate else f"{one.rate:.0%} [{one.low:.0%}, {one.high:.0%}]"
            rows.append([name, rate, str(one.choices), str(one.ties), str(one.missing + found.chosen.unknown)])
        _table(["agrees with the person", "", "choices", "ties", "left out"], rows)
    output.print_line(found.verdict)


def _print_seeds(found: Audit) -> None:
    held = found.stability
    if len(found.verifiers) > 1 and held.same_best == held.same_best:
        by_chance = 1 / len(found.verifiers)
        output.print_line(f"two halves of the seeds name the same best verifier in {held.same_best:.0%} of the cuts "
                          f"(by chance {by_chance:.0%})")  # fmt: skip


def _table(heads: list[str], rows: list[list[str]], title: str = "") -> None:
    from noisewright.cli import terminal

    console: Any = terminal.out()
    console.print(terminal.table(heads, rows, right=range(1, len(heads)), title=title))
