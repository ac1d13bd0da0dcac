"""The plots of a report, from what was compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from noisewright.benchmark.compared import Compared, OverOptimised, Point, Series
from noisewright.benchmark.report import plots
from noisewright.benchmark.report.bars import time_table
from noisewright.benchmark.report.blocks import Block, Drawn, Entry, Folded, Table, markdown_of
from noisewright.benchmark.report.marks import MOST_LINES
from noisewright.benchmark.report.numbers import NOTHING, common_baseline, number, ordered_scores, titled
from noisewright.benchmark.report.tables import left_out

MOST_SCORES = 6
"""Scores that are drawn; the first are seen at once, the others after a click."""

OPEN_SCORES = 2
MOST_CURVES = 9
"""Plots of verifiers against judges."""

MOST_SCATTERED = 60
"""Points without a curve in one plot."""

MOST_BARS = 60
SAME = 1.1
"""Costs are the same where the largest is no more than so many times the smallest."""

AXES = {"nfe": "mean NFE of a run", "seconds": "mean seconds of a run"}
DEVIATIONS = "gain, standard deviations of plain images"


def lines_of(compared: Compared, score: str, cost: str) -> tuple[plots.Line, ...]:
    """A line for each curve; without curves a line for each point, or for each label of an axis, joined to nothing."""
    if compared.curves:
        return tuple(_line(compared, series) for series in compared.series(score, x=cost))
    found = [(point, drawn) for point in compared.points if (drawn := _point(point, score, cost)) is not None]
    if len(found) <= MOST_LINES:
        return tuple(plots.Line(point.label or compared.title, (drawn,)) for point, drawn in found)
    found = found[:MOST_SCATTERED]
    axis = next((name for name in compared.varied if len(compared.axes[name]) <= MOST_LINES), None)
    if axis is None:
        return (plots.Line("each point", tuple(drawn for _, drawn in found), joined=False),)
    groups = [(label, tuple(drawn for point, drawn in found if point.labels[axis] == label))
              for label in compared.axes[axis]]  # fmt: skip
    return tuple(plots.Line(f"{axis} {label}", drawn, joined=False) for label, drawn in groups if drawn)


def _line(compared: Compared, series: Series) -> plots.Line:
    numbers = zip(series.x, series.y, series.low, series.high, series.points, strict=True)
    return plots.Line(series.label or compared.title, tuple(
        plots.Point(x, y, _end(low), _end(high), _along(compared, spot)) for x, y, low, high, spot in numbers
    ))  # fmt: skip


def _end(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _along(compared: Compared, spot: int) -> str:
    return f"{compared.across} {compared.points[spot].labels.get(compared.across or '', '')}"


def _point(point: Point, score: str, cost: str) -> plots.Point | None:
    measured, spent = point.scores.get(score), point.costs.get(cost)
    if measured is None or spent is None or not math.isfinite(measured.best.mean + spent.best.mean):
        return None
    best = measured.best
    return plots.Point(spent.best.mean, best.mean, _end(best.low), _end(best.high), point.label)


def score_plots(compared: Compared) -> list[Block]:
    """Each score against NFE and against seconds."""
    blocks: list[Block] = []
    scores = ordered_scores(compared)
    if not compared.curves and not _costs_differ(compared):
        return []
    for place, score in enumerate(scores[:MOST_SCORES]):
        drawn = [_score_plot(compared, score, cost) for cost in AXES]
        # Of many lines the plots against seconds would take as much room again as those against NFE.
        many = len(drawn[0].lines) > MOST_LINES
        found = plots.plot_figures(drawn[:1] if many else drawn)
        if not found:
            continue
        shown: tuple[Block, ...] = (Drawn(found),)
        if many:
            shown = (*shown, Folded(drawn[1].title, (Drawn(plots.plot_figures(drawn[1:])),)))
        blocks += shown if place < OPEN_SCORES else (Folded(titled(compared, score), shown),)
    return [*blocks, *left_out(scores, "scores", MOST_SCORES)] if blocks else []


def _score_plot(compared: Compared, score: str, cost: str) -> plots.Plot:
    level = common_baseline(compared, score)
    plain = None if level is None else ("plain image (baseline)", level.mean)
    title = f"{score} against {'NFE' if cost == 'nfe' else cost}"
    return plots.Plot(title, AXES[cost], titled(compared, score), lines_of(compared, score, cost), plain)


def _costs_differ(compared: Compared) -> bool:
    """Whether there is something to see along a cost: of equal costs all points stand above each other."""
    for cost in AXES:
        found = [point.costs[cost].best.mean for point in compared.points if cost in point.costs]
        known = [one for one in found if math.isfinite(one)]
        if known and max(known) > SAME * min(known):
            return True
    return False


def optimised_plots(compared: Compared) -> list[Block]:
    """What the search optimised beside what it never saw, along each curve of several points."""
    curves: dict[str, list[OverOptimised]] = {}
    for one in compared.over_optimised:
        if len(one.points) > 1:
            curves.setdefault(one.curve, []).append(one)
    shown = sorted(curves, key=lambda name: (not any(one.marked for one in curves[name]), list(curves).index(name)))
    figures = [plots.single(_optimised(compared, name, curves[name])) for name in shown[:MOST_CURVES]]
    if not figures:
        return []
    blocks: list[Block] = [Drawn(f'<div class="plots">{"".join(figures)}</div>')]
    return [*blocks, *left_out(shown, "curves", MOST_CURVES)]


def _optimised(compared: Compared, name: str, pairs: Sequence[OverOptimised]) -> plots.Plot:
    lines: dict[str, plots.Line] = {}
    for one in pairs:
        for called, judge in ((one.verifier, False), (one.judge, True)):
            drawn = []
            for spot in one.points:
                gain = spot.judged if judge else spot.optimised
                cost = compared.points[spot.point].costs.get("nfe")
                if cost is not None and math.isfinite(gain.mean + cost.best.mean):
                    drawn.append(plots.Point(cost.best.mean, gain.mean, _end(gain.low), _end(gain.high),
                                             _along(compared, spot.point)))  # fmt: skip
            role = f"{called} ({'judge' if judge else 'verifier'})"
            if drawn:
                lines.setdefault(role, plots.Line(role, tuple(drawn), hollow=judge))
    first = sorted(lines.values(), key=lambda line: line.hollow)[:MOST_LINES]
    return plots.Plot(name or compared.title, AXES["nfe"], DEVIATIONS, tuple(first), ("no gain", 0.0))


def diversity_plots(compared: Compared) -> list[Block]:
    """How different the best candidates of a run are, along each curve."""
    lines = []
    for curve in compared.curves:
        drawn = []
        for spot in curve.points:
            costs = compared.points[spot].costs
            if "diversity" in costs and "nfe" in costs:
                y, x = costs["diversity"].best, costs["nfe"].best.mean
                if math.isfinite(y.mean + x):
                    drawn.append(plots.Point(x, y.mean, _end(y.low), _end(y.high), _along(compared, spot)))
        if drawn:
            lines.append(plots.Line(curve.label or compared.title, tuple(drawn)))
    if not any(len(line.points) > 1 for line in lines):
        return []
    name = "distance between the best, in [0, 1]"
    return [Drawn(plots.plot_figures([plots.Plot("Diversity against NFE", AXES["nfe"], name, tuple(lines))]))]


def time_blocks(compared: Compared) -> list[Block]:
    """Bars of seconds by phase; the same as a table where there is no picture."""
    timed = [point for point in compared.points if math.isfinite(point.phases.get("total", math.nan))]
    rows = [(point.label or compared.title, dict(point.phases)) for point in timed[:MOST_BARS]]
    drawn = time_table(rows)
    if not drawn:
        return []
    phases = ("total", "encode", "denoise", "decode", "verify", "other")
    entries = tuple((Entry(label), *(_seconds(parts.get(name, math.nan)) for name in phases)) for label, parts in rows)
    return [Drawn(drawn, markdown_of(Table(("seconds", *phases), entries))), *left_out(timed, most=MOST_BARS)]


def _seconds(value: float) -> Entry:
    return Entry(number(value, 2) if math.isfinite(value) else NOTHING, value)
