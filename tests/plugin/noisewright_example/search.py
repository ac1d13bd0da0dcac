"""A search of the example's own."""

from noisewright.search.checks import at_least


def tournament(run, pairs: int = 2, neighbours: int = 2) -> None:
    """Finish P pairs of noises; around the winner of each finish K neighbours.

    Cost: ``S * P * (2 + K)`` NFE.

    Args:
        run: the verbs.
        pairs: P.
        neighbours: K.
    """
    at_least(1, pairs=pairs, neighbours=neighbours)
    for _ in range(pairs):
        found = run.finish(run.noise(2))
        run.finish(run.vary(run.top(found)[0].particle.start, neighbours, 0.9))
