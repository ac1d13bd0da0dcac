"""Why the first is before the second, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noisewright.run.particle import Candidate
from noisewright.run.ranking import Ranking


def _finite(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def explain(pool: Sequence[Candidate], ranking: Ranking) -> dict[str, Any] | None:
    """The first against the second: by how much it is before it, and which verifiers prefer which.

    Returns:
        ``first`` and ``second`` (each ``id``, ``seed``, ``value``), ``value_name``, ``by`` (the difference of their
        values), ``tie`` (whether only their order in the run decided), ``of`` (how many there are), and of each
        verifier in ``verifiers`` its ``name``, the two ``scores``, their ``places`` in the pool (1 is its best), whom
        it ``prefers`` (``first``, ``second`` or None) and ``by`` how much of the value that is. None where there are
        no two.
    """
    ranked = ranking.best_first(pool)[:2]
    if len(ranked) < 2:
        return None
    pool = list(pool)
    pair = [pool.index(one) for one, _ in ranked]
    rows, parts = ranking.rows(pool), ranking.parts(pool)
    opinions = []
    for n, name in enumerate(ranking.names):
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
        "value_name": ranking.name,
        "of": len(pool),
        "by": _difference(*values),
        "tie": values[0] == values[1],
        "verifiers": opinions,
    }


def _difference(one: float, other: float) -> float | None:
    return one - other if math.isfinite(one) and math.isfinite(other) else None
