"""Rollover budget forcing (Kim et al. 2025, arXiv 2503.19385): stop at the first better proposal, save the rest."""

from noisewright.run import Preview, Run
from noisewright.search.checks import at_least, needs_step_noise


def rbf(run: Run, quota: int = 4, first: int = 8, batch: int = 4) -> None:
    """At each step propose continuations until a preview beats the last one's; what is saved goes to the next step.

    Cost: at most ``first + (S - 1) * quota`` NFE; the step after an accepted preview asks the network nothing again.

    Where a step's allowance is spent without a better preview, its best proposal is taken. Deviations: proposals come
    in batches, of which the best is taken (one at a time is slow), and all of a batch are charged; the last state is
    finished by the sampler, where the authors return a clean estimate.

    Args:
        run: the verbs; steps must draw noise (eta > 0) where quota > 1.
        quota: proposals that each step may try, besides what earlier steps saved.
        first: starting noises, of which the best preview is the start.
        batch: proposals at a time.
    """
    at_least(1, quota=quota, first=first, batch=batch)
    if quota > 1:
        needs_step_noise(run, "rbf")
    best: Preview = run.top(run.preview(run.noise(first)))[0]
    saved = 0
    for index in range(1, run.steps):
        run.keep([best.particle])
        allowance, tried = quota + saved, list[Preview]()
        better = False
        while len(tried) < allowance and not better:
            count = min(batch, allowance - len(tried))
            some = run.fork(best.particle, count - (not tried))
            found = run.preview(run.denoise([*([best.particle] if not tried else []), *some], index))
            tried += found
            better = run.top([best, *found])[0] is not best
        saved = allowance - len(tried)
        best = run.top(tried)[0]
    run.finish([best.particle])
