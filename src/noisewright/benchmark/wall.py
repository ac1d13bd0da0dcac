"""Which cells are shown: the largest gain, the median and the largest loss of each point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from noisewright.benchmark.compared import Point, WallCell
from noisewright.benchmark.gathered import Gathered, minus
from noisewright.benchmark.rows import CellRow


def wall_of(
    kept: Gathered, rows: Sequence[CellRow], points: Sequence[Point], deciding: str | None
) -> tuple[WallCell, ...]:
    shown = []
    for point in points:
        names = [deciding, *(name for role in ("judge", "verifier", "other") for name in _of_role(point, role))]
        score = next((name for name in names if name in point.scores), None)
        if score is None:
            continue
        gains = minus(kept.best[score][:, point.number], kept.baseline[score][:, point.number])
        order = np.argsort(gains, kind="stable")[: int((~np.isnan(gains)).sum())]
        if not len(order):
            continue
        wanted = {"largest": int(order[-1]), "median": int(order[(len(order) - 1) // 2]), "smallest": int(order[0])}
        for which, pair in wanted.items():
            if pair in [other for name, other in wanted.items() if name != which and _earlier(name, which)]:
                continue
            gain = float(gains[pair])
            shown.append(_wall_cell(rows[kept.places[pair, point.number]], point, _which(which, gain), score, gain))
    return tuple(shown)


def _of_role(point: Point, role: str) -> list[str]:
    return [name for name, one in point.scores.items() if one.role == role]


def _earlier(name: str, which: str) -> bool:
    """Whether one place of the wall is filled before another, where both are the same cell."""
    order = ("largest", "smallest", "median")
    return order.index(name) < order.index(which)


def _which(place: str, gain: float) -> str:
    if place == "median":
        return place
    if gain == 0:
        return "no change"
    return f"{place} gain" if gain > 0 else "smallest loss" if place == "largest" else "largest loss"


def _wall_cell(row: CellRow, point: Point, which: str, score: str, gain: float) -> WallCell:
    return WallCell(
        point.number, which, score, gain, prompt=row["prompt"], number=row["number"], repeat=row["repeat"],
        seed=row["seed"], run=row.get("run"), best=row["best"]["file"], baseline=row["baseline"]["file"],
        best_scores=row["best"]["scores"], baseline_scores=row["baseline"]["scores"],
    )  # fmt: skip
