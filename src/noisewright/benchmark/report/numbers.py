"""Numbers of a report: as many decimals as their intervals deserve, and what is written where there is none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from noisewright.benchmark.compared import Compared, Difference, Interval, Measured
from noisewright.evaluate.numbers import MOST_DECIMALS, decimals, written
from noisewright.evaluate.words import duration

NOTHING = "-"
ALIKE = 1e-4
"""Means of the same images, relative to their size: scores depend a little on who stood in a micro-batch."""

HIGHER, LOWER = "▲", "▼"
"""Marks of a difference that stands."""


def places_of(intervals: Iterable[Interval | None]) -> int:
    """Decimals for means with intervals: two significant digits of what is half an interval, as a rule."""
    found = [one for one in intervals if one is not None and math.isfinite(one.mean)]
    halves = [(one.high - one.low) / 2 for one in found if math.isfinite(one.high - one.low) and one.high > one.low]
    if not halves:
        return min(4, decimals(one.mean for one in found))
    return max(0, min(MOST_DECIMALS, 1 - math.floor(math.log10(statistics.median(halves)))))


def number(value: float | None, places: int) -> str:
    """A number, or a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else written(value, places)


def signed(value: float | None, places: int) -> str:
    """A difference, with its sign."""
    text = number(value, places)
    return text if text.startswith("-") or not text.strip("0.") else f"+{text}"


def span(interval: Interval, places: int, *, sign: bool = False) -> str:
    """The ends of an interval in brackets; nothing where there is none."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    write = signed if sign else number
    return f"[{write(interval.low, places)}, {write(interval.high, places)}]"


def chance(p: float) -> str:
    """A p, as it is written."""
    if not math.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def share(value: float) -> str:
    """A share of pairs, in percent."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else NOTHING


def mark_of(difference: Difference | None) -> str:
    """How a difference that stands is marked."""
    if difference is None or not difference.stands:
        return ""
    return HIGHER if difference.mean > 0 else LOWER


def cost_text(name: str, measured: Measured | None) -> str:
    """A mean cost: whole NFE and images, seconds for people."""
    mean = math.nan if measured is None else measured.best.mean
    if not math.isfinite(mean):
        return NOTHING
    if name == "seconds":
        return duration(mean) if mean >= 60 else f"{mean:.3g} s"
    if name == "diversity":
        return f"{mean:.3f}"
    return f"{mean:,.0f}" if mean >= 100 or mean == int(mean) else f"{mean:.1f}"


def role_of(compared: Compared, score: str) -> str:
    """What a score is at the points that have it: one role, or that it is several."""
    roles = {point.scores[score].role for point in compared.points if score in point.scores}
    return next(iter(roles)) if len(roles) == 1 else "verifier or judge"


def titled(compared: Compared, score: str) -> str:
    """A score's name with its role."""
    role = role_of(compared, score)
    return score if role == "other" else f"{score} ({role})"


def common_baseline(compared: Compared, score: str) -> Interval | None:
    """The plain images' mean where it is the same at all points, as it is unless points differ in more than search."""
    found = [one.baseline for point in compared.points if (one := point.scores.get(score)) and one.baseline]
    same = found and all(math.isclose(one.mean, found[0].mean, rel_tol=ALIKE, abs_tol=ALIKE) for one in found)
    return found[0] if same and math.isfinite(found[0].mean) else None


def ordered_scores(compared: Compared) -> list[str]:
    """The scores with the one that decides first, then the other judges, then verifiers."""
    first = [compared.deciding] if compared.deciding else []
    return list(dict.fromkeys([*first, *compared.judges, *compared.scores]))
