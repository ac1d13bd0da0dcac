"""Scores as people read them: as many decimals as their spread deserves. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable

DIGITS = 3
"""Significant digits of the spread that are written."""

PRECISION = 7
"""Significant digits that a score of 32 bits has."""

MOST_DECIMALS = 8

LARGE, MOST_PLACES = 1e15, 12
"""Numbers from here on, and more decimals than these, are written with a power of ten."""


def decimals(values: Iterable[float | None]) -> int:
    """How many decimals numbers deserve: three significant digits of their spread.

    Of 31.25 and 31.87 two digits after the comma say nothing of 0.0001, of 0.12341 and 0.12345 four say nothing at all.

    Args:
        values: of one verifier; None and NaN are left out. Where all are equal, their size counts as the spread.

    Returns:
        A number in [0, 8], and no more than 32 bits hold.
    """
    finite = [float(one) for one in values if one is not None and math.isfinite(one)]
    largest = max(map(abs, finite), default=0.0)
    spread = max(finite) - min(finite) if finite else 0.0
    wanted = DIGITS - 1 - _exponent(spread or largest or 1.0)
    held = PRECISION - 1 - _exponent(largest or 1.0)
    return max(0, min(wanted, held, MOST_DECIMALS))


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))


def written(value: float | None, places: int) -> str:
    """A number with so many decimals; ``nan`` where there is none, and no minus before nothing.

    What would be a line of digits is a power of ten.
    """
    if value is None or math.isnan(value):
        return "nan"
    if abs(value) >= LARGE or places > MOST_PLACES:
        return f"{value:.4g}"
    text = f"{value:.{places}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def gained(before: float | None, after: float | None, places: int) -> str:
    """A change with its sign; nothing where one of the two is no number."""
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        return ""
    text = written(after - before, places)
    return text if text.startswith("-") else f"+{text}"
