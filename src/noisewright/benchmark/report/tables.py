"""The tables of a report, from what was compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from noisewright.benchmark.compared import Compared, Difference, Interval, Point
from noisewright.benchmark.report.bars import interval_bar, interval_scale
from noisewright.benchmark.report.blocks import Block, Entry, Folded, Said, Table
from noisewright.benchmark.report.numbers import (
    NOTHING,
    chance,
    common_baseline,
    cost_text,
    mark_of,
    number,
    places_of,
    role_of,
    share,
    signed,
    span,
    titled,
)

MOST_ROWS = 200
"""Points in a table; the rows of all of them are in ``cells.csv``."""

MOST_CATEGORIES = 24
MOST_FAILURES = 30
OPTIMISED = "†"
"""Marks a score that the search optimised at this point and not at all points."""


def left_out(rows: Sequence[object], what: str = "points", most: int = MOST_ROWS) -> list[Block]:
    """A sentence about what a table has no row for."""
    more = len(rows) - most
    return [Said(f"{more} more {what} are left out here; cells.csv has them all.", faint=True)] if more > 0 else []


def named(compared: Compared, point: Point) -> Entry:
    """A row's name: its place in the grid is what it is sorted by."""
    reference = any(one.reference == point.number for one in compared.points)
    return Entry(point.label or compared.title, float(point.number), "(reference)" if reference else "")


# Final scores


def score_table(compared: Compared, scores: Sequence[str]) -> list[Block]:
    """A row for each point, a column for each score: the mean of the best, its interval, and whether it stands."""
    places = {score: places_of(point.scores[score].best for point in compared.points if score in point.scores)
              for score in scores}  # fmt: skip
    costs = [name for name in ("nfe", "seconds") if any(name in point.costs for point in compared.points)]
    names = [titled(compared, score) for score in scores]
    heads = ("", names[0], "", *names[1:], *({"nfe": "NFE", "seconds": "seconds"}[name] for name in costs), "pairs")
    rows = []
    plain = {score: common_baseline(compared, score) for score in scores}
    bars = _bars(compared, scores[0], plain[scores[0]])
    if any(plain.values()):
        cells = [_mean(plain[score], places[score]) for score in scores]
        rows.append((Entry("plain image (baseline)", -1.0), cells[0], Entry("", drawing=bars[-1]), *cells[1:],
                     *(Entry("") for _ in costs), Entry("")))  # fmt: skip
    for point in compared.points[:MOST_ROWS]:
        cells = [_score(compared, point, score, places[score]) for score in scores]
        spent = [Entry(cost_text(name, point.costs.get(name)), _cost(point, name)) for name in costs]
        rows.append((named(compared, point), cells[0], Entry("", drawing=bars[point.number]), *cells[1:], *spent,
                     Entry(str(point.compared), point.compared)))  # fmt: skip
    shaded = frozenset({0} if any(plain.values()) else ())
    return [Table(heads, tuple(rows), shaded=shaded), *left_out(compared.points)]


def _bars(compared: Compared, score: str, plain: Interval | None) -> dict[int, str]:
    """The intervals of the first score as pictures, by the point's number; of the plain image as -1."""
    found = {point.number: point.scores[score] for point in compared.points if score in point.scores}
    means = {number_: one.best for number_, one in found.items()} | ({} if plain is None else {-1: plain})
    scale = interval_scale([end for one in means.values() for end in (one.mean, one.low, one.high)])
    level = None if plain is None else plain.mean
    if not any(math.isfinite(one.low) for one in means.values()):
        means = {}
    bars = {number_: interval_bar(scale, one.mean, one.low, one.high, zero=level,
                                  strong=number_ in found and bool(mark_of(found[number_].gain)))
            for number_, one in means.items()}  # fmt: skip
    return {number_: bars.get(number_, "") for number_ in (-1, *(point.number for point in compared.points))}


def _mean(interval: Interval | None, places: int) -> Entry:
    if interval is None:
        return Entry(NOTHING)
    return Entry(number(interval.mean, places), interval.mean, span(interval, places))


def _score(compared: Compared, point: Point, score: str, places: int) -> Entry:
    measured = point.scores.get(score)
    if measured is None:
        return Entry(NOTHING)
    several = role_of(compared, score) == "verifier or judge"
    mark = mark_of(measured.gain) + (OPTIMISED if several and measured.role == "verifier" else "")
    best = measured.best
    return Entry(number(best.mean, places), best.mean, span(best, places), mark)


def _cost(point: Point, name: str) -> float:
    return point.costs[name].best.mean if name in point.costs else math.nan


# Differences


def difference_blocks(compared: Compared, scores: Sequence[str], *, to: str) -> list[Block]:
    """A table for each score, all but the first folded in.

    Args:
        compared: what.
        scores: in order.
        to: ``gain`` for differences to the plain image, ``against`` for those to the reference.
    """
    tables: list[Block] = []
    for score in scores:
        found = [(point, one) for point in compared.points if (one := _difference(point, score, to)) is not None]
        if not found:
            continue
        parts = (_differences(compared, found), *left_out(found))
        if tables:
            tables.append(Folded(titled(compared, score), parts))
        else:
            tables += [Said(titled(compared, score)), *parts]
    return tables


def _difference(point: Point, score: str, to: str) -> Difference | None:
    if score not in point.scores:
        return None
    return point.scores[score].gain if to == "gain" else point.scores[score].against


def _differences(compared: Compared, found: Sequence[tuple[Point, Difference]]) -> Table:
    places = places_of(one.interval for _, one in found)
    ends = [end for _, one in found for end in (one.low, one.high, one.mean)]
    scale = interval_scale([*ends, 0.0])
    heads = ("", "difference", "95 % interval", "", "higher in", "pairs", "p", "p after Holm")
    rows = []
    for point, one in found[:MOST_ROWS]:
        bar = interval_bar(scale, one.mean, one.low, one.high, zero=0.0, strong=one.stands)
        interval = span(one.interval, places, sign=True) or NOTHING
        rows.append((
            named(compared, point), Entry(signed(one.mean, places), one.mean, mark=mark_of(one)),
            Entry(interval, one.low), Entry("", drawing=bar), Entry(share(one.higher), one.higher),
            Entry(str(one.n), one.n), Entry(chance(one.p), one.p), Entry(chance(one.adjusted), one.adjusted),
        ))  # fmt: skip
    return Table(heads, tuple(rows))


# Costs, categories, failures


def cost_table(compared: Compared) -> list[Block]:
    """What each point cost, how different its best candidates are, and why its cells stopped."""
    rows = []
    for point in compared.points[:MOST_ROWS]:
        stopped = ", ".join(f"{why} ({count})" for why, count in point.stopped.items())
        rows.append((
            named(compared, point), *(Entry(cost_text(name, point.costs.get(name)), _cost(point, name))
                                      for name in ("images", "nfe", "seconds", "diversity")),
            Entry(str(point.done), point.done), Entry(str(point.failed), point.failed),
            Entry(str(point.shared), point.shared), Entry(stopped),
        ))  # fmt: skip
    heads = ("", "images", "NFE", "seconds", "diversity", "cells done", "failed", "shared", "stopped by")
    return [Table(heads, tuple(rows), texts=frozenset({8})), *left_out(compared.points)]


def category_blocks(compared: Compared, scores: Sequence[str]) -> list[Block]:
    """Gains by category, a table for each score, all but the first folded in."""
    tables: list[Block] = []
    categories = compared.categories[:MOST_CATEGORIES]
    for score in scores if categories else ():
        points = [point for point in compared.points if any(score in one for one in point.categories.values())]
        if not points:
            continue
        places = places_of(one[score].gain for point in points for one in point.categories.values() if score in one)
        rows = tuple((named(compared, point), *(_in_category(point, one, score, places) for one in categories))
                     for point in points[:MOST_ROWS])  # fmt: skip
        parts = (Table(("", *(_counted(points, category, score) for category in categories)), rows),
                 *left_out(points), *left_out(compared.categories, "categories", MOST_CATEGORIES))  # fmt: skip
        if tables:
            tables.append(Folded(titled(compared, score), parts))
        else:
            tables += [Said(f"Gain of {titled(compared, score)} over the plain image"), *parts]
    return tables


def _counted(points: Sequence[Point], category: str, score: str) -> str:
    count = max((point.categories[category][score].n for point in points
                 if score in point.categories.get(category, {})), default=0)  # fmt: skip
    return f"{category} ({count})"


def _in_category(point: Point, category: str, score: str, places: int) -> Entry:
    one = point.categories.get(category, {}).get(score)
    if one is None:
        return Entry(NOTHING)
    return Entry(signed(one.gain.mean, places), one.gain.mean, span(one.gain, places, sign=True))


def failure_table(compared: Compared) -> list[Block]:
    """What failed, how often, and where."""
    if not compared.failures:
        return []
    rows = []
    for one in compared.failures[:MOST_FAILURES]:
        where = "; ".join(compared.points[number].label or compared.title for number in one.points[:4])
        where += f" and {len(one.points) - 4} more points" if len(one.points) > 4 else ""
        rows.append((Entry(one.error), Entry(str(one.cells), one.cells), Entry(where), Entry(one.prompt)))
    table = Table(("error", "cells", "points", "first prompt"), tuple(rows), texts=frozenset({2, 3}))
    return [table, *left_out(compared.failures, "errors", MOST_FAILURES)]


def optimised_table(compared: Compared) -> list[Block]:
    """Each verifier against each judge at the last point of each curve, in standard deviations of plain images."""
    rows = []
    for number_, one in enumerate(compared.over_optimised):
        if not one.points:
            continue
        last = one.points[-1]
        where = {"baseline": "verifier up, judge down: against the plain image",
                 "before": "verifier up, judge down: from the point before"}  # fmt: skip
        marked = [f"{compared.points[spot.point].label}: {where[spot.since]}" for spot in one.marked if spot.since]
        rows.append((
            Entry(one.curve or compared.title, float(number_)), Entry(one.verifier), Entry(one.judge),
            Entry(signed(last.optimised.mean, 2), last.optimised.mean, span(last.optimised, 2, sign=True)),
            Entry(signed(last.judged.mean, 2), last.judged.mean, span(last.judged, 2, sign=True)),
            Entry("; ".join(marked[:4]) or "not seen"),
        ))  # fmt: skip
    if not rows:
        return []
    heads = ("", "verifier", "judge", "gain of the verifier", "gain of the judge", "over-optimised")
    return [Table(heads, tuple(rows[:MOST_ROWS]), texts=frozenset({1, 2, 5})), *left_out(rows, "rows")]
