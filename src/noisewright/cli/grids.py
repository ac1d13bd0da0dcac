"""What ``benchmark``, ``compare`` and ``audit`` share: a grid run in a directory with one display, and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli import output
from noisewright.cli.exits import Ended, Interrupted
from noisewright.cli.libraries import hush_libraries, warn
from noisewright.cli.runs import as_typed, new_directory
from noisewright.outside.files import check_directory

if TYPE_CHECKING:
    from noisewright.benchmark.compared import Compared, Interval, Measured
    from noisewright.benchmark.concluded import Concluded
    from noisewright.benchmark.spec import Spec
    from noisewright.benchmark.store import Results

MOST_ROWS = 60
"""Points in the table; all are in the report."""

MOST_SCORES = 4
"""Columns of scores."""

MOST_FAILURES = 3
MARKS = {True: "*", False: ""}
"""Of a difference that stands."""


@contextmanager
def directory(out: Path | None, name: str) -> Iterator[tuple[Path, Path]]:
    """A benchmark's directory, in full and as it was typed; a new one that stays empty is removed.

    Args:
        out: as typed; by default a new one in ``runs``.
        name: what a new one is called after.
    """
    here = Path.cwd()  # a verifier may change the working directory
    claimed = out is None
    shown = new_directory(here, name) if out is None else out
    where = here / shown if claimed else check_directory(shown)
    try:
        with as_typed(where, shown):
            yield where, shown
    except BaseException:
        if claimed:
            with suppress(OSError):
                where.rmdir()
        raise


def run(spec: Spec, where: Path, workers: int | None, executor: str, as_json: bool) -> Results:
    """Run a grid with its display."""
    from noisewright.benchmark.drive import run_benchmark
    from noisewright.cli import progress
    from noisewright.registry.executors import LOCAL, with_options

    count = workers or 1
    if executor != LOCAL:
        executor, count = with_options(executor, workers=workers), 1
    hush_libraries()
    with progress.shown(as_json) as show:
        return run_benchmark(spec, where, workers=count, executor=executor, show=show)


def print_estimate(spec: Spec, out: Path | None, workers: int | None, warnings: Sequence[str], as_json: bool) -> None:
    """Print what a grid will cost; nothing is made but one timed step for each kind of run."""
    from noisewright.benchmark.estimate import estimate
    from noisewright.cli import progress, terminal

    for text in warnings:
        warn(text)
    hush_libraries()
    with progress.shown(as_json) as show:
        found = estimate(spec, out=out, workers=workers or 1, show=show)
    if as_json:
        terminal.print_json(found.to_json())
        return
    for name, text in found.lines:
        output.print_line(f"{name:<9}{terminal.one_line(text)}")
    output.print_line("dry run: nothing was generated")


def ended(found: Concluded, shown: Path, again: str = "the same command") -> Ended | None:
    """How the command ends: all done, cells that failed, or interrupted.

    Raises:
        Interrupted: with the line to print.
    """
    from noisewright.cli import terminal

    cells, done = found.compared.cells, found.compared.done
    more = f"{again} with --out {shown} goes on"
    if found.results.interrupted:
        raise Interrupted(f"interrupted after {done} of {cells} cells; {more}")
    if found.compared.failed:
        for one in found.compared.failures[:MOST_FAILURES]:
            terminal.say(f"{one.error} ({terminal.plural(one.cells, 'cell')}, the first: {one.prompt[:60]})")
        terminal.say(f"{found.compared.failed} of {cells} cells failed; {more}")
        return Ended(1)
    return None


def check_loggers(names: Sequence[str] | None) -> None:
    """Refuse a logger that is unknown or not installed before anything is spent."""
    if names:
        from noisewright.benchmark.loggers import check_loggers as check

        check(names)


def check_alone(option: str, **others: Any) -> None:
    """Refuse an option beside which others would do nothing, where one of them was given."""
    for name, given in others.items():
        if given is not None:
            raise ValueError(f"expected {option} with --log and --json alone, got --{name.replace('_', '-')} too")


def settings_of(texts: Sequence[str] | None, **given: Any) -> dict[str, Any]:
    """Fields of a request from ``--set FIELD=VALUE`` and from options of their own.

    Raises:
        ValueError, TypeError: in one line, where a field is unknown, given twice, or its value wrong.
    """
    from noisewright.benchmark.axes import fields_as_typed
    from noisewright.benchmark.typed_axes import typed_value
    from noisewright.outside.messages import short, unknown

    found = {name: value for name, value in given.items() if value is not None}
    known = fields_as_typed()
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"expected --set FIELD=VALUE, got {short(text)}")
        field = known.get(name.strip())
        if field is None:
            raise ValueError(unknown("field", name.strip(), sorted(known)))
        if field in found:
            raise ValueError(f"expected {field} once, got it again in --set {short(text)}")
        found[field] = typed_value(field, value.strip())
    return found


def check_free(settings: Mapping[str, Any], *names: str) -> None:
    """Refuse fields in ``--set`` that the command itself sets.

    Raises:
        ValueError: in one line.
    """
    taken = next((name for name in names if name in settings), None)
    if taken is not None:
        raise ValueError(f"expected no {taken} in --set, which this command sets itself, got {settings[taken]}")


# Printed


def print_points(found: Concluded) -> None:
    """A line for each point: what its best is worth by each score, with intervals and marks, and what it cost."""
    from noisewright.cli import terminal

    compared = found.compared
    names = _scores(compared)
    places = {name: _places(compared, name) for name in names}
    rows, referred = [], _is_referred(compared)
    for one in compared.points[:MOST_ROWS]:
        cells = [_measured(one.scores.get(name), places[name], referred) for name in names]
        costs = [_mean(one.costs.get(name)) for name in ("images", "nfe", "seconds")]
        rows.append([one.label or found.compared.title, *cells, *costs, f"{one.compared}"])
    roles = [f"{name} (judge)" if name in compared.judges else name for name in names]
    heads = ["", *roles, "images", "NFE", "seconds", "pairs"]
    if compared.done:
        terminal.out().print(terminal.table(heads, rows, right=range(1, len(heads))))
        output.print_line(_legend(compared))
    left = len(compared.points) - MOST_ROWS
    if left > 0:
        output.print_line(f"{left} more points are in the report")


def _is_referred(compared: Compared) -> bool:
    """Whether points are compared with one of them, and not with the plain image."""
    return any(one.reference is not None for one in compared.points)


def _legend(compared: Compared) -> str:
    change = "the reference" if _is_referred(compared) else "the plain image of the same prompt and seed"
    over = "prompts" if compared.over == "prompts" else "seeds"
    return (f"means with 95 % intervals over {over}; in brackets the change against {change}, * where it stands after "
            "Holm's correction")  # fmt: skip


def _scores(compared: Compared) -> list[str]:
    first = [compared.deciding] if compared.deciding else []
    return list(dict.fromkeys([*first, *compared.judges, *compared.scores]))[:MOST_SCORES]


def _places(compared: Compared, name: str) -> int:
    from noisewright.evaluate.numbers import decimals

    every = [one.scores[name] for one in compared.points if name in one.scores]
    return decimals(value for one in every for value in (one.best.mean, one.best.low, one.best.high))


def _measured(one: Measured | None, places: int, referred: bool) -> str:
    from noisewright.evaluate.numbers import gained

    if one is None:
        return ""
    change = one.against if referred else one.gain
    text = interval_text(one.best, places)
    if change is None:
        return text
    return f"{text} ({gained(0.0, change.mean, places)}{MARKS[change.stands]})"


def interval_text(one: Interval, places: int) -> str:
    """``0.81 [0.75, 0.86]``."""
    from noisewright.evaluate.numbers import written

    ends = "" if one.low != one.low else f" [{written(one.low, places)}, {written(one.high, places)}]"
    return f"{written(one.mean, places)}{ends}"


def _mean(one: Measured | None) -> str:
    return "" if one is None or one.best.mean != one.best.mean else f"{one.best.mean:,.4g}"


def print_verdicts(verdicts: Sequence[str], most: int = MOST_ROWS) -> None:
    """A line each."""
    for one in verdicts[:most]:
        output.print_line(one if one.endswith(".") else f"{one}.")
    if len(verdicts) > most:
        output.print_line(f"{len(verdicts) - most} more sentences are in the report")


def print_files(files: Sequence[Path], where: Path, shown: Path, name: str) -> None:
    """The path of the report, as the directory was typed."""
    found = next((one for one in files if one.name == name), None)
    output.print_line(str(shown if found is None else shown / found.relative_to(where)))


def said(warnings: Sequence[str], where: Path, shown: Path) -> None:
    """Warnings, a line each, with the directory as it was typed; how many failed is said at the end."""
    for text in warnings:
        if not text.endswith(" failed"):
            warn(text.replace(str(where), str(shown)))


def retyped(found: Mapping[str, Any], where: Path, shown: Path) -> dict[str, Any]:
    """An object for ``--json`` with the directory as it was typed wherever it stands."""

    def of(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(str(where), str(shown))
        if isinstance(value, Mapping):
            return {key: of(one) for key, one in value.items()}
        return [of(one) for one in value] if isinstance(value, (list, tuple)) else value

    return dict(of(found))
