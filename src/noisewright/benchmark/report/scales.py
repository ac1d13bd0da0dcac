"""Axes of a plot: which part of the numbers is shown, and round ticks on it. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

LOG_RATIO = 8.0
"""Numbers above 0 whose largest is so many times the smallest stand on a logarithmic axis, where that is allowed."""

SAME = 1e-9
"""Numbers that differ by no more of their size are one number, rounded otherwise."""

LARGEST = 1e100
"""What is larger, or as much smaller, stands at the end: rows may be anybody's, and floats end at 1e308."""

MARGIN = 0.06
"""Of an axis' length, left free at both ends."""

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Between ticks, times a power of ten."""


@dataclass(frozen=True)
class Scale:
    """One axis.

    Attributes:
        low: the number at its beginning.
        high: the number at its end; above ``low``.
        log: whether equal ratios have equal lengths.
        ticks: round numbers from ``low`` to ``high``, rising.
    """

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a number stands: 0 at the beginning of the axis, 1 at its end."""
        value = max(-LARGEST, min(LARGEST, value))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def scale_of(values: Iterable[float], *, count: int = 5, log: bool = False, whole: bool = False) -> Scale:
    """The axis on which all of some numbers stand.

    Args:
        values: finite numbers; without any the axis goes from 0 to 1.
        count: about how many ticks.
        log: whether the axis may be logarithmic: it is where the numbers' ratio is :data:`LOG_RATIO` or more.
        whole: only whole numbers are ticks.
    """
    finite = [max(-LARGEST, min(LARGEST, float(one))) for one in values if math.isfinite(one)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if log and low > 1 / LARGEST and high / low >= LOG_RATIO:
        pad = (high / low) ** MARGIN
        return Scale(low / pad, high * pad, True, _log_ticks(low / pad, high * pad, count))
    if high - low <= max(SAME * max(abs(low), abs(high)), 1 / LARGEST):
        wide = abs(high) * 0.1 if abs(high) * 0.1 > 1 / LARGEST else 0.5
        low, high = low - wide, high + wide
    pad = (high - low) * MARGIN
    # An axis of what cannot be below nothing does not begin there.
    first = 0.0 if low >= 0 and low - pad < 0 else low - pad
    return Scale(first, high + pad, False, _ticks(first, high + pad, count, whole))


def _ticks(low: float, high: float, count: int, whole: bool) -> tuple[float, ...]:
    """Round numbers, at least two where these need not be whole."""
    found: list[float] = []
    while len(found) < 2:
        rough = (high - low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(one * power for one in STEPS if one * power >= rough * 0.85)
        step = max(1.0, math.ceil(step - 1e-9)) if whole else step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        # The product of a step and a whole number is not always the nearest float to the round number.
        found = [round(n * step, 12 - math.floor(math.log10(step))) for n in range(first, last + 1)]
        if whole and step == 1.0:
            break
        count += 1
    return tuple(found)


def _log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Of the numbers 1, 2 and 5 times powers of ten, so many that no more than ``count + 1`` are left."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for leads in ((1, 2, 5), (1, 3), (1,)):
        found = [one for n in powers for lead in leads if low <= (one := lead * 10.0**n) <= high]
        if len(found) <= count + 1:
            break
    return tuple(found[:: math.ceil(len(found) / (count + 1))]) if found else ()


def tick_texts(scale: Scale) -> list[str]:
    """The ticks as they are written below or beside an axis: all with as many decimals, thousands as ``k``."""
    ticks = scale.ticks
    largest = max(map(abs, ticks), default=0.0)
    short = [_short(one) for one in ticks]
    if scale.log or (largest >= 10_000 and len(set(short)) == len(short)):
        return short
    step = min((b - a for a, b in pairwise(ticks)), default=abs(largest) or 1.0)
    places = next((n for n in range(12) if abs(round(step, n) - step) < step * 1e-6), 12)
    return [f"{one + 0.0:.{places}f}" for one in ticks]


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 10_000 if letter == "k" else 0):
            return f"{value / size:g}{letter}"
    return f"{value:g}"
