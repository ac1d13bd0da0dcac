"""Random search, best of N (Ma et al. 2025, section 3.1): fresh noise each time, keep the best."""

from noisewright.run import Run

ROUND = 256
"""How many noises are asked for at once; it has no effect on which candidates there are."""


def random(run: Run, n: int | None = None) -> None:
    """Draw starting noises S, S + 1, ... and finish each.

    Cost: ``N * S`` NFE for N candidates at S steps.

    Deviation from the paper's published code (tt-scale-flux): the best of all rounds is kept, not of the last.

    Args:
        run: the verbs.
        n: how many candidates; by default as many as the budget allows.
    """
    if n is not None:
        if n < 1:
            raise ValueError(f"expected n of at least 1, got {n}")
        run.finish(run.noise(n))
        return
    while True:
        run.finish(run.noise(ROUND))
