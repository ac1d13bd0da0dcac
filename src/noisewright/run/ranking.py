"""Which candidate is better: values, the best few, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from noisewright.run.particle import Candidate, Particle, ensemble_values


@dataclass(frozen=True)
class Preview:
    """The scores of a particle's clean estimate at an intermediate index; never compare one with a final score."""

    particle: Particle
    scores: dict[str, float]


Scored = TypeVar("Scored", Candidate, Preview)


@dataclass(frozen=True)
class CurvePoint:
    """The best so far after each scored candidate."""

    images: int
    nfe: int
    seconds: float
    value: float
    candidate: str


@dataclass
class Target:
    """Stop as soon as one candidate reaches all of these scores. Empty: never."""

    scores: dict[str, float] = field(default_factory=dict)

    def reached(self, scores: dict[str, float]) -> bool:
        """Whether all of them are reached."""
        return bool(self.scores) and all(scores.get(name, math.nan) >= goal for name, goal in self.scores.items())


@dataclass(frozen=True)
class Ranking:
    """How scores become an order.

    Attributes:
        names: the verifiers, in order.
        ensemble: as :func:`noisewright.run.particle.read_ensemble` gives it.
    """

    names: tuple[str, ...]
    ensemble: str

    def values(self, scored: Sequence[Candidate | Preview]) -> list[float]:
        """What to sort by, higher better: the score, or the ensemble's value within ``scored``."""
        return ensemble_values([[one.scores[name] for name in self.names] for one in scored], self.ensemble)

    def top(self, scored: Sequence[Scored], count: int = 1) -> list[Scored]:
        """The best ``count``, best first; ties go to the earlier, NaN ranks last."""
        values = self.values(scored)
        order = sorted(range(len(scored)), key=lambda n: (-values[n], getattr(scored[n], "order", n)))
        return [scored[n] for n in order[:count]]

    def curve(self, rows: Sequence[tuple[Candidate, int, int, float]]) -> list[CurvePoint]:
        """Best-so-far after each candidate, in order; the value never falls.

        With several verifiers the value is the ensemble's within the whole pool, so that it has one scale.

        Args:
            rows: each candidate, how many there were by then, NFE and seconds.
        """
        points: list[CurvePoint] = []
        best, holder = -math.inf, ""
        for (one, images, nfe, seconds), value in zip(rows, self.values([row[0] for row in rows]), strict=True):
            if value > best or not holder:
                best, holder = value, one.id
            if best == -math.inf:
                continue  # nothing has a number yet
            points.append(CurvePoint(images, nfe, seconds, best, holder))
        return points


class Leaders:
    """The best candidate of each number of steps, for a single verifier: no pool has to be looked at."""

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking
        self._best: dict[int, Candidate] = {}

    def lead(self, one: Candidate) -> None:
        """Take a candidate into account; ties go to the earlier."""
        before = self._best.get(one.particle.steps)
        if before is None or before.id == one.id or self._ranking.top([before, one])[0] is one:
            self._best[one.particle.steps] = one

    def of(self, steps: int) -> Candidate | None:
        """The best with so many steps."""
        return self._best.get(steps)

    def clear(self) -> None:
        """Begin anew."""
        self._best.clear()
