"""DPM-Solver-2 and -3, singlestep (Lu et al. 2022, arXiv 2206.00927, after algorithms 1 and 2).

The schedule's own levels are the nodes: two (or three) consecutive steps make one block, whose first step is of first
order, its second of second order from the block's beginning, its third of third order. So a step costs one evaluation,
K steps K evaluations, and every index is a level at which particles can branch. On levels that are even in lambda the
nodes lie at halves (thirds), as in the paper. The third order needs that: on levels whose steps in lambda are 1 and 2.5
long in turn, DPM-Solver-3 converges with order 2 (slope 2.2, measured); DPM-Solver-2 keeps its order anywhere.

In a block that began at index i, for the noise e, with ``h = lambda_j - lambda_i`` and ``r = (lambda_m - lambda_i)/h``
of the newest node m:

- ``x_j = alpha_j/alpha_i x_i - sigma_j (e^h - 1) e_i``,
- order 2: ``... - sigma_j (e^h - 1) (e_m - e_i) / (2 r)`` (eq. 3.3),
- order 3: ``... - sigma_j ((e^h - 1)/h - 1) (e_m - e_i) / r`` (eq. 3.4, at r = 2/3).

The middle stage of a triple is the step of order 2 with its ``(e^h - 1)/2``, as in diffusers' singlestep schedulers;
algorithm 2 has ``(e^h - 1)/h - 1`` there. They differ by a term of higher order, and the order is the same.

A particle that begins its life inside a block begins one there. The step to the clean image is of first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.ddim import transition
from noisewright.diffusion.solvers.history import half_log_snr, moved


@dataclass(frozen=True)
class DpmSolver:
    """Singlestep DPM-Solver of order 2 or 3 in blocks of as many steps; one evaluation a step.

    Its state is None between blocks, and inside one the block's first states and the noises found since.

    Attributes:
        order: 2 or 3.
        name: as in the registry.
    """

    order: int = 2
    name: str = "dpm-solver-2"
    nfe_per_step: int = 1
    stochastic: bool = False

    @property
    def memory(self) -> int:
        return self.order - 1

    @property
    def block(self) -> int:
        return self.order

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        if schedule.alpha[index] <= 0:
            return transition(schedule, index, index + 1, found, 0, None), None
        place = index % self.order
        if place == 0 or state is None or schedule.sigma[index + 1] <= 0:
            state = [x, found.noise]
            after = moved(x, found.noise, schedule, index, index + 1)
        else:
            first, *noises = state
            after = _from_the_first(schedule, index, first, [*noises, found.noise])
            state = [first, *noises, found.noise]
        return after, state if place + 1 < self.order else None


def _from_the_first(schedule: Schedule, index: int, first: Tensor, noises: list[Tensor]) -> Tensor:
    """The step of second or third order from the beginning of the block, ``len(noises) - 1`` indices ago."""
    began = index + 1 - len(noises)
    start, middle, stop = (half_log_snr(schedule, n) for n in (began, index, index + 1))
    length, part = stop - start, (middle - start) / (stop - start)
    gap = (noises[-1] - noises[0]) / part
    sigma = schedule.sigma[index + 1]
    grown = schedule.alpha[index + 1] * schedule.sigma[began] / schedule.alpha[began] - sigma  # sigma (e^h - 1)
    after = moved(first, noises[0], schedule, began, index + 1)
    return after - (0.5 * grown if len(noises) == 2 else grown / length - sigma) * gap
