"""The path of a model: which time, alpha and sigma belong to a level ``s = sigma / alpha``, and how far it goes.

A schedule is K levels of this line and the level it ends at. The model's clock (:mod:`~.clock`) says which
time a level has.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from noisewright.diffusion.clock import Clock, Level, vp_level
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import Rule, rule_levels
from noisewright.diffusion.solvers import AnySolver, Ddim
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.optional import TakesLevels
from noisewright.samplers.protocol import Sampler

CLOSE = 1e-6
"""Relative, between a level and the end of the range that it is meant to be."""

ROUNDING = 1e-4
"""Relative, by which the arithmetic of schedulers in float32 may take their noisiest level out of the range."""


@dataclass(frozen=True)
class ModelPath:
    """A model's line of noise levels.

    Attributes:
        low: the cleanest level s that the network is asked at.
        high: the noisiest finite one; of a flow model it stands for pure noise.
        end: the level s that schedules end at, where the network is not asked; often 0.
        clock: the model's times.
    """

    low: float
    high: float
    end: float
    clock: Clock

    @property
    def is_flow(self) -> bool:
        return self.clock.kind == "flow"

    @property
    def from_pure_noise(self) -> bool:
        """Whether the model has levels above :attr:`high`, up to alpha = 0, for which that one stands."""
        return self.is_flow or math.isinf(self.clock.levels[-1])

    def time(self, s: float) -> float:
        """The network's time at a level."""
        return self.clock.of(math.inf if self.is_flow and s >= self.high * (1 - CLOSE) else s).t

    def level(self, time: float) -> float:
        """The level at a time; the inverse of :meth:`time`."""
        return self.s_of(self.clock.at(min(max(time, 0.0), self.clock.last)))

    def s_of(self, level: Level) -> float:
        """``sigma / alpha``; at pure noise the noisiest finite level."""
        return level.sigma / level.alpha if level.alpha * self.high > level.sigma else self.high

    def alpha_sigma(self, s: float) -> tuple[float, float]:
        """The scales of image and noise at a level; a flow's highest level is pure noise."""
        if self.is_flow:
            return (0.0, 1.0) if s >= self.high * (1 - CLOSE) else (1 / (1 + s), s / (1 + s))
        scale = 1 / math.sqrt(1 + s * s)
        return scale, s * scale

    def schedule(self, levels: Sequence[float]) -> Schedule:
        """K levels s, noisiest first, as a schedule that ends where this model's do.

        Its ``start`` is the deviation that a state of unit data has at its first level: 1 on VP paths.

        Raises:
            ValueError: where they do not fall, are too few, or outside the model's range.
        """
        self.check(levels)
        held = [min(max(float(s), self.low), self.high) for s in levels]
        pairs = [self.alpha_sigma(s) for s in (*held, self.end)]
        alpha, sigma = zip(*pairs, strict=True)
        return Schedule(tuple(self.time(s) for s in held), alpha, sigma, math.hypot(alpha[0], sigma[0]), self.clock)

    def check(self, levels: Sequence[float]) -> None:
        """Refuse levels that this model has not.

        Raises:
            ValueError: in one line.
        """
        if not len(levels):
            raise ValueError("expected at least one noise level, got none")
        for number, (one, other) in enumerate(zip(levels, [*levels[1:], self.end], strict=True)):
            if math.isnan(one):
                raise ValueError(f"expected finite noise levels, got {one} as number {number + 1}")
            if other >= one:
                raise ValueError(f"expected falling noise levels, got s = {one:.6g} followed by {other:.6g}")
            if not self.low * (1 - CLOSE) <= one <= self.high * (1 + CLOSE):
                nearest = self.low if one < self.low else self.high
                raise ValueError(
                    f"expected noise levels s in [{self.low:.6g}, {self.high:.6g}], the model's range, got {one:.6g} "
                    f"as number {number + 1}; the nearest is {nearest:.6g}"
                )

    def levels_of(self, schedule: Schedule) -> list[float]:
        """The levels s of a schedule's network calls, within this model's range.

        Raises:
            ValueError: as :meth:`check` does.
        """
        found = []
        for alpha, sigma in zip(schedule.alpha[:-1], schedule.sigma[:-1], strict=True):
            s = sigma / alpha if alpha > 0 else math.inf
            if s > self.high and (self.from_pure_noise or s <= self.high * (1 + ROUNDING)):
                s = self.high
            found.append(self.low if abs(s / self.low - 1) < CLOSE else s)
        self.check(found)
        return found


class AngleClock(Clock):
    """The times of the exact VP mixture: s is the tangent of ``pi t / 2000``."""

    @property
    def last(self) -> float:
        return math.atan(self.highest) * 2000 / math.pi

    def at(self, t: float) -> Level:
        return vp_level(t, math.tan(t * math.pi / 2000))

    def of(self, s: float) -> Level:
        return vp_level(math.atan(s) * 2000 / math.pi, s)


def path_of(sampler: Sampler) -> ModelPath:
    """The path of a sampler's model, to the end of its schedule.

    Raises:
        ValueError: on a sampler that tells no path.
    """
    schedule = sampler.schedule
    if schedule.clock is None and isinstance(sampler, TakesLevels) and not getattr(sampler, "solver", None):
        schedule = sampler.with_levels("pipeline", Ddim()).schedule  # native schedulers have coordinates of their own
    end = schedule.sigma[-1] / schedule.alpha[-1]
    clock = schedule.clock
    if clock is None and schedule.straight:
        clock = Clock("flow")
    if clock is not None:
        return ModelPath(clock.lowest, clock.highest, min(end, clock.lowest * (1 - 1e-4)), clock)
    if isinstance(sampler, MixtureSampler):
        top = schedule.sigma[0] / schedule.alpha[0]
        return ModelPath(1e-3, top, min(end, 5e-4), AngleClock("vp", (1e-3, top)))
    raise ValueError(
        f"expected a model whose scheduler tells the time of a noise level, got {sampler.description.get('model')}"
    )


def ending_with(path: ModelPath, schedule: Schedule) -> ModelPath:
    """The same line, to the end of a schedule: what is fitted from a schedule ends where that does.

    Some schedulers have a last step that goes nowhere; its end is taken to be a ten-thousandth lower.
    """
    before, end = (sigma / alpha if alpha > 0 else math.inf
                   for alpha, sigma in zip(schedule.alpha[-2:], schedule.sigma[-2:], strict=True))  # fmt: skip
    return replace(path, end=min(end, before * (1 - ROUNDING)))


def ruled(name: str | Rule, path: ModelPath, steps: int) -> Schedule:
    """The levels of a rule (:mod:`~.schedules`) on a model's path, to the end of that.

    Raises:
        ValueError: as :func:`~.rule_levels` does, or where the levels come below the end.
    """
    return path.schedule([path.s_of(one) for one in rule_levels(name, path.clock, steps)])


def with_schedule(sampler: Sampler, schedule: Schedule, solver: AnySolver) -> Any:
    """The same model, prompt and settings on other levels; the meter is shared."""
    if isinstance(sampler, TakesLevels):
        return sampler.with_levels(schedule, solver)
    other: Any = copy.copy(sampler)
    other.schedule, other.solver = schedule, solver
    return other
