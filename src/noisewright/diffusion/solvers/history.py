"""What multistep and exponential solvers share: half log-SNR, the estimates of earlier steps, and how far to use them.

All formulas are in ``lambda = ln(alpha / sigma)`` and so hold for VP, flow and EDM levels. It is infinite at the two
ends. Pure noise (alpha = 0, where flow models start) says nothing of the image, so estimates from there are left out of
every history; a step to the clean image (sigma = 0) is of first order, as in diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from noisewright.diffusion.schedule import Schedule

FEW_STEPS = 15
"""Below so many steps the last ones are of lower order, as diffusers' ``lower_order_final`` has it."""


def half_log_snr(schedule: Schedule, index: int) -> float:
    """The half log-SNR lambda at an index: -inf at pure noise, inf at the clean image."""
    alpha, sigma = schedule.alpha[index], schedule.sigma[index]
    if alpha <= 0 or sigma <= 0:
        return -math.inf if alpha <= 0 else math.inf
    return math.log(alpha) - math.log(sigma)


def usable(history: Sequence[Tensor] | None, schedule: Schedule, index: int) -> list[Tensor]:
    """Earlier estimates that a step from ``index`` may use: those of index - 1, index - 2, ... above pure noise.

    Args:
        history: newest first, of consecutive steps; None at the start of a particle's life.
        schedule: the levels.
        index: where the step begins.
    """
    if schedule.alpha[index] <= 0:
        return []
    return [one for back, one in enumerate(history or (), 1) if schedule.alpha[index - back] > 0]


def kept(newest: Tensor, history: Sequence[Tensor] | None, count: int) -> list[Tensor]:
    """The history after a step: at most ``count`` estimates, newest first."""
    return [newest, *(history or ())][:count]


def order_at(order: int, schedule: Schedule, index: int, available: int, *, few_steps: int = FEW_STEPS) -> int:
    """The order of the step from ``index``.

    Args:
        order: of the method.
        schedule: the levels.
        index: where the step begins.
        available: how many earlier estimates there are.
        few_steps: schedules of fewer steps end with lower orders.
    """
    left = schedule.steps - index
    if schedule.sigma[index + 1] <= 0:
        return 1
    if schedule.steps < few_steps:
        order = min(order, left)
    return min(order, available + 1)


def moved(x: Tensor, noise: Tensor, schedule: Schedule, index: int, to: int) -> Tensor:
    """Along the noise in a state from one level to another (Liu et al. 2022, eq. 11).

    ``x_j = alpha_j/alpha_i x + (sigma_j - alpha_j/alpha_i sigma_i) e``: Euler's step in x/alpha against sigma/alpha.
    """
    return between(x, noise, (schedule.alpha[index], schedule.sigma[index]), (schedule.alpha[to], schedule.sigma[to]))


def between(x: Tensor, noise: Tensor, here: tuple[float, float], there: tuple[float, float]) -> Tensor:
    """:func:`moved` for two levels (alpha, sigma), the first above pure noise."""
    ratio = there[0] / here[0]
    return ratio * x + (there[1] - ratio * here[1]) * noise
