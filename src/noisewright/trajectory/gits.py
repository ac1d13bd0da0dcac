"""GITS: pick the levels of a schedule from a teacher's fine grid by dynamic programming (Chen et al., ICML 2024).

In the coordinates x / alpha the path of a sample is a smooth curve over s whose slope is eps_hat. A step from node i to
node j follows the tangent at i; its cost is how far that ends from the teacher's own path. The cheapest chain of K
steps is the schedule. From the formulas of arXiv 2405.11326; the chain is followed by back-pointers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.solvers import Ddim
from noisewright.outside.bounds import MOST_LEVELS, at_most
from noisewright.outside.messages import short
from noisewright.samplers.protocol import Sampler
from noisewright.trajectory.disk_cache import DiskCache, sampler_key
from noisewright.trajectory.path import ModelPath, path_of, with_schedule
from noisewright.trajectory.vrg import Fit

COSTS = ("dev", "l1", "l2")
RHO = 7.0


def teacher_levels(path: ModelPath, nodes: int) -> list[float]:
    """The teacher's grid: polynomial with rho = 7 from the noisiest level to the cleanest, and the end below it.

    Raises:
        ValueError: on fewer than 4 nodes.
    """
    if nodes < 4:
        raise ValueError(f"expected a teacher of at least 4 nodes, got {nodes}")
    apart = path.end < 0.99 * path.low  # where the path ends at its cleanest level, that is the last node
    last = path.low if apart else path.end
    inner = nodes - 1 - apart
    high, low = path.high ** (1 / RHO), last ** (1 / RHO)
    found = [(high + (low - high) * k / inner) ** RHO for k in range(1, inner)]
    return [path.high, *found, *([path.low] if apart else []), path.end]


def check_settings(steps: int, *, nodes: int = 61, cost: str = "dev", factor: float = 1.15) -> None:
    """Refuse what no fit can follow, before a teacher is run.

    Raises:
        ValueError: on another cost, too few nodes, more steps than jumps, or a factor that is not above 0 and finite.
    """
    if cost not in COSTS:
        raise ValueError(f"expected {', '.join(COSTS)} as the cost of a jump, got {short(cost)}")
    if nodes < 4:
        raise ValueError(f"expected a teacher of at least 4 nodes, got {nodes}")
    at_most(MOST_LEVELS + 1, nodes=nodes)
    if not 1 <= steps <= nodes - 1:
        raise ValueError(f"expected 1 to {nodes - 1} steps on a teacher of {nodes} nodes, got {short(steps)}")
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"expected a finite factor of later steps above 0, got {factor}")


def teacher_costs(
    noises: Iterable[tuple[Sampler, Sequence[int]]],
    *,
    nodes: int = 61,
    cost: str = "dev",
    end: float = 0.0,
    cache: DiskCache | None = None,
    spend: Callable[[float, bool], None] | None = None,
) -> tuple[Tensor, list[float], ModelPath]:
    """Run the teacher, and find what each jump between two of its nodes costs on average.

    The teacher is Euler in s on the fine grid (the paper's default is iPNDM, which gains little at 60 steps). Cost:
    ``nodes - 1`` NFE a sample.

    Args:
        noises: samplers with the seeds that each runs; with guidance and prompts as they will be used.
        nodes: T, of the grid.
        cost: ``dev`` (how much farther from the chord between the path's ends the jump lands than the teacher's node;
            may be negative), ``l1`` or ``l2`` (the distance to the teacher's node).
        end: the level s that the grid ends at, below the model's cleanest; 0 is the clean image.
        cache: where the costs of each batch are kept.
        spend: called after each batch with its network calls times noises, and whether they were made.

    Returns:
        (T, T) float64 costs, infinite where j <= i; the grid; the path, which ends where the grid does.

    Raises:
        ValueError: on another cost, too few nodes, or no seeds.
    """
    check_settings(1, nodes=nodes, cost=cost)
    total = torch.zeros(nodes, nodes, dtype=torch.float64)
    count, levels, path = 0, list[float](), None
    for sampler, seeds in noises:
        if path is None:
            path = replace(path_of(sampler), end=end)
            levels = teacher_levels(path, nodes)
        on_grid = with_schedule(sampler, path.schedule(levels[:-1]), Ddim())
        key = ("jumps", sampler_key(on_grid), list(seeds), cost)
        known = (cache or DiskCache()).get(*key)
        if known is None:
            found = _costs(on_grid, seeds, levels, cost)
            (cache or DiskCache()).put(found, *key)
        total += (known or found)["costs"]
        count += len(seeds)
        if spend is not None:
            spend((nodes - 1) * len(seeds), known is None)
    if path is None or not count:
        raise ValueError("expected at least one seed for the teacher, got none")
    upper = torch.ones_like(total).triu(1).bool()
    return torch.where(upper, total / count, torch.full_like(total, math.inf)), levels, path


def shortest(costs: Tensor, steps: int, factor: float = 1.15) -> list[int]:
    """The cheapest chain of ``steps`` jumps from the first node to the last; V_i(k) = min_j c_ij + factor V_j(k - 1).

    Args:
        costs: (T, T), infinite where j <= i.
        steps: K.
        factor: what later jumps weigh more (above 1) or less.

    Returns:
        K + 1 nodes, the first 0, the last T - 1.

    Raises:
        ValueError: where there are more steps than jumps, or the factor is no number above 0.
    """
    nodes = len(costs)
    check_settings(steps, nodes=nodes, factor=factor)
    value, pointers = costs[:, -1].clone(), []
    for _ in range(steps - 1):
        value, pointer = (costs + factor * value[None]).min(1)
        pointers.append(pointer)
    chain = [0]
    for pointer in reversed(pointers):
        chain.append(int(pointer[chain[-1]]))
    return [*chain, nodes - 1]


def fit_gits(
    costs: Tensor, levels: Sequence[float], path: ModelPath, steps: int, *, factor: float = 1.15, end: float = 0.0
) -> Fit:
    """The schedule of the cheapest chain; arguments as those of :func:`teacher_costs` and :func:`shortest`.

    Its last step ends at ``end``, whatever the end of ``path``; the costs should be those of a teacher that ends there.
    """
    path = replace(path, end=end)
    chain = shortest(costs, steps, factor)
    spent = [float(costs[i, j]) for i, j in pairwise(chain)]
    figures: dict[str, Any] = {"nodes": chain, "costs": spent, "total": sum(spent)}
    return Fit(path.schedule([levels[n] for n in chain[:-1]]), figures)


def _costs(sampler: Sampler, seeds: Sequence[int], levels: Sequence[float], cost: str) -> dict[str, Tensor]:
    return {"costs": _jumps(*teacher_states(sampler, seeds, levels), levels, cost)}


def teacher_states(sampler: Sampler, seeds: Sequence[int], levels: Sequence[float]) -> tuple[Tensor, Tensor]:
    """States x / alpha (T, batch, dims) and slopes (T - 1, batch, dims) of the teacher, float64."""
    schedule = sampler.schedule
    x = sampler.noise(list(seeds))
    alpha = schedule.alpha[0]
    here = x.double().flatten(1)
    here = here / alpha if alpha > 0 else here * levels[0]  # a flow's pure noise, at its highest finite level
    states, slopes = [here], []
    for index in range(schedule.steps):
        clean = sampler.predict(x, index)
        flat = clean.double().flatten(1)
        slope = (here - flat) / levels[index]
        here = here + (levels[index + 1] - levels[index]) * slope
        alpha = schedule.alpha[index + 1]
        x = (alpha * here).float().reshape(x.shape)
        slopes.append(slope)
        states.append(here)
    return torch.stack(states), torch.stack(slopes)


def _jumps(states: Tensor, slopes: Tensor, levels: Sequence[float], cost: str) -> Tensor:
    """(T, T): the cost of each jump, summed over the batch."""
    s = torch.tensor(levels, dtype=torch.float64)
    nodes = len(s)
    found = torch.zeros(nodes, nodes, dtype=torch.float64)
    chord = states[-1] - states[0]
    chord = chord / chord.norm(dim=-1, keepdim=True).clamp(min=1e-300)

    def aside(x: Tensor) -> Tensor:  # (nodes, batch): distances from the chord
        apart = x - states[0]
        return (apart - (apart * chord).sum(-1, keepdim=True) * chord).norm(dim=-1)

    own = aside(states)
    for i in range(nodes - 1):
        landed = states[i] + (s[i + 1 :] - s[i])[:, None, None] * slopes[i]
        if cost == "dev":
            values = aside(landed) - own[i + 1 :]
        else:
            values = (landed - states[i + 1 :]).norm(p=1 if cost == "l1" else 2, dim=-1)
        found[i, i + 1 :] = values.sum(-1)
    return found
