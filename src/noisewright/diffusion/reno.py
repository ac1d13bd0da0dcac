"""One step of ReNO: gradient ascent on a starting noise that stays one (Eyring et al. 2024, arXiv 2406.04312)."""

from __future__ import annotations

import torch
from torch import Tensor


def norm_prior(x: Tensor) -> Tensor:
    """The negative log density of the norm of unit noise, up to a constant: ``r^2 / 2 - (d - 1) ln r``, (batch,).

    Args:
        x: (batch, ...), in units of the starting noise.
    """
    radius = x.flatten(1).norm(dim=1)
    return radius.square() / 2 - (x[0].numel() - 1) * radius.log()


def ascended(
    x: Tensor, scores: Tensor, velocity: Tensor, *, rate: float, momentum: float, clip: float, norm_weight: float
) -> tuple[Tensor, Tensor]:
    """Starting noises after a step of Nesterov's momentum down ``norm_weight * prior - score``, and their velocities.

    Args:
        x: unit noises (batch, ...) that ``scores`` were computed from, with their graph.
        scores: (batch,), higher better.
        velocity: of the step before, (batch, ...); 0 in the first.
        rate: of the ascent.
        momentum: in [0, 1).
        clip: largest norm of a gradient.
        norm_weight: of :func:`norm_prior`.
    """
    loss = norm_weight * norm_prior(x) - scores
    (slope,) = torch.autograd.grad(loss.sum(), x)
    slope = torch.nan_to_num(slope)
    norms = slope.flatten(1).norm(dim=1).clamp(min=1e-12)
    slope = slope * (clip / norms).clamp(max=1).view(-1, *[1] * (x.ndim - 1))
    velocity = slope + momentum * velocity
    return x.detach() - rate * (slope + momentum * velocity), velocity
