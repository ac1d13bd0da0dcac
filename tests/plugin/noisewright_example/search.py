"""What the example adds."""

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


class Redness:
    """How red an image is."""

    name = "example-redness"
    fingerprint = "example-redness-1"

    def __call__(self, images, prompt):
        """Scores of images (batch, 3, height, width) in [0, 1]."""
        return (images[:, 0] - images[:, 1:].mean(1)).mean((1, 2)).tolist()
