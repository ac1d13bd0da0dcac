"""Zero-order search on the start, then search over paths from the winner ("both" in the field's teaching)."""

from noisewright.outside.messages import short
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, inside
from noisewright.search.paths import DOWN, LEVEL, UP, descend, way_of
from noisewright.search.zero_order import climb


def zero_order_paths(
    run: Run, neighbours: int = 4, cosine: float = 0.95, rounds: int = 3, width: int = 2, children: int = 4,
    level: float = LEVEL, up: float = UP, down: float = DOWN, path_rounds: int | None = None,
) -> None:  # fmt: skip
    """Zero-order search for ``rounds`` rounds, then paths from the winning noise and its best neighbours.

    Cost: ``S * (1 + K * R)`` NFE for the first part, and that of ``paths`` for the second. How the budget is split is
    set by ``rounds``; at 20 steps the defaults spend about as much on either part.

    Not published; our reading of how the two are taught together. The paths start from the winner's noise, and, for
    ``width`` above 1, from the next best noises that the first part finished.

    Args:
        run: the verbs.
        neighbours, cosine, rounds: of zero-order search.
        width, children, level, up, down: of paths; ``path_rounds`` are its rounds.
    """
    at_least(1, neighbours=neighbours, rounds=rounds)
    at_once(run, neighbours=neighbours)
    inside(-1, 1, cosine=cosine, closed="left")
    if width > 1 + neighbours * rounds:
        first = short(1 + neighbours * rounds)
        raise ValueError(f"expected at most the {first} noises of the first part, got width {short(width)}")
    way = way_of(run, "zero-order+paths", width, children, level, up, down, path_rounds)
    seen = climb(run, run.finish(run.noise(1))[0], neighbours, cosine, rounds)
    winners = run.top(seen, width)
    descend(run, [one.particle.start for one in winners], children, way)
