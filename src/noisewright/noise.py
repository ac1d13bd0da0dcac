"""Noise that is asked for, never streamed: what a particle is does not depend on batch, order or interruption."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noisewright.schedule import Schedule


def seed_of(*key: object) -> int:
    """A 63-bit seed that depends on every part of ``key`` and on nothing else."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def gaussian(shape: Sequence[int], *key: object) -> Tensor:
    """Unit Gaussian noise of ``shape`` for ``key``: drawn on the CPU in float32, whatever the model's device."""
    generator = torch.Generator("cpu").manual_seed(seed_of(*key))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def rotate(x: Tensor, direction: Tensor, cosine: float) -> Tensor:
    """Turn ``x`` by a fixed angle towards a random direction, norm kept (zero-order search's neighbour).

    ``u = x/|x|; w = unit(direction - <direction, u> u); y = |x| (c u + sqrt(1 - c^2) w)``: the cosine with ``x`` is
    exactly ``c``. This is the form that the first author of Ma et al. 2025 published; the additive form
    ``x + lambda * direction`` inflates the norm. Dot products in float64, over the whole flattened state.

    Args:
        x: one state, any shape.
        direction: unit Gaussian noise shaped as ``x``.
        cosine: in [-1, 1].
    """
    if not -1 <= cosine <= 1:
        raise ValueError(f"expected a cosine in [-1, 1], got {cosine}")
    flat, v = x.double().flatten(), direction.double().flatten()
    norm = flat.norm()
    u = flat / norm
    w = v - (v @ u) * u
    w = w / w.norm()
    return (norm * (cosine * u + math.sqrt(1 - cosine**2) * w)).reshape(x.shape).to(x.dtype)


def renoise(x: Tensor, schedule: Schedule, start: int, stop: int, noise: Tensor) -> Tensor:
    """Carry a state back towards noise, from index ``start`` to an earlier index ``stop``, with the right marginal.

    ``x_k = (alpha_k/alpha_i) x_i + sqrt(sigma_k^2 - (alpha_k/alpha_i)^2 sigma_i^2) z`` (the forward process between
    two levels; Song et al. 2021, Ma et al. 2025 section 3.2), for VP, flow and EDM levels.
    """
    if not 0 <= stop <= start <= schedule.steps:
        raise ValueError(f"expected 0 <= stop <= start <= {schedule.steps}, got stop {stop}, start {start}")
    ratio = schedule.alpha[stop] / schedule.alpha[start]
    spread = max(schedule.sigma[stop] ** 2 - ratio**2 * schedule.sigma[start] ** 2, 0.0)
    return ratio * x + math.sqrt(spread) * noise
