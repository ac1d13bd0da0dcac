"""A schedule is a value: the noise levels a sampler visits, from pure noise (index 0) to clean (index N).

Notation (Ho et al. 2020; Karras et al. 2022): a state at index i is ``x_i = alpha_i * x0 + sigma_i * eps``. VP
models have ``alpha^2 + sigma^2 = 1``, linear flow models ``alpha = 1 - sigma``, EDM coordinates ``alpha = 1``.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import torch
from torch import Tensor


KINDS = ("epsilon", "v_prediction", "sample", "flow")
"""What networks predict."""

OFF_VP = 1e-6
"""How far ``hypot(alpha, sigma)`` is from 1 only where levels are not variance-preserving."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a sampler; immutable, hashable and JSON-ready.

    Attributes:
        t: what the network is given as its time at each index, length N (nothing is evaluated at index N).
        alpha: scale of the clean image at each index, length N + 1.
        sigma: standard deviation of the noise at each index, length N + 1, falling.
        start: standard deviation of the starting state, as the pipeline draws it. It is 1 for most models and
            differs from ``sigma[0]`` where ``alpha[0] > 0`` (Stable Diffusion starts from unit noise all the same).
    """

    t: tuple[float, ...]
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    start: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.t) + 1 == len(self.alpha) == len(self.sigma):
            raise ValueError(
                f"expected N times and N + 1 levels, got {len(self.t)} times, {len(self.alpha)} alphas "
                f"and {len(self.sigma)} sigmas"
            )
        if not self.t:
            raise ValueError("expected at least one step, got an empty schedule")
        if not all(math.isfinite(v) for v in (*self.t, *self.alpha, *self.sigma, self.start)):
            raise ValueError("expected finite levels, got a NaN or an infinity in the schedule")

    @property
    def steps(self) -> int:
        """N, the number of steps from pure noise to clean."""
        return len(self.t)

    def nearest(self, time: float) -> int:
        """The index nearest to a flow-matching time t in [0, 1], ``t / (1 - t) = sigma / alpha``, for any kind."""
        times = [sigma / (alpha + sigma) for alpha, sigma in zip(self.alpha, self.sigma, strict=True)]
        return min(range(len(times)), key=lambda index: abs(times[index] - time))

    @property
    def digest(self) -> str:
        """A short name of exactly these levels, stable across processes."""
        text = json.dumps([self.t, self.alpha, self.sigma, self.start])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Estimate:
    """What one network call says of a state: the clean image and the noise in it, both shaped as the state."""

    clean: Tensor  # (batch, ...)
    noise: Tensor  # (batch, ...)


def estimate(prediction: Tensor, x: Tensor, alpha: float, sigma: float, kind: str) -> Estimate:
    """Turn a network's prediction into (clean, noise), whatever it was trained to predict.

    Args:
        prediction: the guided network output, shaped as ``x``.
        x: the state the network saw.
        alpha: the level's image scale.
        sigma: the level's noise scale.
        kind: ``epsilon``, ``v_prediction`` (``alpha eps - sigma x0`` at the VP level of the same sigma / alpha),
            ``sample`` or ``flow`` (velocity ``eps - x0`` on the linear path).

    Raises:
        ValueError: on another kind.
    """
    if kind == "epsilon":
        return Estimate((x - sigma * prediction) / alpha, prediction)
    if kind == "v_prediction":
        norm = math.hypot(alpha, sigma)
        if abs(norm - 1) > OFF_VP:  # levels in the coordinates x0 + s eps
            x, alpha, sigma = x / norm, alpha / norm, sigma / norm
        return Estimate(alpha * x - sigma * prediction, sigma * x + alpha * prediction)
    if kind == "sample":
        return Estimate(prediction, (x - alpha * prediction) / sigma)
    if kind == "flow":
        return Estimate(x - sigma * prediction, x + alpha * prediction)
    raise ValueError(f"expected {', '.join(KINDS)}, got prediction kind {kind!r}")


def vp_levels(s: Tensor) -> tuple[list[float], list[float]]:
    """(alpha, sigma) on the VP path for EDM levels ``s = sigma / alpha`` of shape (N + 1,)."""
    s = s.to(torch.float64)
    scale = torch.rsqrt(1 + s * s)
    return scale.tolist(), (s * scale).tolist()
