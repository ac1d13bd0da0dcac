"""Noise that is asked for, never streamed: what a particle is does not depend on batch, order or interruption."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule


def seed_of(*key: object) -> int:
    """A 63-bit seed that depends on every part of ``key`` and on nothing else."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def gaussian(shape: Sequence[int], *key: object) -> Tensor:
    """Unit Gaussian noise of ``shape`` for ``key``: drawn on the CPU in float32, whatever the model's device."""
    generator = torch.Generator("cpu").manual_seed(seed_of(*key))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def uniform(*key: object) -> float:
    """A uniform number in [0, 1) for ``key``."""
    return seed_of(*key) / 2**63


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


def blend(states: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of starting noises, turned back to their weighted mean norm.

    A mean of independent noises is shorter than a noise; a model has never seen such a start.

    Args:
        states: each (1, ...).
        weights: one for each state; they are normalised to sum 1.
    """
    total = sum(weights)
    if len(states) != len(weights) or not math.isfinite(total) or total <= 0:
        raise ValueError(f"expected a weight for each of {len(states)} states with a sum above 0, got {weights}")
    rows = torch.stack([state.double() for state in states])
    shares = torch.tensor([weight / total for weight in weights], dtype=torch.float64)
    mean = torch.tensordot(shares, rows, dims=1)
    norm = shares @ rows.flatten(1).norm(dim=1)
    return (mean * (norm / mean.norm())).to(states[0].dtype)


def place(x: Tensor, axes: Tensor, at: Sequence[float]) -> Tensor:
    """A point near ``x`` on its sphere: ``y = |x| unit(u + sum_k at_k b_k)`` with ``u = x/|x|``.

    The b_k are ``axes`` made orthonormal to each other and to ``x`` (Gram-Schmidt, float64), so ``at`` are
    coordinates of a flat, low-dimensional slice of the noise; |at| is the tangent of the angle to ``x``.

    Args:
        x: one state, (1, ...).
        axes: Gaussian directions, (k, ...).
        at: k coordinates.
    """
    flat = x.double().flatten()
    columns = torch.cat([flat[None], axes.double().flatten(1)]).T
    basis, corner = torch.linalg.qr(columns)
    basis = basis * torch.sign(torch.diagonal(corner))
    point = basis[:, 0] + basis[:, 1:] @ torch.tensor(list(at), dtype=torch.float64)
    return (flat.norm() * point / point.norm()).reshape(x.shape).to(x.dtype)


def renoise(x: Tensor, schedule: Schedule, start: int, stop: int, noise: Tensor) -> Tensor:
    """Carry a state back towards noise, from index ``start`` to an earlier index ``stop``, with the right marginal.

    ``x_k = (alpha_k/alpha_i) x_i + sqrt(sigma_k^2 - (alpha_k/alpha_i)^2 sigma_i^2) z`` (the forward process between
    two levels; Song et al. 2021, Ma et al. 2025 section 3.2), for VP, flow and EDM levels. To its own index a state is
    carried by no noise at all, as the formula has it for every level above pure noise: it stays what it is, also at
    index 0, where a flow model's alpha is 0 and the state is as the pipeline drew it.
    """
    if not 0 <= stop <= start <= schedule.steps:
        raise ValueError(f"expected 0 <= stop <= start <= {schedule.steps}, got stop {stop}, start {start}")
    if stop == start:
        return x.clone()
    if schedule.alpha[start] == 0:  # nothing of an image is left at either level: fresh noise has the marginal
        return schedule.sigma[stop] * noise
    ratio = schedule.alpha[stop] / schedule.alpha[start]
    spread = max(schedule.sigma[stop] ** 2 - ratio**2 * schedule.sigma[start] ** 2, 0.0)
    return ratio * x + math.sqrt(spread) * noise
