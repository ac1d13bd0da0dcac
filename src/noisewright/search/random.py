"""Random search, best of N (Ma et al. 2025, section 3.1): fresh noise each time, keep the best."""

from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, block

ROUND = 256
"""How many noises are asked for at once without an n; it has no effect on which candidates there are."""


def random(run: Run, n: int | None = None) -> None:
    """Draw starting noises S, S + 1, ... and finish each.

    Cost: ``N * S`` NFE for N candidates at S steps.

    Deviation from the paper's published code (tt-scale-flux): the best of all rounds is kept, not of the last.

    Args:
        run: the verbs.
        n: how many candidates; by default as many as the budget allows.
    """
    at_least(1, n=n)
    made = 0
    while n is None or made < n:
        count = ROUND if n is None else min(block(run), n - made)
        run.finish(run.noise(count))
        made += count
