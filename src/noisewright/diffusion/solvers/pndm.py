"""PNDM: pseudo numerical methods, Adams-Bashforth on the noise (Liu et al. 2022, arXiv 2202.09778).

The transfer part moves a state along a noise exactly (eq. 11, :func:`~.moved`); the gradient
part is the linear multistep mean of the last noises (eq. 12), as if the steps were even in s. So their order is 4 where
they are, 2 where they are even in ln s, and 1 where neighbouring steps differ much (lengths 1 and 2.5 in turn: a slope
of 1.0, measured): on fitted levels they lose more than solvers whose weights follow the levels. They differ in how they
begin:

- ``pndm-s``: a pseudo improved Euler step, two evaluations (eq. 20). The paper's S-PNDM then uses two noises (``terms =
  2``, eq. 21); four are used here, as in diffusers (``skip_prk_steps``) and latent diffusion's PLMS;
- ``pndm-f``: three pseudo Runge-Kutta steps of four evaluations (eq. 13), at the time halfway; then four noises;
- ``ipndm``: no extra evaluations; one, two, three and then four noises (Zhang and Chen 2023).

A particle that begins its life on the way begins as ``ipndm`` does. The last step cannot ask at the level it leads to
and is a multistep one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.base import Stages, level
from noisewright.diffusion.solvers.ddim import transition
from noisewright.diffusion.solvers.history import between, kept, moved, usable

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest noise first, for one to four of them."""


def mean_noise(noises: list[Tensor]) -> Tensor:
    """The linear multistep mean of one to four noises, newest first."""
    total = ADAMS_BASHFORTH[len(noises) - 1][0] * noises[0]
    for weight, one in zip(ADAMS_BASHFORTH[len(noises) - 1][1:], noises[1:], strict=True):
        total = total + weight * one
    return total


def first_step(schedule: Schedule) -> int:
    """The index of the first step above pure noise."""
    return 0 if schedule.alpha[0] > 0 else 1


def multistep(
    schedule: Schedule, index: int, x: Tensor, found: Estimate, state: Any, terms: int
) -> tuple[Tensor, list[Tensor]]:
    """One linear multistep step; its state is the list of the last noises, newest first."""
    if schedule.alpha[index] <= 0:
        return transition(schedule, index, index + 1, found, 0, None), []
    past = usable(state, schedule, index)
    noises = [found.noise, *past][:terms]
    return moved(x, mean_noise(noises), schedule, index, index + 1), kept(found.noise, past, terms - 1)


@dataclass(frozen=True)
class Ipndm:
    """Improved PNDM; one evaluation a step.

    Attributes:
        name: as in the registry.
    """

    name: str = "ipndm"
    nfe_per_step: int = 1
    stochastic: bool = False
    memory: int = 3

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        return multistep(schedule, index, x, found, state, 4)


@dataclass(frozen=True)
class SPndm:
    """S-PNDM; two evaluations in the first step, then one.

    Attributes:
        terms: noises in the multistep mean; 2 in the paper, 4 in diffusers.
        name: as in the registry.
    """

    terms: int = 4
    name: str = "pndm-s"
    nfe_per_step: int = 2
    stochastic: bool = False

    @property
    def memory(self) -> int:
        return self.terms - 1

    def levels_asked(self, schedule: Schedule, index: int) -> tuple[Level, ...]:
        here = level(schedule, index)
        if index != first_step(schedule) or index + 1 == schedule.steps:
            return (here,)
        return (here, level(schedule, index + 1))

    def stages(self, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
        first = yield x
        if len(self.levels_asked(schedule, index)) == 1:
            return multistep(schedule, index, x, first, state, self.terms)
        second = yield moved(x, first.noise, schedule, index, index + 1)
        mean = (first.noise + second.noise) / 2
        return moved(x, mean, schedule, index, index + 1), kept(first.noise, [], self.terms - 1)


@dataclass(frozen=True)
class FPndm:
    """F-PNDM; four evaluations in each of the first three steps, then one: K steps cost K + 9 evaluations.

    Attributes:
        name: as in the registry.
    """

    name: str = "pndm-f"
    nfe_per_step: int = 4
    stochastic: bool = False
    memory: int = 3

    def levels_asked(self, schedule: Schedule, index: int) -> tuple[Level, ...]:
        here, first = level(schedule, index), first_step(schedule)
        if not first <= index < first + 3 or index + 1 == schedule.steps:
            return (here,)
        middle = schedule.halfway(index)
        return (here, middle, middle, level(schedule, index + 1))

    def stages(self, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
        first = yield x
        levels = [(one.alpha, one.sigma) for one in self.levels_asked(schedule, index)]
        if len(levels) == 1:
            return multistep(schedule, index, x, first, state, 4)
        here, middle, _, there = levels
        second = yield between(x, first.noise, here, middle)
        third = yield between(x, second.noise, here, middle)
        fourth = yield between(x, third.noise, here, there)
        mean = (first.noise + 2 * second.noise + 2 * third.noise + fourth.noise) / 6
        past = usable(state, schedule, index)
        return between(x, mean, here, there), kept(first.noise, past, 3)
