"""Rollover budget forcing (Kim et al. 2025, arXiv 2503.19385): stop at the first better proposal, save the rest."""

from noisewright.run.verbs import Preview, Run
from noisewright.search.checks import at_least, at_once, enough, inside, needs_step_noise


def rbf(run: Run, quota: int = 4, first: int = 8, batch: int = 4, begin: float = 0.4) -> None:
    """At each step propose continuations until a preview beats all before it; what is saved goes to the next step.

    Cost: ``F * (b + 1) + (S - 1 - b) * Q`` NFE, with b the index where choices begin: what is saved on the way is spent
    at the last step, and a preview's NFE is that of the step after it.

    Where a step's allowance is spent without a better preview, its best proposal is taken, and the bar stays where it
    was. At the last step everything left is tried. Deviations: proposals come in batches, of which the best is taken
    (one at a time is slow), and all of a batch are charged; the last state is finished by the sampler, where the
    authors return a clean estimate; and the steps before ``begin`` are made plainly, because previews there hardly rank
    as finished images do (the paper's is 0).

    Args:
        run: the verbs; steps must draw noise (eta > 0) where quota > 1.
        quota: proposals that each step may try, besides what earlier steps saved.
        first: trajectories until ``begin``, of which the best preview is the start.
        batch: proposals at a time.
        begin: the fraction of the steps that are made plainly before, in [0, 1).
    """
    at_least(1, quota=quota, first=first, batch=batch)
    at_once(run, quota=quota, first=first)
    inside(0, 1, begin=begin, closed="left")
    if quota > 1:
        needs_step_noise(run, "rbf")
    index = min(round(begin * run.steps), run.steps - 1)
    if index + 1 >= run.steps and quota > 1:  # no step is left to propose anything for
        enough(run, "rbf")
        raise ValueError(f"expected begin below the last of the {run.steps} steps, got {begin:g}")
    starts = run.noise(first)
    state = bar = run.top(run.preview(run.denoise(starts, index) if index else starts))[0]
    saved = 0
    for stop in range(index + 1, run.steps):
        run.keep([state.particle])
        allowance, tried, better = quota + saved, list[Preview](), False
        while len(tried) < allowance and (not better or stop == run.steps - 1):
            count = min(batch, allowance - len(tried))
            some = run.fork(state.particle, count - (not tried))
            found = run.preview(run.denoise([*([state.particle] if not tried else []), *some], stop))
            tried += found
            better = run.top([bar, *found])[0] is not bar
        saved = allowance - len(tried)
        state = run.top(tried)[0]
        bar = run.top([bar, state])[0]
    run.finish([state.particle])
