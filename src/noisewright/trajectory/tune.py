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
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.metrics import Metric, NoiseBatch, groups_of, metric_values
from noisewright.trajectory.path import CLOSE, ModelPath, ending_with
from noisewright.trajectory.progress import Work
from noisewright.trajectory.vrg import Fit

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

    def __init__(self, best: Fit) -> None:
        super().__init__("interrupted")
        self.best = best


@dataclass(frozen=True)
class ScheduleFamily:
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
    tuning: Sequence[NoiseBatch],
    reporting: Sequence[NoiseBatch],
    *,
    evaluations: int = 120,
    sigma: float = 0.4,
    seed: int = 0,
    free_start: bool = True,
    cache: DiskCache | None = None,
    work: Work | None = None,
) -> Fit:
    """Search for the schedule with the best metric on ``tuning``; what it gains is measured on ``reporting``.

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
        cache: where values are kept; the same call, made again after it was killed, goes through them to where it was.
        work: what counts the schedules that were tried, and the images of the report.

    Raises:
        ValueError: where a noise is in both sets, or where the start has no value for some image.
        Interrupted: on Ctrl-C, with the best so far.
    """
    at_most(MOST_EVALUATIONS, evaluations=evaluations)
    _check_apart(tuning, reporting)
    path = ending_with(path, schedule)
    work = work or Work(0, None)
    family = ScheduleFamily(path, tuple(path.levels_of(schedule)), free_start)

    def value(one: Schedule) -> float:
        rows = metric_values(one, solver, tuning, [metric], cache, work.spend)[metric.name]
        lacking = int((~torch.isfinite(rows.reshape(len(rows), -1)).all(1)).sum())
        if lacking and one is schedule:
            raise ValueError(
                f"expected a value of {metric.name} for every image of the start, got none for {lacking} of {len(rows)}"
            )
        return math.nan if lacking else metric.summary(rows)  # what fails on some images does not win by the others

    work.begin("searching", evaluations, "schedules")
    search = LevelSearch(family, schedule, value, metric.lower, lambda best: work.count(note=f"best {best:.4g}"))
    try:
        search.run(evaluations, CMA(mean=np.zeros(family.size), sigma=sigma, seed=seed % 2**32))
    except KeyboardInterrupt:
        raise Interrupted(Fit(search.best, {"metric": metric.name, **search.figures, "interrupted": True})) from None
    work.begin("reporting", 2, "schedules")
    rows = []
    for one in (schedule, search.best):
        rows.append(metric_values(one, solver, reporting, [metric], cache, work.spend)[metric.name])
        work.count()
    first, last = rows
    figures = {
        "metric": metric.name, **search.figures, "reported": [metric.summary(first), metric.summary(last)],
        "reported_change_interval": list(metric.interval(last, first, groups_of(reporting))),
    }  # fmt: skip
    return Fit(search.best, {name: _finite(one) for name, one in figures.items()})


class LevelSearch:
    """CMA-ES over the numbers of a family of schedules.

    Args:
        family: the family.
        start: the schedule of all numbers zero, whose value is taken at once.
        value: of a schedule; NaN counts as worst.
        lower: whether less is better.
        tell: called after each schedule with the best value.

    Attributes:
        best: the schedule with the best value so far.
    """

    def __init__(
        self,
        family: ScheduleFamily,
        start: Schedule,
        value: Callable[[Schedule], float],
        lower: bool,
        tell: Callable[[float], None],
    ) -> None:
        self.family, self.value, self.sign, self.tell = family, value, 1 if lower else -1, tell
        self.best = start
        self.before = self.reached = value(start)
        self.tried = 1
        tell(self.reached)

    def run(self, evaluations: int, optimiser: CMA) -> None:
        """Try schedules until there were ``evaluations``; the optimiser hears nothing of half a population."""
        while self.tried < evaluations:
            size = min(optimiser.population_size, evaluations - self.tried)
            points = [optimiser.ask() for _ in range(size)]
            answers = [(point, self._try(self.family(point))) for point in points]
            if size == optimiser.population_size:
                optimiser.tell(answers)

    def _try(self, one: Schedule) -> float:
        """Its value as the optimiser wants it: less is better."""
        found = self.value(one)
        self.tried += 1
        if math.isfinite(found) and self.sign * found < self.sign * self.reached:
            self.reached, self.best = found, one
        self.tell(self.reached)
        return self.sign * found if math.isfinite(found) else WORST

    @property
    def figures(self) -> dict[str, Any]:
        return {"evaluations": self.tried, "tuning": [self.before, self.reached]}


def _check_apart(tuning: Sequence[NoiseBatch], reporting: Sequence[NoiseBatch]) -> None:
    for prompt in sorted({one.prompt for one in tuning} & {one.prompt for one in reporting}):
        used = [{n for one in some if one.prompt == prompt for n in one.seeds} for some in (tuning, reporting)]
        if used[0] & used[1]:
            raise ValueError(f"expected other seeds to report on than to tune on, got {min(used[0] & used[1])} in both")


def _finite(value: Any) -> Any:
    """``value`` with None for numbers that JSON has not."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
