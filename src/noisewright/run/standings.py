"""Who is where in a run: what candidates are sorted by, best first, and why the first is before the second.

A run and whoever looks at one share these, so that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from noisewright.run.ledger import Ledger
from noisewright.run.particle import Candidate, Particle, ensemble_values, mean_ranks, noise_particle, z_sums

NAMES = {"rank": "mean rank", "zsum": "z-sum"}
"""What the value of an ensemble is called."""


class Scored(Protocol):
    """A candidate, or a preview of one."""

    @property
    def scores(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class CurvePoint:
    """The best so far after each scored candidate."""

    images: int
    nfe: int
    seconds: float
    value: float
    candidate: str


@dataclass(frozen=True)
class Order:
    """What candidates are sorted by: the score of the one verifier, or the value of the ensemble of several.

    Attributes:
        verifiers: their names.
        ensemble: as :func:`noisewright.run.particle.read_ensemble` gives it.
    """

    verifiers: tuple[str, ...]
    ensemble: str = "rank"

    @property
    def name(self) -> str:
        """What the value is: the verifier's name, or ``mean rank``, ``z-sum``, ``weighted sum``."""
        return self.verifiers[0] if len(self.verifiers) == 1 else NAMES.get(self.ensemble, "weighted sum")

    def rows(self, pool: Sequence[Scored]) -> list[list[float]]:
        """The scores that count, (candidates, verifiers)."""
        return [[one.scores.get(name, math.nan) for name in self.verifiers] for one in pool]

    def values(self, pool: Sequence[Scored]) -> list[float]:
        """The value of each within the pool, higher better; -inf where no verifier gave a number."""
        return ensemble_values(self.rows(pool), self.ensemble)

    def best_first(self, pool: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
        """The pool with its values, best first; ties go to the earlier."""
        valued = zip(pool, self.values(pool), strict=True)
        return sorted(valued, key=lambda one: (-_finite(one[1]), one[0].order))

    def parts(self, pool: Sequence[Candidate]) -> list[list[float]]:
        """What each verifier gives to the value of each candidate, (candidates, verifiers): they add up to it."""
        rows, count = self.rows(pool), len(self.verifiers)
        if count == 1 or not rows:
            return rows
        if "=" in self.ensemble:
            weights = [float(part.rpartition("=")[2]) for part in self.ensemble.split(",")]
            return [[w * value if w else 0.0 for w, value in zip(weights, row, strict=True)] for row in rows]
        one_by_one = z_sums if self.ensemble == "zsum" else mean_ranks
        share = 1 if self.ensemble == "zsum" else count
        columns = [one_by_one([[row[n]] for row in rows]) for n in range(count)]
        return [[column[k] / share for column in columns] for k in range(len(rows))]


def _finite(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def why(pool: Sequence[Candidate], order: Order) -> dict[str, Any] | None:
    """The first against the second: by how much it is before it, and which verifiers prefer which.

    Returns:
        ``first`` and ``second`` (each ``id``, ``seed``, ``value``), ``value_name``, ``by`` (the difference of their
        values), ``tie`` (whether only their order in the run decided), ``of`` (how many there are), and of each
        verifier in ``verifiers`` its ``name``, the two ``scores``, their ``places`` in the pool (1 is its best), whom
        it ``prefers`` (``first``, ``second`` or None) and ``by`` how much of the value that is. None where there are
        no two.
    """
    ranked = order.best_first(pool)[:2]
    if len(ranked) < 2:
        return None
    pool = list(pool)
    pair = [pool.index(one) for one, _ in ranked]
    rows, parts = order.rows(pool), order.parts(pool)
    opinions = []
    for n, name in enumerate(order.verifiers):
        column = [_finite(row[n]) for row in rows]
        scores = [rows[k][n] for k in pair]
        places = [1 + sum(value > column[k] for value in column) for k in pair]
        prefers = None if places[0] == places[1] else "first" if places[0] < places[1] else "second"
        opinions.append({"name": name, "scores": scores, "places": places, "prefers": prefers,
                         "by": _difference(parts[pair[0]][n], parts[pair[1]][n])})  # fmt: skip
    values = [value for _, value in ranked]
    first, second = ({"id": one.id, "seed": one.seed, "value": value} for one, value in ranked)
    return {
        "first": first,
        "second": second,
        "value_name": order.name,
        "of": len(pool),
        "by": _difference(*values),
        "tie": values[0] == values[1],
        "verifiers": opinions,
    }


def _difference(one: float, other: float) -> float | None:
    return one - other if math.isfinite(one) and math.isfinite(other) else None


def curve(ledger: Ledger, order: Order, steps: int) -> list[CurvePoint]:
    """Best-so-far after each candidate of the search, in order; the value never falls.

    With several verifiers the value is the ensemble's within the whole pool, so that it has one scale.

    Args:
        ledger: of the run.
        order: what the run sorts by.
        steps: those that the search samples with; renderings of other steps do not compare.
    """
    scored = [(ledger.candidates[key], images, nfe, seconds) for key, images, nfe, seconds in ledger.curve]
    scored = [row for row in scored if row[0].particle.steps == steps]
    points: list[CurvePoint] = []
    best, holder = -math.inf, ""
    for (one, images, nfe, seconds), value in zip(scored, order.values([row[0] for row in scored]), strict=True):
        if value > best or not holder:
            best, holder = value, one.id
        if best == -math.inf:
            continue  # nothing has a number yet
        points.append(CurvePoint(images, nfe, seconds, best, holder))
    return points


def baseline_of(seed: int, steps: int) -> Particle:
    """What the model gives by itself for a seed: its starting noise, denoised to the end."""
    return Particle("denoise", (noise_particle(seed, steps),), {"to": steps}, steps, steps)
