"""Budgets in images, NFE or seconds, enforced where the cost is incurred."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from noisewright.outside.messages import short

PHASES = ("encode", "denoise", "decode", "verify")
"""What the seconds of a run are booked under."""

UNITS = {
    "images": "images", "image": "images", "i": "images",
    "nfe": "nfe",
    "seconds": "seconds", "second": "seconds", "sec": "seconds", "s": "seconds",
    "minutes": "minutes", "minute": "minutes", "min": "minutes", "m": "minutes",
    "hours": "hours", "hour": "hours", "h": "hours",
}  # fmt: skip
MOST = 10**15
"""In any unit: more is a mistake, and numbers up to there are exact."""

IN_SECONDS = {"minutes": 60.0, "hours": 3600.0}


@dataclass(frozen=True)
class Budget:
    """How much a run may spend; the first limit that runs out ends it. None means no limit in that unit.

    Attributes:
        images: finished images, those of the final rendering and of the baseline included.
        nfe: guided model evaluations.
        seconds: from the start of the search to its last image, verifier time included, model loading not.
    """

    images: int | None = None
    nfe: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for unit in ("images", "nfe", "seconds"):
            value = getattr(self, unit)
            if value is None:
                continue
            kind: Any = numbers.Real if unit == "seconds" else numbers.Integral
            if not isinstance(value, kind) or isinstance(value, bool):
                what = "a number" if unit == "seconds" else "a whole number"
                raise TypeError(f"expected {what} of {unit} as a budget, got {short(value)}")
            if not 0 < value <= MOST:
                limit = f"at most {MOST}" if value > 0 else "above 0"
                raise ValueError(f"expected a budget {limit} {unit}, got {short(value)}")
            object.__setattr__(self, unit, float(value) if unit == "seconds" else int(value))

    def __str__(self) -> str:
        units = (("images", self.images), ("nfe", self.nfe), ("seconds", self.seconds))
        return ", ".join(f"{value:g} {unit}" for unit, value in units if value is not None) or "no limit"


def parse_budget(given: str | int | Budget | Collection[str | int] | None) -> Budget:
    """Read ``"64 images"``, ``"1920 nfe"``, ``"30s"``, several of them (a list, or with commas), or a number of images.

    Raises:
        ValueError: naming what was expected and got, on a malformed text, an unknown unit, or a value that is not
            above 0.
    """
    if given is None:
        return Budget()
    if isinstance(given, Budget):
        return given
    if isinstance(given, bool):
        raise ValueError(f"expected a budget such as '64 images', got {given}")
    if isinstance(given, numbers.Integral):
        return Budget(images=int(given))
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple, set, frozenset)):
        raise TypeError(f"expected a budget such as '64 images', got {short(given)}")
    texts: list[str] = []
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, (str, numbers.Integral)):
            raise TypeError(f"expected a budget such as '64 images', got {short(one)}")
        texts += one.split(",") if isinstance(one, str) else [str(min(int(one), MOST + 1))]
        if len(texts) > len(UNITS):
            raise ValueError("expected one budget in each of images, nfe and seconds, got several")
    limits: dict[str, float] = {}
    for text in texts:
        match = re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*([a-z]*)\s*", text.lower())
        if match is None:
            raise ValueError(f"expected a budget such as '64 images', '1920 nfe' or '30 s', got {short(text.strip())}")
        number, word = float(match[1]), match[2] or "images"
        unit = UNITS.get(word)
        if unit is None:
            given_as = f"unit {short(word)} in {short(text.strip())}"
            raise ValueError(f"expected a budget in images, nfe or seconds, got {given_as}")
        if unit in IN_SECONDS:
            number, unit = number * IN_SECONDS[unit], "seconds"
        if number > MOST:
            raise ValueError(f"expected a budget of at most {MOST} {unit}, got {number:g}")
        if unit != "seconds" and not number.is_integer():
            raise ValueError(f"expected a whole number of {unit}, got {short(text.strip())}")
        if unit in limits:
            raise ValueError(f"expected one budget in {unit}, got several")
        limits[unit] = number
    return Budget(
        images=int(limits["images"]) if "images" in limits else None,
        nfe=int(limits["nfe"]) if "nfe" in limits else None,
        seconds=limits.get("seconds"),
    )


@dataclass
class Spent:
    """What a run has used so far, whatever number of processes it took."""

    images: int = 0
    nfe: int = 0
    forwards: int = 0
    seconds: float = 0.0


def affordable(
    budget: Budget, spent: Spent, count: int, *, nfe_each: int, images_each: int, seconds_each: float, reserve: Spent
) -> int:
    """How many of ``count`` equal pieces of work may run now, in [0, count].

    Args:
        budget: the limits.
        spent: what is gone.
        count: how many pieces are wanted.
        nfe_each: NFE of one piece.
        images_each: finished images of one piece (0 or 1).
        seconds_each: the estimate for one piece; 0 where nothing is known yet.
        reserve: what must be left for the end (rendering the winner and the baseline, saving).
    """
    allowed = float(count)
    if budget.images is not None and images_each:
        allowed = min(allowed, (budget.images - spent.images - reserve.images) / images_each)
    if budget.nfe is not None and nfe_each:
        allowed = min(allowed, (budget.nfe - spent.nfe - reserve.nfe) / nfe_each)
    if budget.seconds is not None:
        left = budget.seconds - spent.seconds - reserve.seconds
        if left <= 0:
            return 0
        if seconds_each > 0:
            allowed = min(allowed, left / seconds_each)
    return max(0, math.floor(allowed + 1e-9))
