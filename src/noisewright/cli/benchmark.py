"""``noisewright benchmark``: a grid of requests, run, gone on with, compared and reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli import grids, options
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched, share_processors, warn

if TYPE_CHECKING:
    from noisewright.benchmark.concluded import Concluded
    from noisewright.benchmark.spec import Spec

SpecName = Annotated[
    str | None,
    typer.Argument(metavar="SPEC", help="A spec as FILE.toml, or the name of a built-in one.", show_default=False),
]
List = Annotated[bool, typer.Option("--list", help="List the built-in specs.")]
OnePrompt = Annotated[
    list[str] | None, typer.Option("--prompt", help="A prompt; repeated.", metavar="TEXT")
]
PromptLines = Annotated[
    Path | None,
    typer.Option("--prompt-file", help="A file with a prompt a line; # begins a comment.", metavar="FILE"),
]
PromptSet = Annotated[
    str | None,
    typer.Option("--prompts", help="A bundled set of prompts, or a file in the shapes of known sets.", metavar="SET"),
]
Across = Annotated[
    str | None,
    typer.Option("--x", help="What is varied across, without a spec: FIELD=VALUE,VALUE.", metavar="FIELD=A,B,C"),
]
Down = Annotated[str | None, typer.Option("--y", help="What is varied down.", metavar="FIELD=A,B,C")]
Sheets = Annotated[str | None, typer.Option("--z", help="What is varied from sheet to sheet.", metavar="FIELD=A,B,C")]
OtherModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="ID|DIR|FILE",
        help="In place of the spec's. For a bundled model, specs of large ones name bundled verifiers and prompts.",
    ),
]
ReportOf = Annotated[
    Path | None,
    typer.Option("--report", help="Write tables and report of a benchmark anew, from its rows alone.", metavar="DIR"),
]


def benchmark(
    spec: SpecName = None,
    *,
    list_: List = False,
    prompt: OnePrompt = None,
    prompt_file: PromptLines = None,
    prompts: PromptSet = None,
    column: options.Column = None,
    category: options.Category = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    seeds: options.Seeds = None,
    seed: options.FirstSeed = None,
    x: Across = None,
    y: Down = None,
    z: Sheets = None,
    model: OtherModel = None,
    set: options.Set = None,
    out: options.GridOut = None,
    workers: options.Workers = None,
    executor: options.Executor = "local",
    log: options.Log = None,
    report: ReportOf = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> Ended | None:
    """Run a grid of requests: the same prompts and seeds for all, compared with intervals, in a report."""
    if list_:
        _list(json)
        return None
    axes = {name: one for name, one in (("--x", x), ("--y", y), ("--z", z)) if one is not None}
    given = {"SPEC": spec is not None, "--x": bool(axes), "--report": report is not None}
    named = [name for name, there in given.items() if there]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        raise ValueError(f"expected one of SPEC, --x and --report, got {got} (see: noisewright benchmark --help)")
    grids.check_loggers(log)
    if report is not None:
        grids.check_alone("--report", prompt=prompt, prompt_file=prompt_file, prompts=prompts, column=column,
                          category=category, limit=limit, sample=sample, seeds=seeds, seed=seed, model=model, set=set,
                          out=out, dry_run=dry_run or None)  # fmt: skip
        return _report(report, log or (), json)
    choice = {"column": column, "category": category, "limit": limit, "sample": sample}
    chosen = _prompts(prompt, prompt_file, prompts, choice, seed or 0, needed=spec is None)
    changes = grids.settings_of(set)
    numbers: dict[str, Any] = {"seeds": seeds, "seed": seed, "limit": limit if chosen is None else None}
    share_processors()
    from noisewright.benchmark.spec_files import read_spec
    from noisewright.benchmark.typed_axes import grid_spec

    hush_libraries()
    if spec is not None:
        some = None if chosen is None else chosen[:2]
        made = read_spec(spec, model=model, overrides=changes, prompts=some, tell=warn, **numbers)
    else:
        base = {"model": model or "noisewright/shapes", **changes}
        made = grid_spec(axes, base, chosen[0], chosen[1], seeds=seeds or 1, seed=seed or 0)
    warnings = [] if chosen is None else chosen[2]
    if dry_run:
        grids.print_estimate(made, out, workers, warnings, json)
        return None
    return _run(made, out, workers, executor, log or (), warnings, json)


def _list(as_json: bool) -> None:
    from noisewright.benchmark.spec_files import builtin_specs
    from noisewright.cli import terminal

    found = [{"name": name, "title": title} for name, title in builtin_specs().items()]
    if as_json:
        terminal.print_json(found)
    else:
        terminal.out().print(terminal.table(["name", ""], [[one["name"], one["title"]] for one in found]))


def _prompts(
    texts: Sequence[str] | None, file: Path | None, prompt_set: str | None, choice: dict[str, Any], seed: int,
    needed: bool,
) -> Any:  # fmt: skip
    """Prompts in place of a spec's, what they were read from, and warnings; None where nobody gave any."""
    given = [name for name, one in (("--prompt", texts), ("--prompt-file", file), ("--prompts", prompt_set)) if one]
    if len(given) > 1:
        raise ValueError(f"expected one of --prompt, --prompt-file and --prompts, got {' and '.join(given)}")
    from noisewright.benchmark.prompt_sets import numbered, read_prompt_set

    choosing = [name for name, value in choice.items() if value is not None and not (name == "limit" and not given)]
    if (not given or texts) and choosing:
        raise ValueError(f"expected --{choosing[0]} with --prompts or --prompt-file, got it without")
    if texts:
        return numbered(texts), "", []
    if not given:
        if needed:
            raise ValueError("expected --prompt, --prompt-file or --prompts with --x, got none")
        return None
    source = file if file is not None else prompt_set
    found, warnings = read_prompt_set(str(source), seed=seed, **choice)
    return found, Path(str(source)).name if file is not None else str(source), warnings


def _report(root: Path, log: Sequence[str], as_json: bool) -> Ended | None:
    from noisewright.benchmark.concluded import concluded
    from noisewright.benchmark.store import open_results
    from noisewright.cli import terminal

    where = root.absolute()
    with terminal.waiting("comparing ...", is_watched(as_json)):
        found = concluded(open_results(where), logs=log)
    _print(found, where, root, as_json)
    if found.compared.failed:
        terminal.say(f"{found.compared.failed} of {found.compared.cells} cells failed")
        return Ended(1)
    return None


def _run(
    spec: Spec, out: Path | None, workers: int | None, executor: str, log: Sequence[str], warnings: Sequence[str],
    as_json: bool,
) -> Ended | None:  # fmt: skip
    from noisewright.benchmark.concluded import concluded
    from noisewright.cli import terminal

    with grids.directory(out, spec.name) as (where, shown):
        grids.said(warnings, where, shown)
        results = grids.run(spec, where, workers, executor, as_json)
        with terminal.waiting("comparing ...", is_watched(as_json)):
            found = concluded(results, logs=log)
        _print(found, where, shown, as_json)
        return grids.ended(found, shown)


def _print(found: Concluded, where: Path, shown: Path, as_json: bool) -> None:
    from noisewright.cli import terminal

    grids.said(found.warnings, where, shown)
    if as_json:
        terminal.print_json(grids.retyped(found.to_json(), where, shown))
        return
    grids.print_points(found)
    grids.print_verdicts(found.verdicts)
    grids.print_files(found.files, where, shown, "report.html")
