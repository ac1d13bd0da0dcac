"""SVDD (Li et al. 2024, arXiv 2408.08252) and, with blocks, CoDe (Singh et al. 2025, arXiv 2502.00968)."""

import math

from noisewright.diffusion.noise import uniform
from noisewright.run.particle import Particle
from noisewright.run.verbs import Preview, Run
from noisewright.search.checks import at_least, at_once, choices, needs_step_noise
from noisewright.search.fk import normalised, numbers

BLOCK = 2
"""Steps between two choices, by default."""


def svdd(
    run: Run, proposals: int = 2, block: int = BLOCK, temperature: float = 0.0, width: int = 4, begin: float = 0.4,
    rounds: int | None = None,
) -> None:
    """Every B steps, try M continuations of each state and go on with the one whose preview scores best.

    Cost: ``W * (b + M * (last - b + 1) + S - last - 1)`` NFE a round, with b the index where choices begin and ``last``
    that of the last one, ``b + B * floor((S - 1 - b) / B)``; ``W * S`` with one proposal. A preview's NFE is the one of
    the winner's next step, which its M continuations share.

    With B = 1 this is SVDD, with larger B it is CoDe. With M = 1 it is plain sampling.

    Deviations: the papers choose at every step (SVDD), from the first on (``begin`` 0), among many; previews of the
    first steps hardly rank as finished images do, and each is decoded and verified. And a budget larger than W
    trajectories pays for others, from new noise, where the papers try more continuations of the same ones, which gains
    less here. The defaults are from ``benchmarks/step_wise.toml``.

    Args:
        run: the verbs; steps must draw noise (eta > 0) where M > 1.
        proposals: M, continuations of each state.
        block: B, steps between two choices.
        temperature: 0 takes the best preview; above, one is drawn with probability proportional to exp(score / T).
        width: W, independent trajectories side by side.
        begin: the fraction of the steps that are made plainly before, in [0, 1).
        rounds: how often W trajectories are made, one round after the other; by default as often as the budget allows.
    """
    at_least(1, proposals=proposals, block=block, width=width, rounds=rounds)
    at_once(run, proposals=proposals, width=width, proposals_times_width=proposals * width)
    if not temperature >= 0:
        raise ValueError(f"expected a temperature of at least 0, got {temperature:g}")
    stops = choices(run, "svdd", begin, block, BLOCK, chooses=proposals > 1)
    if proposals > 1:
        needs_step_noise(run, "svdd")
    made = 0
    while rounds is None or made < rounds:
        states = run.noise(width)
        if proposals > 1:
            states = _chosen(run, states, proposals, stops, temperature, made * width)
        run.finish(states)
        made += 1


def _chosen(
    run: Run, states: list[Particle], proposals: int, stops: range, temperature: float, number: int
) -> list[Particle]:
    """Each state carried to the last stop, by the best continuation at each but the first.

    ``number`` is of the first one's draws among those of all rounds.
    """
    if stops[0]:
        states = run.denoise(states, stops[0])
    run.keep(states)
    for index in stops[1:]:
        tried = [one for state in states for one in (state, *run.fork(state, proposals - 1))]
        found = run.preview(run.denoise(tried, index))
        rows = [found[k : k + proposals] for k in range(0, len(found), proposals)]
        states = [_choose(run, row, temperature, number + k, index).particle for k, row in enumerate(rows)]
        run.keep(states)
    return states


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
