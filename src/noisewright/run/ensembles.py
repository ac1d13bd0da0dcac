"""Several verifiers as one value: mean rank, z-sum, weighted sum; and how an ensemble is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noisewright.outside.messages import cut, short


def mean_ranks(rows: list[list[float]]) -> list[float]:
    """Mean over verifiers of the rank of each candidate, 0 worst to 1 best (Ma et al. 2025, section 4.2).

    Args:
        rows: (candidates, verifiers) scores, higher better; NaN ranks below everything. Equal scores share the mean
            of their ranks.

    Returns:
        One number in [0, 1] for each candidate; 1 where there is only one.
    """
    count = len(rows)
    if count <= 1:
        return [1.0] * count
    totals = [0.0] * count
    width = len(rows[0])
    for column in range(width):
        values = [-math.inf if math.isnan(row[column]) else row[column] for row in rows]
        order = sorted(range(count), key=values.__getitem__)
        first = 0
        while first < count:
            last = first
            while last + 1 < count and values[order[last + 1]] == values[order[first]]:
                last += 1
            for place in range(first, last + 1):
                totals[order[place]] += (first + last) / 2 / (count - 1)
            first = last + 1
    return [total / width for total in totals]


def z_sums(rows: list[list[float]]) -> list[float]:
    """Sum over verifiers of each candidate's z-score within the pool; NaN counts as four deviations below."""
    count = len(rows)
    totals = [0.0] * count
    for column in range(len(rows[0]) if rows else 0):
        values = [row[column] for row in rows if not math.isnan(row[column])]
        mean = sum(values) / len(values) if values else 0.0
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)) if values else 0.0
        for number, row in enumerate(rows):
            if math.isnan(row[column]):
                totals[number] -= 4.0
            elif spread > 0:
                totals[number] += (row[column] - mean) / spread
    return totals


def weighted_sums(rows: list[list[float]], weights: Sequence[float]) -> list[float]:
    """Weighted sum of each candidate's scores as they are, so that the weights carry the units.

    Args:
        rows: (candidates, verifiers).
        weights: one for each verifier; where it is 0 its score is not looked at.

    Returns:
        One sum for each candidate; -inf where a score that counts is NaN.
    """
    sums = [sum(w * value for w, value in zip(weights, row, strict=True) if w) for row in rows]
    return [-math.inf if math.isnan(total) else total for total in sums]


ENSEMBLES = {"rank": mean_ranks, "zsum": z_sums}


def ensemble_weights(given: str | Mapping[str, float]) -> dict[str, float]:
    """The weights in ``{"clip": 1, "aesthetic": 0.5}`` or ``"clip=1,aesthetic=0.5"``; none in an ensemble's name.

    Raises:
        ValueError: on weights that are not finite numbers, or all 0.
    """
    if isinstance(given, str) and "=" not in given:
        return {}
    weights: dict[str, float] = {}
    pairs = given.items() if isinstance(given, Mapping) else (part.rpartition("=")[::2] for part in given.split(","))
    for key, value in pairs:
        name = str(key).strip()
        try:
            if isinstance(value, bool):
                raise TypeError
            weights[name] = float(value)
        except (TypeError, ValueError, OverflowError):
            whose = cut(name) or "a verifier"
            raise ValueError(f"expected a number as the weight of {whose}, got {short(value)}") from None
    if not all(math.isfinite(value) for value in weights.values()) or not any(weights.values()):
        raise ValueError(f"expected finite weights that are not all 0, got {short(given)}")
    return weights


def read_ensemble(given: str | Mapping[str, float], names: Sequence[str]) -> str:
    """An ensemble as it is recorded: its name, or the weights of a weighted sum in the verifiers' order.

    Args:
        given: ``rank``, ``zsum``, or what :func:`ensemble_weights` takes.
        names: the verifiers.

    Raises:
        ValueError: on weights that are not one for each of at least two verifiers.
    """
    weights = ensemble_weights(given)
    if not weights:
        return str(given)
    if len(names) < 2:
        raise ValueError(f"expected several verifiers for a weighted sum, got {', '.join(names)} alone")
    if set(weights) != set(names) or any("," in name for name in names):
        raise ValueError(f"expected a weight for each of {', '.join(names)}, got one for {cut(', '.join(weights))}")
    return ",".join(f"{name}={weights[name]!r}" for name in names)


def ensemble_values(rows: list[list[float]], ensemble: str) -> list[float]:
    """What the pool is sorted by: the score itself for one verifier, the ensemble's value for several.

    Args:
        rows: (candidates, verifiers).
        ensemble: as :func:`read_ensemble` gives it: ``rank``, ``zsum``, or weights in the verifiers' order.

    Returns:
        One value for each candidate, higher better; -inf where no verifier gave a number.
    """
    if not rows:
        return []
    if len(rows[0]) == 1:
        values = [row[0] for row in rows]
    elif "=" in ensemble:
        values = weighted_sums(rows, [float(part.rpartition("=")[2]) for part in ensemble.split(",")])
    else:
        values = ENSEMBLES[ensemble](rows)
    return [-math.inf if all(math.isnan(s) for s in row) else v for row, v in zip(rows, values, strict=True)]
