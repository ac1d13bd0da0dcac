"""A schedule is a value: the noise levels a sampler visits, from pure noise (index 0) to clean (index N).

Notation (Ho et al. 2020; Karras et al. 2022): a state at index i is ``x_i = alpha_i * x0 + sigma_i * eps``. VP
models have ``alpha^2 + sigma^2 = 1``, linear flow models ``alpha = 1 - sigma``, EDM coordinates ``alpha = 1``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.clock import Clock, Level, vp_level
from noisewright.outside.bounds import MOST_STEPS, no_more

STRAIGHT = 1e-4
"""How far alpha + sigma may be from 1 on the straight path of flow models."""

KINDS = ("epsilon", "v_prediction", "sample", "flow", "data_flow", "edm_epsilon", "edm_v_prediction", "trigflow")
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
        clock: the model's map between time and level, where it is known; no part of what the schedule is.
    """

    t: tuple[float, ...]
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    start: float = 1.0
    clock: Clock | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("t", "alpha", "sigma"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.t) + 1 == len(self.alpha) == len(self.sigma):
            raise ValueError(
                f"expected N times and N + 1 levels, got {len(self.t)} times, {len(self.alpha)} alphas "
                f"and {len(self.sigma)} sigmas"
            )
        no_more(2 * MOST_STEPS, "noise levels", self.t)  # some schedulers visit each level twice
        if not self.t:
            raise ValueError("expected at least one step, got an empty schedule")
        if not all(math.isfinite(v) for v in (*self.t, *self.alpha, *self.sigma, self.start)):
            raise ValueError("expected finite levels, got a NaN or an infinity in the schedule")

    @property
    def steps(self) -> int:
        """N, the number of steps from pure noise to clean."""
        return len(self.t)

    @property
    def straight(self) -> bool:
        """Whether these are levels of the straight path of flow models, alpha = 1 - sigma."""
        if self.clock is not None:
            return self.clock.kind == "flow"
        pairs = zip(self.alpha, self.sigma, strict=True)
        return all(abs(alpha + sigma - 1) < STRAIGHT for alpha, sigma in pairs)

    def halfway(self, index: int) -> Level:
        """The level at the time halfway between two indices, ``index`` and the next, both before N.

        By the model's clock where it is known. Without one ``sigma / (alpha + sigma)`` is taken to be linear in time
        between them, which is exact for flow models.
        """
        t = (self.t[index] + self.t[index + 1]) / 2
        if self.clock is not None:
            return self.clock.at(t)
        ends = [self.sigma[n] / (self.alpha[n] + self.sigma[n]) for n in (index, index + 1)]
        sigma = sum(ends) / 2
        return Level(t, 1 - sigma, sigma) if self.straight else vp_level(t, sigma / (1 - sigma))

    def nearest(self, time: float) -> int:
        """The index nearest to a flow-matching time t in [0, 1], ``t / (1 - t) = sigma / alpha``, for any kind."""
        times = [sigma / (alpha + sigma) for alpha, sigma in zip(self.alpha, self.sigma, strict=True)]
        return min(range(len(times)), key=lambda index: abs(times[index] - time))

    def to_json(self) -> dict[str, Any]:
        """The levels, JSON-ready; ``Schedule(**...)`` of them is equal to this one."""
        return {"t": list(self.t), "alpha": list(self.alpha), "sigma": list(self.sigma), "start": self.start}

    @property
    def digest(self) -> str:
        """A short name of exactly these levels, stable across processes."""
        text = json.dumps([self.t, self.alpha, self.sigma, self.start])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_falling(schedule: Schedule) -> None:
    """Refuse levels that do not fall at every step.

    Raises:
        ValueError: in one line, which do not.
    """
    times = [sigma / (alpha + sigma) for alpha, sigma in zip(schedule.alpha, schedule.sigma, strict=True)]
    for index in range(schedule.steps):
        if not times[index + 1] < times[index]:
            raise ValueError(
                f"expected noise levels that fall at every step, got sigma {schedule.sigma[index]:.6g} and then "
                f"{schedule.sigma[index + 1]:.6g} (index {index})"
            )


def ending_clean(schedule: Schedule) -> Schedule:
    """The same levels, with a last step to the clean image: alpha = 1, sigma = 0."""
    return replace(schedule, alpha=(*schedule.alpha[:-1], 1.0), sigma=(*schedule.sigma[:-1], 0.0))


def along(clock: Clock, levels: Sequence[Level], start: float = 1.0) -> Schedule:
    """A schedule that visits ``levels``, and then the clean image.

    Raises:
        ValueError: where they do not fall.
    """
    made = Schedule(
        tuple(one.t for one in levels),
        (*(one.alpha for one in levels), 1.0),
        (*(one.sigma for one in levels), 0.0),
        start,
        clock,
    )
    check_falling(made)
    return made


@dataclass(frozen=True)
class Estimate:
    """What one network call says of a state: the clean image and the noise in it, both shaped as the state.

    Attributes:
        clean: (batch, ...).
        noise: (batch, ...).
        plain: the same without guidance, for solvers that split it off; else None.
    """

    clean: Tensor
    noise: Tensor
    plain: Estimate | None = None


class Preconditioned(str):
    """What a network of EDM's kind predicts, with the deviation of its data, which the clean estimate depends on.

    Args:
        kind: ``edm_epsilon``, ``edm_v_prediction`` or ``trigflow``.
        data: standard deviation of the data that the network was trained on, above 0.
    """

    data: float

    def __new__(cls, kind: str, data: float) -> Preconditioned:
        made = super().__new__(cls, kind)
        made.data = data
        return made

    def clean(self, prediction: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """``c_skip x + c_out F`` of the state in the coordinates x0 + s eps (Karras et al. 2022, table 1).

        ``edm_v_prediction`` has F with the other sign; ``trigflow`` (Lu and Song 2025) is the same in an angle, with F
        scaled by the data already.
        """
        s = sigma / alpha
        norm = math.hypot(s, self.data)
        out = s / norm * (1.0 if self == "trigflow" else self.data)
        return self.data**2 / norm**2 * (x / alpha) + (out if self == "edm_epsilon" else -out) * prediction


def estimate(prediction: Tensor, x: Tensor, alpha: float, sigma: float, kind: str) -> Estimate:
    """Turn a network's prediction into (clean, noise), whatever it was trained to predict.

    Args:
        prediction: the guided network output, shaped as ``x``.
        x: the state the network saw.
        alpha: the level's image scale.
        sigma: the level's noise scale.
        kind: ``epsilon``, ``v_prediction`` (``alpha eps - sigma x0`` at the VP level of the same sigma / alpha),
            ``sample``, ``flow`` (velocity ``eps - x0`` on the linear path), ``data_flow`` (``x0 - eps``), or a
            :class:`Preconditioned` one.

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
    if kind == "data_flow":
        return Estimate(x + sigma * prediction, x - alpha * prediction)
    if isinstance(kind, Preconditioned):
        clean = kind.clean(prediction, x, alpha, sigma)
        return Estimate(clean, (x - alpha * clean) / sigma)
    raise ValueError(f"expected {', '.join(KINDS)}, got prediction kind {kind!r}")


def vp_levels(s: Tensor) -> tuple[list[float], list[float]]:
    """(alpha, sigma) on the VP path for EDM levels ``s = sigma / alpha`` of shape (N + 1,)."""
    s = s.to(torch.float64)
    scale = torch.rsqrt(1 + s * s)
    return scale.tolist(), (s * scale).tolist()
