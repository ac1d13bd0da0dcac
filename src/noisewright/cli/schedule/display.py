"""What ``noisewright schedule`` prints: schedules, error tables, comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli.output import print_line, stream
from noisewright.cli.schedule.options import shortened
from noisewright.outside.texts import clean

if TYPE_CHECKING:
    from noisewright.trajectory.comparison import Comparison
    from noisewright.trajectory.errors import ErrorTable
    from noisewright.trajectory.files import FittedSchedule

MOST_ROWS = 24
"""Levels of a schedule that are all printed; of more the first and the last."""

FIRST, LAST = 16, 4

PROMPTS = ("prompts", "report_prompts")


def print_comparison(found: Comparison) -> None:
    """The table of ``compare``, and what it rests on."""
    from noisewright.cli import terminal

    headers = ["schedule", "solver", "steps", "NFE", *found.titles.values()]
    terminal.out().print(terminal.table(headers, [found.cells(row) for row in found.rows], right=(2, 3)))
    for line in found.notes:
        print_line(line)


def table_json(table: ErrorTable) -> dict[str, Any]:
    """An error table as ``--json`` has it: all rows, with what is told of them."""
    rows = [{**asdict(one), "abar": one.abar, "verdict": one.verdict()} for one in table.levels]
    return {
        **table.identity,
        "images": table.images,
        "source": table.source,
        "settings": table.settings,
        "levels": rows,
    }


def print_errors(table: ErrorTable) -> None:
    """A table of levels; of neighbours with one verdict the first and the last, and how many are between."""
    from noisewright.cli import terminal

    rows: list[list[str]] = []
    for verdict, alike in groupby(table.levels, key=lambda one: one.verdict()):
        some = list(alike)
        cells = [_error_cells(one) for one in some]
        between = len(some) - 2
        rows += (
            [cells[0], ["", "", "", "", "", f"({between} more levels)", "", "", verdict], cells[-1]]
            if (between > 1)
            else cells
        )
    headers = ["t", "s", "abar", "E", "s.e.", "bias (s.e.)", "skew (s.e.)", "kurtosis (s.e.)", "zero-mean Gaussian?"]
    terminal.out().print(terminal.table(headers, rows, right=range(5)))
    odd = sum(one.departs for one in table.levels)
    print_line(
        f"{terminal.plural(table.images, 'image')} ({table.source}); the error departs from a zero-mean Gaussian "
        f"at {odd} of {len(table.levels)} levels; --json has every level"
    )


def _error_cells(one: Any) -> list[str]:
    return [
        f"{one.t:.0f}", f"{one.s:.4g}", f"{one.abar:.4g}", f"{one.mean_square:.4g}", f"{one.mean_square_se:.1g}",
        f"{one.bias:+.4f} ({one.bias_se:.4f})", f"{one.skew:+.2f} ({one.skew_se:.2f})",
        f"{one.kurtosis:+.2f} ({one.kurtosis_se:.2f})", one.verdict(),
    ]  # fmt: skip


def print_schedule(found: FittedSchedule, file: Path, as_json: bool) -> None:
    """A schedule for people, or as the JSON of its file."""
    from noisewright.cli import terminal

    if as_json:
        terminal.print_json({"file": str(file), **found.to_json()})
        return
    rows = _level_rows(found)
    headers = ["#", "t", "alpha", "sigma", "s", "half log-SNR", "noise"]
    terminal.out().print(terminal.table(headers, rows, right=range(6)))
    settings = [(key, value) for key, value in found.made.items() if value is not None and key not in PROMPTS]
    about = [
        ("model", found.identity.get("model")), ("solver", f"{found.solver}, {found.schedule.steps} steps"),
        ("made", ", ".join(f"{key} {_text(value)}" for key, value in settings)),
        *((name.partition("_")[0], _prompts_text(found.made[name])) for name in PROMPTS if name in found.made),
        ("figures", ", ".join(f"{key} {_text(value)}" for key, value in found.figures.items()) or "none"),
        ("file", file),
    ]  # fmt: skip
    for name, text in about:
        print_line(f"{name:<9}{clean(text, 3000)}")
    for name, values in found.diffusers.items():
        print_line(f"{name:<10}= [{', '.join(f'{value:.6g}' for value in values)}]")


def _level_rows(found: FittedSchedule) -> list[list[str]]:
    """A row a level; of many the first and the last."""
    one = found.schedule
    pairs = list(zip(one.alpha, one.sigma, strict=True))
    rows = []
    for n, (alpha, sigma) in enumerate(pairs):
        log = -math.log(sigma / alpha) if alpha > 0 and sigma > 0 else math.nan
        rows.append([
            str(n), f"{one.t[n]:.1f}" if n < one.steps else "", f"{alpha:.5f}", f"{sigma:.5f}",
            f"{sigma / alpha:.5g}" if alpha > 0 else "inf", "" if math.isnan(log) else f"{log:+.3f}",
            _bar(alpha, sigma),
        ])  # fmt: skip
    if len(rows) <= MOST_ROWS:
        return rows
    left_out = f"({len(rows) - FIRST - LAST} more)"
    return [*rows[:FIRST], ["", "", "", "", "", "", left_out], *rows[-LAST:]]


def _bar(alpha: float, sigma: float, width: int = 40) -> str:
    """The share of noise, sigma / (alpha + sigma), as a bar."""
    mark = "█" if (stream().encoding or "").lower().startswith("utf") else "#"
    return mark * max(1, round(width * sigma / (alpha + sigma))) if sigma > 0 else ""


def _prompts_text(prompts: Any) -> str:
    """How many prompts there are, and the first; a file lists a few, and of many their number and a hash."""
    if isinstance(prompts, dict):
        return f"{prompts.get('count')} (not listed in the file)"
    return (
        f"{len(prompts)}: {shortened([str(one) for one in prompts])}" if isinstance(prompts, Sequence) else str(prompts)
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_text(one)}" for key, one in value.items()) + ")"
    return str(value)
