"""Heun's method: a step, a look where it led, and the mean of both slopes (Karras et al. 2022, algorithm 1, no churn).

Two evaluations a step, one in the last. On VP levels the slope is that of x/alpha against sigma/alpha (the noise), as
in k-diffusion; on the straight path of flow models it is the velocity, as in flow-matching Heun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.base import Stages, level
from noisewright.diffusion.solvers.ddim import transition
from noisewright.diffusion.solvers.history import moved


@dataclass(frozen=True)
class Heun:
    """Heun's method; second order, without memory.

    Attributes:
        name: as in the registry.
    """

    name: str = "heun"
    nfe_per_step: int = 2
    stochastic: bool = False
    memory: int = 0

    def levels_asked(self, schedule: Schedule, index: int) -> tuple[Level, ...]:
        here = level(schedule, index)
        if index + 1 == schedule.steps or (here.alpha <= 0 and not schedule.straight):
            return (here,)
        return (here, level(schedule, index + 1))

    def stages(self, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
        first = yield x
        after = transition(schedule, index, index + 1, first, 0, None)
        if len(self.levels_asked(schedule, index)) == 1:
            return after, None
        second = yield after
        if schedule.straight:
            length = schedule.sigma[index + 1] - schedule.sigma[index]
            return x + length * (_velocity(first) + _velocity(second)) / 2, None
        return moved(x, (first.noise + second.noise) / 2, schedule, index, index + 1), None


def _velocity(found: Estimate) -> Tensor:
    return found.noise - found.clean
