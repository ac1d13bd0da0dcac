"""DDIM (Song et al. 2021). The same map is k-diffusion's Euler, first-order DPM-Solver++ and Euler on flow models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Estimate, Schedule


def transition(schedule: Schedule, start: int, stop: int, found: Estimate, eta: float, noise: Tensor | None) -> Tensor:
    """One step towards clean between any two levels (Song et al. 2021, DDIM eq. 12 and 16, for any alpha, sigma).

    ``x_j = alpha_j x0 + sqrt(sigma_j^2 - v^2) eps + v z`` with
    ``v^2 = eta^2 (sigma_j/sigma_i)^2 (sigma_i^2 - (alpha_i/alpha_j)^2 sigma_j^2)``. With eta = 1, v^2 is the exact
    posterior variance. The formula holds for VP, flow and EDM levels alike: divided by alpha it depends only on the
    grid of sigma/alpha.

    Args:
        schedule: the levels.
        start: the index i that ``found`` was estimated at.
        stop: the index j to go to.
        found: the clean image and the noise, (batch, ...).
        eta: 0 is the deterministic ODE step, 1 the ancestral step.
        noise: z, shaped as the states; needed where eta > 0.
    """
    alpha_i, sigma_i = schedule.alpha[start], schedule.sigma[start]
    alpha_j, sigma_j = schedule.alpha[stop], schedule.sigma[stop]
    if eta == 0:
        return alpha_j * found.clean + sigma_j * found.noise
    if noise is None:
        raise ValueError(f"expected noise for a step with eta = {eta}, got None")
    variance = eta**2 * (sigma_j / sigma_i) ** 2 * max(sigma_i**2 - (alpha_i / alpha_j) ** 2 * sigma_j**2, 0.0)
    kept = math.sqrt(max(sigma_j**2 - variance, 0.0))
    return alpha_j * found.clean + kept * found.noise + math.sqrt(variance) * noise


@dataclass(frozen=True)
class Ddim:
    """DDIM with eta (Song et al. 2021); on flow models and in EDM coordinates this is the Euler method.

    Attributes:
        eta: 0 deterministic, 1 ancestral.
        name: ``ddim`` or its other name, ``euler``.
    """

    eta: float = 0.0
    name: str = "ddim"
    nfe_per_step: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"expected eta in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        return transition(schedule, index, index + 1, found, self.eta, noise), None
