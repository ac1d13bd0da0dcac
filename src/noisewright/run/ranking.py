"""What a run chooses by: the best few, the best so far, and when it is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from noisewright.run.particle import Candidate, Particle
from noisewright.run.standings import Order


@dataclass(frozen=True)
class Preview:
    """The scores of a particle's clean estimate at an intermediate index; never compare one with a final score."""

    particle: Particle
    scores: dict[str, float]


Scored = TypeVar("Scored", Candidate, Preview)


@dataclass
class Target:
    """Stop as soon as one candidate reaches all of these scores. Empty: never."""

    scores: dict[str, float] = field(default_factory=dict)

    def reached(self, scores: dict[str, float]) -> bool:
        """Whether all of them are reached."""
        return bool(self.scores) and all(scores.get(name, math.nan) >= goal for name, goal in self.scores.items())


def top(order: Order, scored: Sequence[Scored], count: int = 1) -> list[Scored]:
    """The best ``count`` candidates or previews, best first; ties go to the earlier, NaN ranks last."""
    values = order.values(scored)
    ranked = sorted(range(len(scored)), key=lambda n: (-values[n], getattr(scored[n], "order", n)))
    return [scored[n] for n in ranked[:count]]


class Leaders:
    """The best candidate of each number of steps, for a single verifier: no pool has to be looked at."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._best: dict[int, Candidate] = {}

    def lead(self, one: Candidate) -> None:
        """Take a candidate into account; ties go to the earlier."""
        before = self._best.get(one.particle.steps)
        if before is None or before.id == one.id or top(self._order, [before, one])[0] is one:
            self._best[one.particle.steps] = one

    def of(self, steps: int) -> Candidate | None:
        """The best with so many steps."""
        return self._best.get(steps)

    def clear(self) -> None:
        """Begin anew."""
        self._best.clear()
