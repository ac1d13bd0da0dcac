"""Zero-order search (Ma et al. 2025, section 3.1): look around the best noise so far, move there, look again."""

import math
from typing import Literal

from noisewright.run.particle import Candidate
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, inside


def zero_order(
    run: Run,
    neighbours: int = 4,
    cosine: float = 0.95,
    rounds: int | None = None,
    on_failure: Literal["keep", "restart", "shrink"] = "keep",
    patience: int = 2,
    shrink: float = 0.5,
) -> None:
    """Finish the neighbours of the pivot on its sphere; the best of them and the pivot is the next pivot.

    Cost: ``S * (1 + K * R)`` NFE for K neighbours and R rounds at S steps, plus ``S`` for each restart.

    The angle form of the neighbour is the one that the paper's first author published (tt-scale-flux). Deviations from
    that code: the pivot's score is kept, not measured again, and a round without a better neighbour does not lose it.

    Args:
        run: the verbs.
        neighbours: K, how many neighbours a round finishes.
        cosine: of the angle to the pivot, in [-1, 1); 0.95 is 18 degrees, a step of 0.32 times the norm.
        rounds: R; by default as many as the budget allows.
        on_failure: what follows ``patience`` rounds in a row that found nothing better. ``keep`` goes on from the
            pivot, as in the paper; ``restart`` takes a fresh noise as the pivot, as the first author suggested (the
            best so far stays the result); ``shrink`` multiplies the angle.
        patience: failed rounds before that.
        shrink: what the angle is multiplied with, in (0, 1).
    """
    at_least(1, neighbours=neighbours, rounds=rounds, patience=patience)
    at_once(run, neighbours=neighbours)
    inside(-1, 1, cosine=cosine, closed="left")
    inside(0, 1, shrink=shrink, closed="no")
    climb(run, run.finish(run.noise(1))[0], neighbours, cosine, rounds, on_failure, patience, shrink)


def climb(
    run: Run,
    pivot: Candidate,
    neighbours: int,
    cosine: float,
    rounds: int | None,
    on_failure: str = "keep",
    patience: int = 2,
    shrink: float = 0.5,
) -> list[Candidate]:
    """The rounds of :func:`zero_order` from a finished pivot; returns all that were finished, the pivot first."""
    seen, angle, failed, made = [pivot], math.acos(cosine), 0, 0
    while rounds is None or made < rounds:
        made += 1
        found = run.finish(run.vary(pivot.particle.start, neighbours, math.cos(angle)))
        seen += found
        winner = run.top([pivot, *found])[0]
        failed = failed + 1 if winner is pivot else 0
        pivot = winner
        if failed >= patience and on_failure != "keep":
            failed = 0
            if on_failure == "restart":
                pivot = run.finish(run.noise(1))[0]
                seen.append(pivot)
            else:
                angle *= shrink
    return seen
