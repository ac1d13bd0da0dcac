"""DPM-Solver++, multistep: exponential integrators for the clean estimate (Lu et al. 2022, arXiv 2211.01095).

With ``h = lambda_j - lambda_i``, the steps' lengths before it h_1, h_2 (newest first) and the estimates m_0, m_1, m_2:

- first order: ``x_j = sigma_j/sigma_i x - alpha_j (e^-h - 1) m_0`` (eq. 9 there; this is DDIM);
- 2M (algorithm 2): ``D = m_0 + (m_0 - m_1) h / (2 h_1)`` in place of m_0;
- 3M (with the divided differences D1 = h m' and D2 = h^2 m''/2):
  ``... + alpha_j ((e^-h - 1)/h + 1) D1 - alpha_j ((e^-h - 1 + h)/h^2 - 1/2) D2``. The authors' code, k-diffusion and
  diffusers all have it so; the expansion asks for twice the last term. With it the order is 3, without it 2, measured;
  ``halved=False`` gives it;
- SDE 2M (eq. 18), with eta as k-diffusion has it:
  ``x_j = sigma_j/sigma_i e^{-eta h} x + alpha_j (1 - e^{-(1 + eta) h}) D + sigma_j sqrt(1 - e^{-2 eta h}) z``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.history import half_log_snr, kept, order_at, usable


def decay(schedule: Schedule, start: int, stop: int) -> float:
    """``e^-h``, the ratio of sigma/alpha between two indices; 0 from pure noise and to the clean image."""
    ratio = schedule.alpha[start] * schedule.sigma[stop] / (schedule.sigma[start] * schedule.alpha[stop])
    return max(ratio, 0.0)


@dataclass(frozen=True)
class DpmPlusPlus:
    """DPM-Solver++ 2M or 3M; one evaluation a step.

    Attributes:
        order: 2 or 3, the earlier estimates used and one.
        name: as in the registry.
        halved: whether 3M's last term is as published.
    """

    order: int = 2
    name: str = "dpmpp-2m"
    halved: bool = True
    nfe_per_step: int = 1
    stochastic: bool = False

    @property
    def memory(self) -> int:
        return self.order - 1

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        past = usable(state, schedule, index)
        order = order_at(self.order, schedule, index, len(past))
        alpha, sigma = schedule.alpha[index + 1], schedule.sigma[index + 1]
        shrunk = decay(schedule, index, index + 1)
        base = sigma / schedule.sigma[index] * x
        if order < 3:
            after = base + alpha * (1 - shrunk) * _second(schedule, index, found.clean, past, order)
        else:
            length, slope, bend = _differences(schedule, index, found.clean, past)
            after = base + alpha * (1 - shrunk) * found.clean
            after = after + alpha * ((shrunk - 1) / length + 1) * slope
            curved = (shrunk - 1 + length) / length**2 - 0.5
            after = after - alpha * (1 if self.halved else 2) * curved * bend
        return after, kept(found.clean, past, self.memory)


@dataclass(frozen=True)
class DpmPlusPlusSde:
    """DPM-Solver++ 2M for the SDE; one evaluation a step.

    Attributes:
        eta: 1 is the SDE of the paper, 0 the deterministic 2M.
        name: as in the registry.
    """

    eta: float = 1.0
    name: str = "dpmpp-2m-sde"
    nfe_per_step: int = 1
    memory: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"expected eta in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        if noise is None and self.eta > 0:
            raise ValueError(f"expected noise for a step with eta = {self.eta}, got None")
        past = usable(state, schedule, index)
        order = order_at(2, schedule, index, len(past))
        alpha, sigma = schedule.alpha[index + 1], schedule.sigma[index + 1]
        shrunk = decay(schedule, index, index + 1)
        faded = shrunk**self.eta
        toward = _second(schedule, index, found.clean, past, order)
        after = sigma / schedule.sigma[index] * faded * x + alpha * (1 - shrunk * faded) * toward
        if noise is not None and self.eta > 0:
            after = after + sigma * math.sqrt(max(1 - faded**2, 0.0)) * noise
        return after, kept(found.clean, past, 1)


def _second(schedule: Schedule, index: int, clean: Tensor, past: list[Tensor], order: int) -> Tensor:
    """The estimate, led on to the middle of the step where the order is above 1."""
    if order < 2:
        return clean
    length = half_log_snr(schedule, index + 1) - half_log_snr(schedule, index)
    before = half_log_snr(schedule, index) - half_log_snr(schedule, index - 1)
    return clean + length / (2 * before) * (clean - past[0])


def _differences(schedule: Schedule, index: int, clean: Tensor, past: list[Tensor]) -> tuple[float, Tensor, Tensor]:
    """h, and the first and second differences of the estimates, scaled to the step (k-diffusion's 3M)."""
    at = [half_log_snr(schedule, n) for n in (index + 1, index, index - 1, index - 2)]
    length = at[0] - at[1]
    near, far = (at[1] - at[2]) / length, (at[2] - at[3]) / length
    newer, older = (clean - past[0]) / near, (past[0] - past[1]) / far
    bend = (newer - older) / (near + far)
    return length, newer + near * bend, bend
