"""Schedules tuned directly on a metric, with CMA-ES on a few numbers (Hansen 2016), on noises of their own.

The numbers bend a schedule in ln s: the logarithms of its gaps get a polynomial of the index added (Legendre's, of the
first degrees), and both ends may move. However many steps there are, there are at most six numbers, so that a few
hundred evaluations on a few dozen images will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cmaes import CMA

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import AnySolver
from noisewright.outside.bounds import MOST_EVALUATIONS, at_most
from noisewright.trajectory.kept import Kept
from noisewright.trajectory.metrics import Metric, Subject, groups_of, measured
from noisewright.trajectory.path import CLOSE, ModelPath, ending_with
from noisewright.trajectory.vrg import Fitted

DEGREES = 4
WORST = 1e30
"""What CMA-ES is told of a schedule without a value."""

ENDS = 0.5
"""Standard deviation, in ln s, by which the ends move where a number is one."""


class Interrupted(KeyboardInterrupt):
    """A search that was stopped.

    Attributes:
        best: what it had by then.
    """

    def __init__(self, best: Fitted) -> None:
        super().__init__("interrupted")
        self.best = best


@dataclass(frozen=True)
class Bend:
    """The family of schedules around one.

    Attributes:
        path: the model's.
        levels: of the schedule that all numbers zero stand for, noisiest first; at least 2.
        free_start: whether the noisiest level may move.
    """

    path: ModelPath
    levels: tuple[float, ...]
    free_start: bool = True

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError(f"expected a schedule of at least 2 steps to search around, got {len(self.levels)}")

    @property
    def size(self) -> int:
        """How many numbers there are: up to four bends, the clean end, the start."""
        return min(DEGREES, len(self.levels) - 2) + 1 + self.free_start

    def __call__(self, numbers: Sequence[float]) -> Schedule:
        """The schedule of ``size`` numbers; zeros give the first one back, any numbers a valid one."""
        logs = np.log(np.array(self.levels))
        gaps = np.log(-np.diff(logs))
        bends = self.size - 1 - self.free_start
        at = np.linspace(-1, 1, len(gaps))
        curve = np.polynomial.legendre.legval(at, [0.0, *numbers[:bends]])
        shares = np.exp(gaps + np.clip(curve, -6, 6))
        low, high = math.log(max(self.path.low, self.path.end * (1 + CLOSE))), math.log(self.path.high)
        first = logs[0] - ENDS * abs(float(numbers[bends + 1])) if self.free_start else logs[0]
        last = logs[-1] + ENDS * float(numbers[bends])
        middle = 0.5 * (logs[0] + logs[-1])
        first, last = min(max(first, middle + 0.1), high), max(min(last, middle - 0.1), low)
        inner = first + (last - first) * np.cumsum(shares)[:-1] / shares.sum()
        return self.path.schedule([math.exp(one) for one in (first, *inner, last)])


def tune(
    schedule: Schedule,
    path: ModelPath,
    solver: AnySolver,
    metric: Metric,
    tuning: Sequence[Subject],
    reporting: Sequence[Subject],
    *,
    evaluations: int = 120,
    sigma: float = 0.4,
    seed: int = 0,
    free_start: bool = True,
    progress: Callable[[int, float], None] | None = None,
    kept: Kept | None = None,
) -> Fitted:
    """Search for the schedule with the best metric on ``tuning``; what it gains is told on ``reporting``.

    The end stays where ``schedule`` has it; the levels before it move.

    Cost: ``evaluations * K * noises`` guided calls (times the solver's calls a step), and the metric's.

    Args:
        schedule: where to begin, K >= 2 steps.
        path: the model's; its own end counts for nothing.
        solver: deterministic.
        metric: what to improve.
        tuning: noises to tune on.
        reporting: others; none of them may be among ``tuning``.
        evaluations: schedules tried at most.
        sigma: the first deviation of the numbers.
        seed: of the search.
        free_start: let the noisiest level move.
        progress: called with the number of schedules tried and the best value.
        kept: where values are kept; the same call, made again after it was killed, goes through them to where it was.

    Raises:
        ValueError: where a noise is in both sets, or where the start has no value for some image.
        Interrupted: on Ctrl-C, with the best so far.
    """
    at_most(MOST_EVALUATIONS, evaluations=evaluations)
    _check_apart(tuning, reporting)
    path = ending_with(path, schedule)
    bend = Bend(path, tuple(path.levels_of(schedule)), free_start)

    def value(one: Schedule) -> float:
        rows = measured(one, solver, tuning, [metric], kept)[metric.name]
        lacking = int((~torch.isfinite(rows.reshape(len(rows), -1)).all(1)).sum())
        if lacking and one is schedule:
            raise ValueError(
                f"expected a value of {metric.name} for every image of the start, got none for {lacking} of {len(rows)}"
            )
        return math.nan if lacking else metric.summary(rows)  # what fails on some images does not win by the others

    climb = Climb(bend, schedule, value, metric.lower, progress)
    try:
        climb.run(evaluations, CMA(mean=np.zeros(bend.size), sigma=sigma, seed=seed % 2**32))
    except KeyboardInterrupt:
        raise Interrupted(Fitted(climb.best, {"metric": metric.name, **climb.figures, "interrupted": True})) from None
    first, last = (measured(one, solver, reporting, [metric], kept)[metric.name] for one in (schedule, climb.best))
    figures = {
        "metric": metric.name, **climb.figures, "reported": [metric.summary(first), metric.summary(last)],
        "reported_change_interval": list(metric.interval(last, first, groups_of(reporting))),
    }  # fmt: skip
    return Fitted(climb.best, {name: _finite(one) for name, one in figures.items()})


class Climb:
    """CMA-ES over the numbers of a family of schedules.

    Args:
        bend: the family.
        start: the schedule of all numbers zero, whose value is taken at once.
        value: of a schedule; NaN counts as worst.
        lower: whether less is better.
        progress: called with the number of schedules tried and the best value.

    Attributes:
        best: the schedule with the best value so far.
    """

    def __init__(
        self,
        bend: Bend,
        start: Schedule,
        value: Callable[[Schedule], float],
        lower: bool,
        progress: Callable[[int, float], None] | None,
    ) -> None:
        self.bend, self.value, self.sign, self.progress = bend, value, 1 if lower else -1, progress
        self.best = start
        self.before = self.reached = value(start)
        self.tried = 1

    def run(self, evaluations: int, search: CMA) -> None:
        """Try schedules until there were ``evaluations``; populations that are cut short are not told."""
        while self.tried < evaluations:
            size = min(search.population_size, evaluations - self.tried)
            points = [search.ask() for _ in range(size)]
            told = [(point, self._tried(self.bend(point))) for point in points]
            if size == search.population_size:
                search.tell(told)

    def _tried(self, one: Schedule) -> float:
        """What the search is told: less is better."""
        found = self.value(one)
        self.tried += 1
        if math.isfinite(found) and self.sign * found < self.sign * self.reached:
            self.reached, self.best = found, one
        if self.progress is not None:
            self.progress(self.tried, self.reached)
        return self.sign * found if math.isfinite(found) else WORST

    @property
    def figures(self) -> dict[str, Any]:
        return {"evaluations": self.tried, "tuning": [self.before, self.reached]}


def _check_apart(tuning: Sequence[Subject], reporting: Sequence[Subject]) -> None:
    for prompt in sorted({one.prompt for one in tuning} & {one.prompt for one in reporting}):
        used = [{n for one in some if one.prompt == prompt for n in one.seeds} for some in (tuning, reporting)]
        if used[0] & used[1]:
            raise ValueError(f"expected other seeds to report on than to tune on, got {min(used[0] & used[1])} in both")


def _finite(value: Any) -> Any:
    """``value`` with None for numbers that JSON has not."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
