"""VRG: move the levels of a schedule so that less prediction error adds up (Xu, Liu and Kong, ICME 2025).

The deterministic sampler carries the error of each network call to the final image with a weight that depends only on
the levels. Their sum, the cumulative prediction error (CPE), falls as steps at noisy levels get shorter, and falls
most of all as the start moves to lower noise: see :func:`fit_vrg`. From the formulas of the paper and the released
settings; where this differs from them, the docstrings say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import block_of
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.path import CLOSE, ModelPath, ending_with

ITERATIONS = 1500
"""Of Adam."""

LEAST = 1e-12
"""The smallest abar in the arithmetic: pure noise, whose s is infinite."""


@dataclass(frozen=True)
class Fit:
    """Levels that a method has found, and the figures of how it found them."""

    schedule: Schedule
    figures: dict[str, Any]


def cumulative_error(abar: Tensor, errors: ErrorTable, end: float = 1.0, order: int = 1) -> Tensor:
    """The CPE in EDM coordinates ("form B"): the sum over steps of (s_k - s_next)^2 E(s_k).

    Of a solver of order 2 or 3 the levels of a block, two or three of the schedule's own from the noisy end on, all
    count with the weight of the whole block (the paper's pairs and triples; they have no derivation). Blocks are those
    that :class:`~.DpmSolver` makes: a step to the clean image, and one from pure noise, are of first
    order, so their level is a block of its own.

    Args:
        abar: (K,) float64, noisiest first, rising.
        errors: the model's.
        end: abar where the last step ends, in (0, 1]; 1 is the clean image.
        order: levels in a block.

    Returns:
        A scalar, with its graph.

    Raises:
        ValueError: on another order.
    """
    calls, group, starts, stops = blocks_of(abar, end, order)
    scale = _s(starts)
    # E times the squared level that its step starts from: finite at pure noise, where both the level and 1 / E are not
    m = errors.at(calls) * scale[group].square()
    return ((1 - _s(stops) / scale).square()[group] * m).sum()


def cumulative_error_a(abar: Tensor, errors: ErrorTable, end: float = 1.0, order: int = 1) -> Tensor:
    """The CPE as VRG writes it ("form A"): (sqrt(1 - abar_k) - sqrt(alpha_k - abar_k))^2 / abar_k E(abar_k), summed.

    With alpha_k = abar_k / abar_next; ``alpha_k - abar_k`` is taken as ``alpha_k (1 - abar_next)``, which is exactly 0
    at the clean end and needs no guard (the release adds 1e-16 under the root). Arguments as for
    :func:`cumulative_error`.
    """
    calls, group, starts, stops = blocks_of(abar, end, order)
    gap = (1 - starts).sqrt() - (starts / stops * (1 - stops)).sqrt()
    return ((gap.square() / starts)[group] * errors.at(calls)).sum()


def order_of(solver: Any) -> int:
    """The order that the CPE counts a solver with: 2 and 3 of DPM-Solver's blocks of nodes, 1 of all others.

    The paper has no other rule: multistep solvers run on the levels that were fitted with order 1.
    """
    return block_of(solver)


def fit_vrg(
    schedule: Schedule,
    errors: ErrorTable,
    path: ModelPath,
    *,
    gamma: float = 0.01,
    penalty: float = 100.0,
    target: float | None = None,
    order: int = 1,
    fixed_start: bool = False,
    iterations: int = ITERATIONS,
    rate: float = 0.03,
    spend: Callable[[float, bool], None] | None = None,
) -> Fit:
    """Minimise the CPE within a trust region.

    ``alpha*_k = alpha_k + g_k tanh(z_k)``, ``g_k = min(gamma, alpha_k, 1 - alpha_k)``, so that
    ``abar* = cumprod(alpha*)`` falls whatever z is; loss = CPE + penalty (abar_K - target)^2. The paper drives z
    by three linear layers on a constant; z itself with Adam from 0, in float64, reaches the same, and always the same.

    The end stays where ``schedule`` has it.

    Two things to know. *The start moves*: with a wide gamma or a high target much of the gain is a start at lower
    noise, which ``fixed_start`` forbids. *The CPE is no measure of image quality*: without the trust region its optimum
    puts nearly all steps at the noisy end and jumps from there to the clean image, so gamma does the work.

    Args:
        schedule: K levels to start from, and their end.
        errors: the model's.
        path: the model's; its own end counts for nothing.
        gamma: half width of the trust region of each alpha_k, in (0, 1); 0.01 as released.
        penalty: lambda.
        target: A, the abar that the start should keep; by default its own (as released). The paper's CIFAR-10 figures
            have 1e-4 where the model starts at 4e-5.
        order: see :func:`cumulative_error`.
        fixed_start: hold the start where it is: its alpha takes up what the others change, within its own box.
        iterations: of Adam.
        rate: its first step, which falls to 0.
        spend: called after each iteration.

    Raises:
        ValueError: on settings out of range, or an error table that does not cover the levels.
    """
    check_settings(gamma=gamma, penalty=penalty, target=target)
    if iterations < 1:
        raise ValueError(f"expected at least 1 iteration, got {iterations}")
    path = ending_with(path, schedule)
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
    best, best_abar = math.inf, first
    for _ in range(iterations + 1):
        optimiser.zero_grad()
        moved = alpha + reach * z.tanh()
        if fixed_start:
            moved = _holding_the_start(moved, alpha, reach)
        abar = (moved.flip(0).cumprod(0) * end).flip(0)
        loss = cumulative_error(abar, errors, end, order) + penalty * (abar[0] - goal) ** 2
        found = loss.item()
        if found < best and bool((abar[1:] > abar[:-1]).all()):
            best, best_abar = found, abar.detach()
        loss.backward()
        optimiser.step()
        falling.step()
        if spend is not None:
            spend(1, True)
    made = _within(path, best_abar)
    figures = {
        "cpe_before": float(cumulative_error(first, errors, end, order)),
        "cpe_after": float(cumulative_error(abar_of(made), errors, end, order)),
        "abar_start_before": float(first[0]), "abar_start_after": float(abar_of(made)[0]),
        "t_start_before": schedule.t[0], "t_start_after": made.t[0],
    }  # fmt: skip
    return Fit(made, figures)


def check_settings(*, gamma: float = 0.01, penalty: float = 100.0, target: float | None = None) -> None:
    """Refuse what no fit can follow.

    Raises:
        ValueError: in one line.
    """
    if not 0 < gamma < 1:
        raise ValueError(f"expected gamma in (0, 1), got {gamma}")
    if not 0 <= penalty < math.inf:
        raise ValueError(f"expected a finite penalty of at least 0, got {penalty}")
    if target is not None and not 0 < target < 1:
        raise ValueError(f"expected a target abar in (0, 1), got {target}")


def _within(path: ModelPath, abar: Tensor) -> Schedule:
    """The schedule of levels (K,), brought within the model's range and above the end."""
    low = max(path.low, path.end * (1 + CLOSE))
    return path.schedule([min(path.high, max(low, _level(float(one)))) for one in abar])


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
    """A random schedule of the same trust region, uniform in its box, with the same end: what VRG must beat.

    Raises:
        ValueError: where the draw puts several levels beyond the model's noisiest.
    """
    path = ending_with(path, schedule)
    end = 1 / (1 + path.end**2)
    alpha, reach = trust_region(abar_of(schedule), end, gamma, 1 / (1 + path.low**2))
    draw = torch.rand(len(alpha), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    abar = ((alpha + reach * draw * (1 - 1e-9)).flip(0).cumprod(0) * end).flip(0)
    return _within(path, abar)


def abar_of(schedule: Schedule) -> Tensor:
    """(K,) float64: alpha^2 / (alpha^2 + sigma^2) at each network call, noisiest first."""
    alpha = torch.tensor(schedule.alpha[:-1], dtype=torch.float64)
    sigma = torch.tensor(schedule.sigma[:-1], dtype=torch.float64)
    return alpha**2 / (alpha**2 + sigma**2)


def _s(abar: Tensor) -> Tensor:
    return ((1 - abar) / abar).sqrt()


def _level(abar: float) -> float:
    return math.sqrt((1 - abar) / abar) if abar > LEAST else math.inf


def blocks_of(abar: Tensor, end: float, order: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The levels of all network calls, the block that each belongs to, and the levels where blocks start and end."""
    if order not in (1, 2, 3):
        raise ValueError(f"expected an order of 1, 2 or 3, got {order}")
    calls = abar.clamp(min=LEAST)
    count = len(calls)
    begins = [index for index in range(count) if index % order == 0 or _alone(index - 1, abar, end)]
    begins += [count - 1] if _alone(count - 1, abar, end) and begins[-1] != count - 1 else []
    group = torch.tensor([sum(first <= index for first in begins) - 1 for index in range(count)])
    starts = calls[torch.tensor(begins)]
    return calls, group, starts, torch.cat([starts[1:], torch.tensor([end], dtype=torch.float64)])


def _alone(index: int, abar: Tensor, end: float) -> bool:
    """Whether the step from a level is of first order in any solver: from pure noise, or to the clean image."""
    return (index == 0 and abar[0].item() <= LEAST) or (index == len(abar) - 1 and end >= 1)
