"""Rollover budget forcing (Kim et al. 2025, arXiv 2503.19385): stop at the first better proposal, save the rest."""

from noisewright.run.particle import Particle
from noisewright.run.verbs import Preview, Run
from noisewright.search.checks import at_least, at_once, choices, needs_step_noise

BLOCK = 3
"""Steps of a proposal, by default."""


def rbf(
    run: Run, quota: int = 4, first: int = 8, batch: int = 4, begin: float = 0.6, block: int = BLOCK,
    rounds: int | None = None,
) -> None:
    """Every B steps propose continuations until a preview beats all before it; what is saved goes to the next choice.

    Cost: ``F * (b + 1) + Q * (last - b) + S - 1 - last`` NFE a round, with b the index where choices begin and ``last``
    that of the last one, ``b + B * floor((S - 1 - b) / B)``: what is saved on the way is spent at the last choice, and
    a preview's NFE is that of the step after it.

    Where a choice's allowance is spent without a better preview, its best proposal is taken, and the bar stays where it
    was. At the last choice everything left is tried. Deviations: proposals come in batches, of which the best is taken
    (one at a time is slow), and all of a batch are charged; a proposal goes several steps (the paper's go one), so that
    fewer previews are decoded and verified; the last state is finished by the sampler, where the authors return a clean
    estimate; the steps before ``begin`` are made plainly, because previews there hardly rank as finished images do (the
    paper's is 0); and a budget larger than one trajectory pays for others, from new noise. The defaults are from
    ``benchmarks/step_wise.toml``.

    Args:
        run: the verbs; steps must draw noise (eta > 0) where quota > 1.
        quota: Q, proposals that each choice may try, besides what earlier ones saved.
        first: F, trajectories until ``begin``, of which the best preview is the start.
        batch: proposals at a time.
        begin: the fraction of the steps that are made plainly before, in [0, 1).
        block: B, steps of a proposal.
        rounds: trajectories one after another; by default as many as the budget allows.
    """
    at_least(1, quota=quota, first=first, batch=batch, block=block, rounds=rounds)
    at_once(run, quota=quota, first=first)
    stops = choices(run, "rbf", begin, block, BLOCK, chooses=quota > 1)
    if quota > 1:
        needs_step_noise(run, "rbf")
    made = 0
    while rounds is None or made < rounds:
        made += 1
        run.finish([_trajectory(run, quota, first, batch, stops)])


def _trajectory(run: Run, quota: int, first: int, batch: int, stops: range) -> Particle:
    """A state at the last choice."""
    starts = run.noise(first)
    state = bar = run.top(run.preview(run.denoise(starts, stops[0]) if stops[0] else starts))[0]
    saved = 0
    for stop in stops[1:]:
        run.keep([state.particle])
        allowance, tried, better = quota + saved, list[Preview](), False
        while len(tried) < allowance and (not better or stop == stops[-1]):
            count = min(batch, allowance - len(tried))
            some = run.fork(state.particle, count - (not tried))
            found = run.preview(run.denoise([*([state.particle] if not tried else []), *some], stop))
            tried += found
            better = run.top([bar, *found])[0] is not bar
        saved = allowance - len(tried)
        state = run.top(tried)[0]
        bar = run.top([bar, state])[0]
    return state.particle
