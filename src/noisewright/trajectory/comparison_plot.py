"""The picture of a comparison: a panel a metric, a line a schedule."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noisewright.outside.files import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from noisewright.trajectory.comparison import ComparedSchedule, Comparison

POINT, LINE, FIRST = "#d9480f", "#6a737d", "#1c7ed6"
LONGEST_NAME = 32
"""Characters of a schedule's name in a line; longer ones take two."""

PANEL_INCHES, NAME_INCHES, ROW_INCHES, AROUND_INCHES = 4.6, 2.6, 0.45, 1.6
DPI = 150


def plot(comparison: Comparison, file: str | Path | None = None) -> Figure:
    """Points with their 95 % intervals; the first schedule, which changes are counted from, is a line through all."""
    rows, names = comparison.rows, list(comparison.lower_is_better)
    labels = [_label(row) for row in rows]
    lines = sum(label.count("\n") + 1 for label in labels)
    size = (NAME_INCHES + PANEL_INCHES * len(names), ROW_INCHES * max(lines, 3) + AROUND_INCHES)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        _panel(axes, rows, name)
        axes.set_yticks(range(len(rows)), labels if place == 0 else [""] * len(rows))
        axes.set_title(name, fontsize=11)
        axes.set_xlabel("lower is better" if comparison.lower_is_better[name] else "higher is better")
    figure.supxlabel(textwrap.fill(comparison.notes[0], 30 + 45 * len(names)), fontsize=8, color=LINE)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)  # type: ignore[union-attr]
    if file is not None:
        write_picture(figure, Path(file))
    return figure


def _panel(axes: Axes, rows: list[ComparedSchedule], name: str) -> None:
    for n, row in enumerate(rows):
        found = row.metrics[name]
        axes.plot(found.interval, [n, n], color=LINE, linewidth=2, solid_capstyle="round")
        axes.plot([found.value], [n], "o", color=FIRST if n == 0 else POINT, markersize=8, clip_on=False, zorder=3)
    axes.axvline(rows[0].metrics[name].value, color=FIRST, linewidth=1, linestyle=":", zorder=1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color="#e1e4e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(row: ComparedSchedule) -> str:
    """A file by its own name; long names in two lines."""
    name = Path(row.name).name if row.name.endswith(".json") else row.name
    return textwrap.fill(name, LONGEST_NAME, max_lines=2, placeholder="...")
