"""SVDD (Li et al. 2024, arXiv 2408.08252) and, with blocks, CoDe (Singh et al. 2025, arXiv 2502.00968)."""

import math

from noisewright.diffusion.noise import uniform
from noisewright.outside.messages import short
from noisewright.run.verbs import Preview, Run
from noisewright.search.checks import at_least, at_once, enough, inside, needs_step_noise
from noisewright.search.fk import normalised, numbers


def svdd(
    run: Run, proposals: int = 4, block: int = 1, temperature: float = 0.0, width: int = 1, begin: float = 0.4
) -> None:
    """Every B steps, try M continuations of each state and go on with the one whose preview scores best.

    Cost: ``W * (b + M * (last - b + 1) + S - last - 1)`` NFE, with b the index where choices begin and ``last`` that of
    the last one, ``b + B * floor((S - 1 - b) / B)``; ``W * S`` with one proposal. A preview's NFE is the one of the
    winner's next step, which its M continuations share.

    With B = 1 this is SVDD, with larger B it is CoDe. With M = 1 it is plain sampling.

    Deviation: the papers choose from the first step on (``begin`` 0); previews of the first steps hardly rank as
    finished images do, so choosing among them costs much and decides little.

    Args:
        run: the verbs; steps must draw noise (eta > 0) where M > 1.
        proposals: M, continuations of each state.
        block: B, steps between two choices.
        temperature: 0 takes the best preview; above, one is drawn with probability proportional to exp(score / T).
        width: W, independent trajectories.
        begin: the fraction of the steps that are made plainly before, in [0, 1).
    """
    at_least(1, proposals=proposals, block=block, width=width)
    at_once(run, proposals=proposals, width=width, proposals_times_width=proposals * width)
    inside(0, 1, begin=begin, closed="left")
    if not temperature >= 0:
        raise ValueError(f"expected a temperature of at least 0, got {temperature:g}")
    first = round(begin * run.steps)
    if first + block >= run.steps and proposals > 1:
        enough(run, "svdd")
        raise ValueError(f"expected begin + block below the {run.steps} steps, got {first} + {short(block)}")
    if proposals == 1:
        run.finish(run.noise(width))
        return
    needs_step_noise(run, "svdd")
    states = run.noise(width)
    if first:
        states = run.denoise(states, first)
    run.keep(states)
    for index in range(first + block, run.steps, block):
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
