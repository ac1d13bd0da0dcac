"""VRG: move the levels of a schedule so that less prediction error adds up (Xu, Liu and Kong, ICME 2025).

The deterministic sampler carries the error of each network call to the final image with a weight that depends only on
the levels. Their sum, the cumulative prediction error (CPE), falls as steps at noisy levels get shorter, and falls
most of all as the start moves to lower noise: see :func:`fit_vrg`. From the formulas of the paper and the released
settings; where this differs from them, the docstrings say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisewright.schedule import Schedule
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.path import ModelPath

LEAST = 1e-12
"""The smallest abar in the arithmetic: pure noise, whose s is infinite."""

WIDE_GAMMA = 0.1
"""From here on the start of a schedule moves visibly; it is said in the report."""


@dataclass(frozen=True)
class Fitted:
    """A fitted schedule and what became of the objective."""

    schedule: Schedule
    figures: dict[str, Any]


def cumulative_error(
    abar: Tensor, errors: ErrorTable, end: float = 1.0, order: int = 1, inner: str = "nodes"
) -> Tensor:
    """The CPE in EDM coordinates ("form B"): the sum over steps of (s_k - s_next)^2 E(s_k).

    Of a solver of order 2 or 3 each step asks the network at two or three levels, whose errors all count with the
    weight of the whole step (the released code's second version; it has no derivation).

    Args:
        abar: (K,) float64, noisiest first, rising.
        errors: the model's.
        end: abar where the last step ends, in (0, 1].
        order: network calls a step.
        inner: where the further calls of a step are: ``nodes``, the next levels of the schedule itself, as the paper
            and :class:`noisewright.solvers.DpmSolver` have them (blocks of ``order`` levels from the noisy end, the
            last may be shorter); or ``lambda``, at equal parts of the step in half log-SNR (a last step to 0 has none).

    Returns:
        A scalar, with its graph.

    Raises:
        ValueError: on another order or place.
    """
    calls, group, starts, stops = _grouped(abar, end, order, inner)
    scale = _s(starts)
    # E times the squared level that its step starts from: finite at pure noise, where both the level and 1 / E are not
    m = errors.at(calls) * scale[group].square()
    return ((1 - _s(stops) / scale).square()[group] * m).sum()


def cumulative_error_a(
    abar: Tensor, errors: ErrorTable, end: float = 1.0, order: int = 1, inner: str = "nodes"
) -> Tensor:
    """The CPE as VRG writes it ("form A"): (sqrt(1 - abar_k) - sqrt(alpha_k - abar_k))^2 / abar_k E(abar_k), summed.

    With alpha_k = abar_k / abar_next; ``alpha_k - abar_k`` is taken as ``alpha_k (1 - abar_next)``, which is exactly 0
    at the clean end and needs no guard (the release adds 1e-16 under the root). Arguments as for
    :func:`cumulative_error`.
    """
    calls, group, starts, stops = _grouped(abar, end, order, inner)
    gap = (1 - starts).sqrt() - (starts / stops * (1 - stops)).sqrt()
    return ((gap.square() / starts)[group] * errors.at(calls)).sum()


def order_of(solver: Any) -> int:
    """The order that the CPE counts a solver with: 2 and 3 of DPM-Solver's blocks of nodes, 1 of all others.

    The paper has no other rule: multistep solvers run on the levels that were fitted with order 1.
    """
    return int(solver.order) if str(solver.name).startswith("dpm-solver-") else 1


def fit_vrg(
    schedule: Schedule,
    errors: ErrorTable,
    path: ModelPath,
    *,
    gamma: float = 0.01,
    penalty: float = 100.0,
    target: float | None = None,
    order: int = 1,
    inner: str = "nodes",
    fixed_start: bool = False,
    iterations: int = 1500,
    rate: float = 0.03,
) -> Fitted:
    """Minimise the CPE within a trust region.

    ``alpha*_k = alpha_k + g_k tanh(z_k)``, ``g_k = min(gamma, alpha_k, 1 - alpha_k)``, so that
    ``abar* = cumprod(alpha*)`` falls whatever z is; loss = CPE + penalty (abar_K - target)^2. The paper drives z
    by three linear layers on a constant; z itself with Adam from 0, in float64, reaches the same, and always the same.

    Two things to know. *The start moves*: with a wide gamma or a high target much of the gain is a start at lower
    noise, which ``fixed_start`` forbids. *The CPE is no measure of image quality*: without the trust region its optimum
    puts nearly all steps at the noisy end and jumps from there to the clean image, so gamma does the work.

    Args:
        schedule: K levels to start from.
        errors: the model's.
        path: the model's.
        gamma: half width of the trust region of each alpha_k, in (0, 1); 0.01 as released.
        penalty: lambda.
        target: A, the abar that the start should keep; by default its own (as released). The paper's CIFAR-10 figures
            have 1e-4 where the model starts at 4e-5.
        order: see :func:`cumulative_error`.
        inner: likewise.
        fixed_start: hold the start where it is: its alpha takes up what the others change, within its own box.
        iterations: of Adam.
        rate: its first step, which falls to 0.

    Raises:
        ValueError: on settings out of range, or an error table that does not cover the levels.
    """
    if not 0 < gamma < 1:
        raise ValueError(f"expected gamma in (0, 1), got {gamma}")
    if penalty < 0 or iterations < 1:
        raise ValueError(f"expected a penalty of at least 0 and 1 iteration, got {penalty} and {iterations}")
    if target is not None and not 0 < target < 1:
        raise ValueError(f"expected a target abar in (0, 1), got {target}")
    levels = path.levels_of(schedule)
    errors.covers(levels[-1], levels[0])
    end = 1 / (1 + path.end**2)
    first = abar_of(schedule)
    alpha, reach = trust_region(first, end, gamma, 1 / (1 + path.low**2))
    goal = float(first[0]) if target is None else target
    fixed_start = fixed_start and float(first[0]) > LEAST  # pure noise stays pure noise anyway
    z = torch.zeros(len(alpha), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([z], lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    best, kept = math.inf, first
    for _ in range(iterations + 1):
        optimiser.zero_grad()
        moved = alpha + reach * z.tanh()
        if fixed_start:
            moved = _holding_the_start(moved, alpha, reach)
        abar = (moved.flip(0).cumprod(0) * end).flip(0)
        loss = cumulative_error(abar, errors, end, order, inner) + penalty * (abar[0] - goal) ** 2
        found = loss.item()
        if found < best and bool((abar[1:] > abar[:-1]).all()):
            best, kept = found, abar.detach()
        loss.backward()
        optimiser.step()
        falling.step()
    made = path.schedule([min(path.high, max(path.low, _level(float(one)))) for one in kept])
    figures = {
        "cpe_before": float(cumulative_error(first, errors, end, order, inner)),
        "cpe_after": float(cumulative_error(abar_of(made), errors, end, order, inner)),
        "abar_start_before": float(first[0]), "abar_start_after": float(abar_of(made)[0]),
        "t_start_before": schedule.t[0], "t_start_after": made.t[0],
    }  # fmt: skip
    return Fitted(made, figures)


def _holding_the_start(moved: Tensor, alpha: Tensor, reach: Tensor) -> Tensor:
    """Alphas whose product is that of ``alpha``: the noisiest takes up the others' changes, as far as its box allows.

    Where it does not, the others' changes shrink together (in their logarithms), which keeps each in its own box.
    """
    changes = (moved[1:] / alpha[1:]).log()
    total = changes.sum()
    limits = (alpha[0] / (alpha[0] - reach[0])).log(), ((alpha[0] + reach[0]) / alpha[0]).log()
    limit = limits[0] if total.item() > 0 else limits[1]
    if total.abs().item() > limit.item():
        changes = changes * (limit / total.abs())
    return torch.cat([alpha[:1] * (-changes.sum()).exp(), alpha[1:] * changes.exp()])


def trust_region(abar: Tensor, end: float, gamma: float, cleanest: float = 1.0) -> tuple[Tensor, Tensor]:
    """(alpha, g), both (K,), noisiest first: the box alpha +- g of VRG, cut where abar leaves the model's range."""
    following = torch.cat([abar[1:], torch.tensor([end], dtype=torch.float64)])
    alpha = abar / following
    reach = torch.minimum(torch.minimum(alpha, 1 - alpha), torch.full_like(alpha, gamma))
    reach[-1] = min(float(reach[-1]), max(0.0, cleanest / end - float(alpha[-1])))
    return alpha, reach


def perturbed(schedule: Schedule, path: ModelPath, gamma: float, seed: int) -> Schedule:
    """A random schedule of the same trust region, uniform in its box: the control that VRG must beat."""
    end = 1 / (1 + path.end**2)
    alpha, reach = trust_region(abar_of(schedule), end, gamma, 1 / (1 + path.low**2))
    draw = torch.rand(len(alpha), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    abar = ((alpha + reach * draw * (1 - 1e-9)).flip(0).cumprod(0) * end).flip(0)
    return path.schedule([min(path.high, max(path.low, _level(float(one)))) for one in abar])


def abar_of(schedule: Schedule) -> Tensor:
    """(K,) float64: alpha^2 / (alpha^2 + sigma^2) at each network call, noisiest first."""
    alpha = torch.tensor(schedule.alpha[:-1], dtype=torch.float64)
    sigma = torch.tensor(schedule.sigma[:-1], dtype=torch.float64)
    return alpha**2 / (alpha**2 + sigma**2)


def _s(abar: Tensor) -> Tensor:
    return ((1 - abar) / abar).sqrt()


def _level(abar: float) -> float:
    return math.sqrt((1 - abar) / abar) if abar > LEAST else math.inf


def _grouped(abar: Tensor, end: float, order: int, inner: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The levels of all network calls, the step that each belongs to, and the levels where steps start and end."""
    if order not in (1, 2, 3):
        raise ValueError(f"expected an order of 1, 2 or 3, got {order}")
    if inner not in ("lambda", "nodes"):
        raise ValueError(f"expected inner levels by lambda or nodes, got {inner!r}")
    calls = abar.clamp(min=LEAST)
    last = torch.tensor([end], dtype=torch.float64)
    if inner == "nodes":
        starts = calls[::order]
        return calls, torch.arange(len(calls)) // order, starts, torch.cat([starts[1:], last])
    stops = torch.cat([calls[1:], last])
    group = torch.arange(len(calls))
    within = len(calls) if end < 1 else len(calls) - 1  # steps that have a middle
    parts, groups = [calls], [group]
    for n in range(1, order):
        s = _s(calls[:within]) ** (1 - n / order) * _s(stops[:within]) ** (n / order)
        parts.append(1 / (1 + s.square()))
        groups.append(group[:within])
    return torch.cat(parts), torch.cat(groups), calls, stops
