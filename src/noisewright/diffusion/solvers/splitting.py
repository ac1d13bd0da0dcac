"""Splitting guidance off: LTSP and STSP (Wizadwongsa and Suwajanakorn 2023, arXiv 2301.11558).

Under classifier-free guidance the noise is ``u + w (c - u)``: that without the prompt, and the guidance g. The equation
``d(x/alpha)/ds = u + g``, s = sigma/alpha, is split: [A] without guidance, by the linear multistep method of PNDM with
four noises; [B] guidance alone, by Euler's method.

- ``ltsp`` (Lie-Trotter, algorithm 1): A over the whole step, then B over the whole step. Two evaluations a step.
- ``stsp`` (Strang, algorithm 2): B over half of it, A, B over the other half. Three evaluations a step.

The weights of A are PNDM's, made for even steps; on uneven ones A is of order 1, as both methods are on any.

Guidance after A is asked at the level that A led to. Each evaluation is one of the guided model, of which one part is
used: they are counted as such. The last step, which leads to a level that the network cannot be asked at, and one from
pure noise are plain guided steps of one evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.base import Stages, level
from noisewright.diffusion.solvers.ddim import transition
from noisewright.diffusion.solvers.history import kept, moved, usable
from noisewright.diffusion.solvers.pndm import mean_noise

TERMS = 4


@dataclass(frozen=True)
class Splitting:
    """LTSP or STSP.

    Attributes:
        strang: whether B is halved around A.
        name: as in the registry.
    """

    strang: bool = False
    name: str = "ltsp"
    stochastic: bool = False
    memory: int = TERMS - 1
    splits: bool = True

    @property
    def nfe_per_step(self) -> int:
        return 3 if self.strang else 2

    def levels_asked(self, schedule: Schedule, index: int) -> tuple[Level, ...]:
        here = level(schedule, index)
        if here.alpha <= 0 or index + 1 == schedule.steps:
            return (here,)
        return (*(here,) * (self.nfe_per_step - 1), level(schedule, index + 1))

    def stages(self, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
        found = yield x
        if len(self.levels_asked(schedule, index)) == 1:
            return transition(schedule, index, index + 1, found, 0, None), []
        part = 1.0
        if self.strang:
            part = 0.5
            x = x + part * _length(schedule, index, index) * _guidance(found)
            found = yield x
        past = usable(state, schedule, index)
        noises = [_plain(found).noise, *past][:TERMS]
        after = moved(x, mean_noise(noises), schedule, index, index + 1)
        found = yield after
        after = after + part * _length(schedule, index, index + 1) * _guidance(found)
        return after, kept(noises[0], past, self.memory)


def _length(schedule: Schedule, index: int, at: int) -> float:
    """The step's length in s, in the units of the states at level ``at``."""
    here, there = (schedule.sigma[n] / schedule.alpha[n] for n in (index, index + 1))
    return schedule.alpha[at] * (there - here)


def _plain(found: Estimate) -> Estimate:
    if found.plain is None:
        raise ValueError("expected predictions with and without guidance for a splitting solver, got the guided one")
    return found.plain


def _guidance(found: Estimate) -> Tensor:
    return found.noise - _plain(found).noise
