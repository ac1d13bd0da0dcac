"""Points along an axis: the lines of plots, and where an optimised score rises while a judge falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from noisewright.benchmark.compared import Curve, Interval, OptimisedPoint, OverOptimised, Point
from noisewright.benchmark.gathered import Gathered, columns_of, minus
from noisewright.benchmark.spec import Spec


def curves_of(spec: Spec, labels: Sequence[Mapping[str, str]], varied: Sequence[str]) -> tuple[Curve, ...]:
    """The points along ``spec.across``, which keep the order of the axis."""
    if spec.across not in {axis.name for axis in spec.axes}:
        return ()
    lines: dict[tuple[str, ...], list[int]] = {}
    others = [axis.name for axis in spec.axes if axis.name != spec.across]
    for number, one in enumerate(labels):
        lines.setdefault(tuple(one[name] for name in others), []).append(number)
    shown = [place for place, name in enumerate(others) if name in varied]
    return tuple(
        Curve(", ".join(of[place] for place in shown) or "all", dict(zip(others, of, strict=True)), tuple(points))
        for of, points in lines.items()
    )


def over_optimised(kept: Gathered, points: Sequence[Point], curves: Sequence[Curve]) -> tuple[OverOptimised, ...]:
    """Each verifier against each judge along each curve, or at each point where there is none."""
    lines = [(one.label, one.points) for one in curves] or [(one.label, (one.number,)) for one in points]
    steps = [(one, two) for _, line in lines for one, two in pairwise(line)]
    gains = {name: minus(values, kept.baseline[name]) for name, values in kept.best.items()}
    before, after = ([step[side] for step in steps] for side in range(2))
    blocks: dict[Any, np.ndarray] = {name: minus(of[:, after], of[:, before]) for name, of in gains.items()}
    changes = columns_of(blocks, kept)
    place_of = {step: place for place, step in enumerate(steps)}

    def change(name: str, step: tuple[int, int]) -> Interval:
        return changes[name].interval(place_of[step])

    found = []
    for label, line in lines:
        there = [number for number in line if points[number].compared]
        for verifier in (name for name in kept.best if _all_are(points, there, name, "verifier")):
            for judge in (name for name in kept.best if _all_are(points, there, name, "judge")):
                spreads = [_spread(kept.baseline[name][:, there]) for name in (verifier, judge)]
                shown = []
                for place, number in enumerate(there):
                    up, down = (_gain(points[number], name) for name in (verifier, judge))
                    step = (there[place - 1], number)
                    since = None
                    if place and step in place_of and _apart(change(verifier, step), change(judge, step)):
                        since = "before"
                    if _apart(up, down):
                        since = "baseline"
                    optimised, judged = (_scaled(one, by) for one, by in zip((up, down), spreads, strict=True))
                    shown.append(OptimisedPoint(number, optimised, judged, since))
                found.append(OverOptimised(label, verifier, judge, tuple(shown)))
    return tuple(found)


def _all_are(points: Sequence[Point], there: Sequence[int], name: str, role: str) -> bool:
    return bool(there) and all(name in points[k].scores and points[k].scores[name].role == role for k in there)


def _gain(point: Point, name: str) -> Interval:
    gain = point.scores[name].gain
    return Interval(*[float("nan")] * 3) if gain is None else gain.interval


def _apart(up: Interval, down: Interval) -> bool:
    """Whether one rises and the other falls, both for sure."""
    return up.low > 0 and down.high < 0


def _spread(baseline: np.ndarray) -> float:
    """The standard deviation of a score over prompts and seeds, pooled over points; NaN where there is none."""
    variances = [column[np.isfinite(column)].var(ddof=1) for column in baseline.T if np.isfinite(column).sum() > 1]
    return float(np.sqrt(np.mean(variances))) if variances and np.mean(variances) > 0 else float("nan")


def _scaled(one: Interval, by: float) -> Interval:
    return Interval(one.mean / by, one.low / by, one.high / by)
