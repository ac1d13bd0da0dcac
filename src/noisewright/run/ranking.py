"""Which candidate is better: values, the best few, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from noisewright.run.ensembles import ensemble_values, mean_ranks, z_sums
from noisewright.run.particle import Candidate, Particle

ENSEMBLE_NAMES = {"rank": "mean rank", "zsum": "z-sum"}
"""What the value of an ensemble is called; that of weights is a weighted sum."""


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
        ensemble: as :func:`noisewright.run.ensembles.read_ensemble` gives it.
    """

    names: tuple[str, ...]
    ensemble: str = "rank"

    @property
    def name(self) -> str:
        """What the value is: the verifier's name, or ``mean rank``, ``z-sum``, ``weighted sum``."""
        return self.names[0] if len(self.names) == 1 else ENSEMBLE_NAMES.get(self.ensemble, "weighted sum")

    def rows(self, scored: Sequence[Candidate | Preview]) -> list[list[float]]:
        """The scores that count, (scored, verifiers)."""
        return [[one.scores.get(name, math.nan) for name in self.names] for one in scored]

    def values(self, scored: Sequence[Candidate | Preview]) -> list[float]:
        """What to sort by, higher better: the score, or the ensemble's value within ``scored``."""
        return ensemble_values(self.rows(scored), self.ensemble)

    def best_first(self, scored: Sequence[Scored]) -> list[tuple[Scored, float]]:
        """All of them with their values, best first; ties go to the earlier, NaN ranks last."""
        values = [-math.inf if math.isnan(value) else value for value in self.values(scored)]
        order = sorted(range(len(scored)), key=lambda n: (-values[n], getattr(scored[n], "order", n)))
        return [(scored[n], values[n]) for n in order]

    def top(self, scored: Sequence[Scored], count: int = 1) -> list[Scored]:
        """The best ``count``, best first; ties go to the earlier, NaN ranks last."""
        return [one for one, _ in self.best_first(scored)[:count]]

    def parts(self, scored: Sequence[Candidate | Preview]) -> list[list[float]]:
        """What each verifier gives to the value of each, (scored, verifiers): they add up to it."""
        rows, count = self.rows(scored), len(self.names)
        if count == 1 or not rows:
            return rows
        if "=" in self.ensemble:
            weights = [float(part.rpartition("=")[2]) for part in self.ensemble.split(",")]
            return [[w * value if w else 0.0 for w, value in zip(weights, row, strict=True)] for row in rows]
        alone = z_sums if self.ensemble == "zsum" else mean_ranks
        share = 1 if self.ensemble == "zsum" else count
        columns = [alone([[row[n]] for row in rows]) for n in range(count)]
        return [[column[k] / share for column in columns] for k in range(len(rows))]

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
    """The best candidate of each kind, for a single verifier: no pool has to be looked at."""

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking
        self._best: dict[tuple[int, str | None], Candidate] = {}

    def lead(self, one: Candidate) -> None:
        """Take a candidate into account; ties go to the earlier."""
        before = self._best.get(one.particle.kind)
        if before is None or before.id == one.id or self._ranking.top([before, one])[0] is one:
            self._best[one.particle.kind] = one

    def of(self, kind: tuple[int, str | None]) -> Candidate | None:
        """The best of a kind (:attr:`Particle.kind`)."""
        return self._best.get(kind)

    def clear(self) -> None:
        """Begin anew."""
        self._best.clear()
