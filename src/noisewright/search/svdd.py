"""SVDD (Li et al. 2024, arXiv 2408.08252) and, with blocks, CoDe (Singh et al. 2025, arXiv 2502.00968)."""

import math

from noisewright.noise import uniform
from noisewright.run import Preview, Run
from noisewright.search.checks import at_least, needs_step_noise
from noisewright.search.fk import normalised, numbers


def svdd(run: Run, proposals: int = 4, block: int = 1, temperature: float = 0.0, width: int = 1) -> None:
    """Every B steps, try M continuations of each state and go on with the one whose preview scores best.

    Cost: ``W * M * (S + 1)`` NFE less what the losers of the last round save, exactly ``W * M * (last + 1) + W * (S -
    last - 1)`` with ``last`` the index of the last round, ``B * floor((S - 1) / B)``; ``W * S`` with one proposal. A
    preview's NFE is the one of the winner's next step, which its M continuations share.

    With B = 1 this is SVDD, with larger B it is CoDe. With M = 1 it is plain sampling.

    Args:
        run: the verbs; steps must draw noise (eta > 0) where M > 1.
        proposals: M, continuations of each state.
        block: B, steps between two choices.
        temperature: 0 takes the best preview; above, one is drawn with probability proportional to exp(score / T).
        width: W, independent trajectories.
    """
    at_least(1, proposals=proposals, block=block, width=width)
    if not temperature >= 0:
        raise ValueError(f"expected a temperature of at least 0, got {temperature:g}")
    if block >= run.steps and proposals > 1:
        raise ValueError(f"expected a block below the {run.steps} steps, got {block}")
    if proposals == 1:
        run.finish(run.noise(width))
        return
    needs_step_noise(run, "svdd")
    states = run.noise(width)
    for index in range(block, run.steps, block):
        tried = [[state, *run.fork(state, proposals - 1)] for state in states]
        found = run.preview(run.denoise([one for some in tried for one in some], index))
        rows = [found[k * proposals : (k + 1) * proposals] for k in range(width)]
        states = [_choose(run, row, temperature, k, index).particle for k, row in enumerate(rows)]
        run.keep(states)
    run.finish(states)


def _choose(run: Run, found: list[Preview], temperature: float, number: int, index: int) -> Preview:
    if temperature == 0:
        return run.top(found)[0]
    shares = normalised([score / temperature for score in numbers(run.value(found))])
    drawn, total = uniform(run.seed, "svdd", number, index), 0.0
    for one, share in zip(found, shares, strict=True):
        total += share
        if drawn < total:
            return one
    return found[-1] if math.isfinite(total) else found[0]
