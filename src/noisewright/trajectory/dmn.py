"""DMN: levels from an analytic bound on the error of multistep solvers; no model is asked (Xue et al., CVPR 2024).

Nodes lambda_0 < ... < lambda_N in half log-SNR. Over step s a multistep exponential integrator of order
``o = min(3, s + 1, N - s)`` uses the nodes s - o + 1 .. s with the weights ``J = integral of e^lambda l_j(lambda)``
of Lagrange's polynomials. With an error ``e_j = sigma_j^p / alpha_j`` at node j, the objective F adds the absolute
errors of first-order steps, the root of squares of the steps before ``independent``, and the absolute sum by node over
the rest. From the formulas of arXiv 2402.17376; minimised with CMA-ES (Hansen 2016) from two starts, because F has
kinks and local minima.

``independent`` is 3 for every number of steps, as the authors' release has it, although a comment there says 0 above 7.
At 0 no step counts by itself: the errors of one node at several steps may cancel in sign, and a search that finds F's
lowest minimum, as this one does, puts nodes in clusters (ten levels of noisewright/shapes: t = 999, 951, 169, 22, 3, 2,
2, 1, 1, 0), which makes bad images. The release descends from one start only and stays clear of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from noisewright.outside.bounds import at_most
from noisewright.trajectory.path import ModelPath, ruled
from noisewright.trajectory.vrg import Fit

Array = np.ndarray

FLOOR = 0.1
"""The smallest gap of a fit, in even gaps (or half of its start's smallest, if that is less). It costs 0.3 % of the
bound at 20 steps and nothing at 10; without it the third and fourth of 20 levels come within one time of each other."""

EVALUATIONS_A_STEP = 1000

MOST_DMN_STEPS = 200
"""The search for a minimum takes a thousand evaluations a step, each in time proportional to the steps."""


def objective(nodes: Array, *, power: float = 1.0, independent: int = 3) -> Array:
    """F of rows of nodes.

    Args:
        nodes: (rows, N + 1) half log-SNR, rising, of a VP path: sigma^2 = 1 / (1 + e^{2 lambda}).
        power: p; 2 for latent models, 1 for pixels.
        independent: q; steps before it count as independent errors.

    Returns:
        (rows,).
    """
    count = nodes.shape[1] - 1
    alpha = 1 / np.sqrt(1 + np.exp(-2 * nodes))
    scale = (1 / np.sqrt(1 + np.exp(2 * nodes))) ** power / alpha
    total = np.zeros(len(nodes))
    by_node = np.zeros_like(nodes)
    for step in range(count):
        order = min(3, step + 1, count - step)
        used = slice(step - order + 1, step + 1)
        terms = step_weights(nodes[:, used], nodes[:, step + 1]) * scale[:, used]
        if order == 1:
            total += np.abs(terms[:, 0])
        elif step < independent:
            total += np.sqrt((terms**2).sum(1))
        else:
            by_node[:, used] += terms
    return total + np.abs(by_node).sum(1)


def step_weights(used: Array, stop: Array) -> Array:
    """J: the integrals over the last step of e^lambda times Lagrange's polynomials on ``used`` (rows, order)."""
    here = used[:, -1]
    h = stop - here
    moments = [np.expm1(h)]  # of e^u u^k over [0, h]
    for k in range(1, used.shape[1]):
        moments.append(h**k * np.exp(h) - k * moments[-1])
    at = used - here[:, None]
    found = []
    for j in range(used.shape[1]):
        polynomial = [np.ones_like(h)]  # coefficients of l_j, lowest first
        for k in range(used.shape[1]):
            if k != j:
                gap = at[:, j] - at[:, k]
                low = [-at[:, k] / gap * one for one in polynomial] + [np.zeros_like(h)]
                high = [np.zeros_like(h)] + [one / gap for one in polynomial]
                polynomial = [a + b for a, b in zip(low, high, strict=True)]
        found.append(sum(c * m for c, m in zip(polynomial, moments, strict=True)) * np.exp(here))
    return np.stack(found, 1)


def minimise(
    start: Array,
    *,
    power: float = 1.0,
    independent: int = 3,
    seed: int = 0,
    evaluations: int = 20_000,
    spend: Callable[[float, bool], None] | None = None,
) -> Array:
    """Better interior nodes between the ends of ``start``, no two of them nearer than :data:`FLOOR` lets them be.

    Args:
        start: (N + 1,) rising.
        power: see :func:`objective`.
        independent: likewise.
        seed: of the search.
        evaluations: of F at most.
        spend: called with each number of evaluations that were made.

    Returns:
        (N + 1,), never worse than ``start``.
    """
    from cmaes import CMA

    width = start[-1] - start[0]
    least = min(FLOOR * width / (len(start) - 1), 0.5 * float(np.diff(start).min()))
    base = np.log(np.diff(start) - least)

    def nodes_of(points: Array) -> Array:
        gaps = np.exp(base + np.clip(points, -8, 8))
        gaps = least + gaps / gaps.sum(1, keepdims=True) * (width - least * gaps.shape[1])
        inner = np.cumsum(gaps, 1)[:, :-1] + start[0]
        ends = np.ones((len(points), 1))
        return np.concatenate([start[0] * ends, inner, start[-1] * ends], 1)

    def value(points: Array) -> Array:
        found = objective(nodes_of(points), power=power, independent=independent)
        return np.where(np.isfinite(found), found, np.inf)

    size = len(base)
    best, best_point = float(value(np.zeros((1, size)))[0]), np.zeros(size)
    if size < 3:
        grid = np.linspace(-6, 6, 4001)[:, None] * np.array([1.0] + [0.0] * (size - 1))
        found = value(grid)
        return nodes_of(grid[[int(found.argmin())]])[0] if found.min() < best else start
    mean, sigma, spent = np.zeros(size), 0.3, 0
    while spent < evaluations:
        search = CMA(mean=mean, sigma=sigma, seed=(seed + spent) % 2**32, population_size=4 * size)
        while spent < evaluations and not search.should_stop():
            points = np.stack([search.ask() for _ in range(search.population_size)])
            found = value(points)
            spent += len(points)
            if spend is not None:
                spend(len(points), True)
            search.tell([(one, float(min(v, 1e30))) for one, v in zip(points, found, strict=True)])
            if found.min() < best:
                best, best_point = float(found.min()), points[int(found.argmin())]
        mean, sigma = best_point, 0.1
    return nodes_of(best_point[None])[0] if best_point.any() else start


def fit_dmn(
    path: ModelPath,
    steps: int,
    *,
    power: float | None = None,
    independent: int = 3,
    seed: int = 0,
    evaluations: int | None = None,
    end: float = 0.0,
    spend: Callable[[float, bool], None] | None = None,
) -> Fit:
    """The schedule of the lowest bound, from uniform log-SNR and from uniform time, whichever ends lower.

    The last node stands for the end of the schedule: the model's cleanest level, as an end of 0 has no logarithm.
    The schedule itself ends at ``end``.

    Nodes are half log-SNR of the model's own levels, but the bound takes the alpha and sigma of the VP path there, also
    for flow models: at a level s its weights are ``sigma^p / alpha`` with ``alpha^2 = 1 / (1 + s^2)``, not with a
    flow's ``alpha = 1 / (1 + s)``.

    Args:
        path: the model's.
        steps: K, at least 2.
        power: p; by default 1.
        independent: q; see the head of this module for why it is 3 at any number of steps.
        seed: of the search.
        evaluations: of the bound from each start, at most; by default :data:`EVALUATIONS_A_STEP` for each step.
        end: the level s that the schedule ends at, below the model's cleanest; 0 is the clean image.
        spend: called with each number of evaluations that were made.

    Raises:
        ValueError: on fewer than 2 steps.
    """
    if steps < 2:
        raise ValueError(f"expected at least 2 steps for dmn, got {steps}")
    at_most(MOST_DMN_STEPS, steps=steps)
    p = 1.0 if power is None else power
    path, q = replace(path, end=end), independent
    most = EVALUATIONS_A_STEP * steps if evaluations is None else evaluations
    found, figures = [], {}
    for name in ("logsnr", "uniform"):
        levels = path.levels_of(ruled(name, path, steps))
        start = -np.log(np.array([*levels, min(path.low, levels[-1] * 0.99)]))
        made = minimise(start, power=p, independent=q, seed=seed, evaluations=most, spend=spend)
        before, after = objective(np.stack([start, made]), power=p, independent=q).tolist()
        figures[f"bound_from_{name}"] = [before, after]
        found.append((after, made))
    bound, best = min(found, key=lambda one: one[0])
    levels = [path.high, *(math.exp(-one) for one in best[1:-1])]
    return Fit(path.schedule(levels), {"bound": bound, "power": p, "independent": q, **figures})
