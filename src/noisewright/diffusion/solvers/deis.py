"""DEIS: the noise extrapolated by a polynomial, the rest integrated exactly (Zhang and Chen 2023, eq. 14 and 15).

``x_j = alpha_j/alpha_i x + alpha_j sum_k C_k e_k`` with ``C_k = integral from s_i to s_j of L_k(s) ds``, where s =
sigma/alpha and L_k is the Lagrange basis on the last r + 1 levels.

Deviation: the basis is polynomial in ln s, as diffusers has it (``logrho``); in the paper it is so in the model's time
(tAB) or in rho, which is s (rho-AB). As with rho-AB a step is a function of the levels alone; its integrals have a
closed form, finite down to s = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.ddim import transition
from noisewright.diffusion.solvers.history import half_log_snr, kept, order_at, usable

SERIES_BELOW = 0.5
SERIES_TERMS = 24


@dataclass(frozen=True)
class Deis:
    """DEIS with a polynomial of degree r = 1, 2 or 3; order r + 1, one evaluation a step.

    diffusers counts the points: its ``solver_order`` is r + 1.

    Attributes:
        degree: r.
        name: as in the registry.
    """

    degree: int = 1
    name: str = "deis-1"
    nfe_per_step: int = 1
    stochastic: bool = False

    @property
    def memory(self) -> int:
        return self.degree

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        if schedule.alpha[index] <= 0:
            return transition(schedule, index, index + 1, found, 0, None), []
        past = usable(state, schedule, index)
        order = order_at(self.degree + 1, schedule, index, len(past))
        noises = [found.noise, *past][:order]
        after = schedule.alpha[index + 1] / schedule.alpha[index] * x
        for weight, one in zip(weights(schedule, index, order), noises, strict=True):
            after = after + schedule.alpha[index + 1] * weight * one
        return after, kept(found.noise, past, self.memory)


def weights(schedule: Schedule, index: int, order: int) -> list[float]:
    """C_k of the step from ``index`` for the noises at index, index - 1, ..., ``order`` of them."""
    start = half_log_snr(schedule, index)
    nodes = [start - half_log_snr(schedule, index - back) for back in range(order)]  # ln s / s_i, falling from 0
    length = half_log_snr(schedule, index + 1) - start
    level = math.exp(-start)
    moments = [_moment(power, length) for power in range(order)]
    return [-level * sum(c * m for c, m in zip(_basis(nodes, k), moments, strict=True)) for k in range(order)]


def _basis(nodes: list[float], k: int) -> list[float]:
    """Coefficients, lowest first, of the polynomial that is 1 at node k and 0 at the others."""
    found = [1.0]
    for other in (node for n, node in enumerate(nodes) if n != k):
        scale = nodes[k] - other
        up, same = [0.0, *found], [*found, 0.0]
        found = [(a - other * b) / scale for a, b in zip(up, same, strict=True)]
    return found


def _moment(power: int, length: float) -> float:
    """The integral of ``u^power e^u`` over [-length, 0]."""
    if length < SERIES_BELOW:
        return -sum((-length) ** (power + n + 1) / ((power + n + 1) * math.factorial(n)) for n in range(SERIES_TERMS))
    whole = (-1.0) ** power * math.factorial(power)
    if math.isinf(length):
        return whole
    terms = [(-1) ** (power - n) * math.factorial(power) / math.factorial(n) * (-length) ** n for n in range(power + 1)]
    return whole - math.exp(-length) * sum(terms)
