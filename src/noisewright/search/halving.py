"""Successive halving on previews (Jamieson and Talwalkar 2016; for diffusion arXiv 2607.21591, 2511.22242)."""

import math

from noisewright.run.drafts import rank_correlation
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, fractions, inside

CUTS = (0.5, 0.65)
"""Where candidates are cut by default."""


def halving(
    run: Run, n: int = 16, cuts: tuple[float, ...] = CUTS, keep: tuple[float, ...] = (0.5, 0.5),
    pilot: int = 8, threshold: float = 0.5,
) -> None:  # fmt: skip
    """Start N, cut by the scores of previews on the way, and finish the rest from where they stand.

    Cost: ``P * S`` NFE for the pilot, and for the others ``sum over used cuts of n_c * (i_c - i_before)`` plus one for
    each that a cut removes, plus ``n_last * (S - i_last)``.
    With the defaults and all cuts used that is 336 NFE at 25 steps, 0.84 of best of N; for large N it is near 0.68.

    Previews may not rank as the finished images do. So the first P candidates are previewed at every cut and finished
    all the same, and a cut at which their previews and finals correlate (Spearman) below ``threshold`` is not made;
    the run says so. Where previews begin to rank depends on the model: earlier cuts are cheaper, and refused more
    often.

    Args:
        run: the verbs.
        n: how many to start.
        cuts: after which fractions of the steps, rising, in (0, 1).
        keep: the share that survives each cut, in (0, 1].
        pilot: P, at least 4; where it is not below n, everything is finished.
        threshold: the least rank correlation at which a cut is made, in [-1, 1].
    """
    at_least(1, n=n)
    at_least(4, pilot=pilot)
    at_once(run, n=n)
    inside(-1, 1, threshold=threshold)
    indices = fractions(run, "halving", CUTS, cuts=cuts)
    if len(keep) != len(cuts):
        raise ValueError(f"expected a share to keep for each of {len(cuts)} cuts, got {len(keep)}")
    for share in keep:
        inside(0, 1, keep=share, closed="right")
    starts = run.noise(n)
    states, early = starts[:pilot], []
    run.keep(states)
    for index in indices:
        states = run.denoise(states, index)
        early.append(run.value(run.preview(states)))
    finals = run.value(run.finish(states))
    states = starts[pilot:]
    for index, share, previews in zip(indices, keep, early, strict=True):
        agreement = rank_correlation(previews, finals)
        if not agreement >= threshold:
            run.say(
                f"halving makes no cut at step {index}: previews and finals of {len(finals)} candidates correlate by "
                f"{agreement:.2f}, below {threshold:g}"
            )
            continue
        if states:
            states = run.denoise(states, index)
            found = run.top(run.preview(states), math.ceil(share * len(states)))
            states = [one.particle for one in found]
            run.keep(states)
    run.finish(states)
