"""What every solver must hold, on the exact Gaussian-mixture sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.solvers import AnySolver, Ddim, Solver, StagedSolver
from noisewright.samplers.mixture import MixtureSampler

SEEDS = range(4)
COARSE, FINE, EXACT = 16, 32, 512
"""Steps: of a rough result, of one with half the error at least, and of one that counts as exact."""

TOLERANCE = 1e-5


def check_solver(solver: AnySolver, order: float | None = None) -> None:
    """A solver keeps what it needs in its state, works on each row alone, and comes nearer with more steps.

    Args:
        solver: to be tried, on VP and on flow levels.
        order: how fast the error falls at least, if that is to be checked: as ``steps ** (-0.75 * order)``.

    Raises:
        AssertionError: with what does not hold.
    """
    assert isinstance(solver, (Solver, StagedSolver)), f"expected a solver, got {type(solver).__name__}"
    for kind in ("vp", "flow"):
        sampler = MixtureSampler(steps=COARSE, kind=kind, solver=solver)
        x, noise = sampler.noise(SEEDS), _step_noise(sampler)
        whole = _denoised(sampler, x, (0, COARSE), noise)
        assert bool(whole.isfinite().all()), f"{solver.name} gives what is no number on {kind} levels"
        again = _denoised(sampler, x, (0, COARSE), noise)
        assert torch.equal(whole, again), f"{solver.name} gives another result when asked again"
        for middle in (1, 2, 3, COARSE - 1):
            parts = _denoised(sampler, x, (0, middle, COARSE), noise)
            assert torch.equal(whole, parts), f"{solver.name} split at step {middle} of {COARSE} gives another result"
        alone = torch.cat([_denoised(sampler, x[n : n + 1], (0, COARSE), _row(noise, n)) for n in range(len(x))])
        assert torch.allclose(whole, alone, atol=TOLERANCE), f"{solver.name} mixes the rows of a batch"
        before = sampler.meter.nfe
        _denoised(sampler, x, (0, COARSE), noise)
        spent, said = sampler.meter.nfe - before, len(x) * sampler.nfe(0, COARSE)
        assert spent == said, f"{solver.name} asked {spent} times and says {said}"
        if not solver.stochastic:
            _check_convergence(solver, kind, order)


def _check_convergence(solver: AnySolver, kind: str, order: float | None) -> None:
    x = MixtureSampler(steps=1, kind=kind).noise(SEEDS)
    exact = _end(Ddim(), kind, EXACT * 4, x)
    rough, fine = (float((_end(solver, kind, steps, x) - exact).abs().mean()) for steps in (COARSE, FINE))
    assert fine < rough, f"{solver.name} errs by {rough:.2g} with {COARSE} steps, by {fine:.2g} with {FINE} ({kind})"
    if order is not None:
        slope = math.log2(rough / fine)
        assert slope > 0.75 * order, f"{solver.name} converges with order {slope:.2f}, expected {order:g} ({kind})"


def _end(solver: AnySolver, kind: str, steps: int, x: Tensor) -> Tensor:
    return MixtureSampler(steps=steps, kind=kind, solver=solver).denoise(x, 0, steps)[0]


def _denoised(sampler: MixtureSampler, x: Tensor, stops: tuple[int, ...], noise: Callable[[int], Tensor]) -> Tensor:
    state: Any = None
    for start, stop in pairwise(stops):
        x, state = sampler.denoise(x, start, stop, state, noise)
    return x


def _step_noise(sampler: MixtureSampler) -> Callable[[int], Tensor]:
    return lambda index: MixtureSampler(steps=1).noise([1000 * (index + 1) + seed for seed in SEEDS])


def _row(noise: Callable[[int], Tensor], row: int) -> Callable[[int], Tensor]:
    return lambda index: noise(index)[row : row + 1]
