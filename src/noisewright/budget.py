"""Budgets in images, NFE or seconds, enforced where the cost is incurred."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

PHASES = ("encode", "denoise", "decode", "verify")
"""What the seconds of a run are booked under."""

UNITS = {
    "images": "images", "image": "images", "i": "images",
    "nfe": "nfe",
    "seconds": "seconds", "second": "seconds", "sec": "seconds", "s": "seconds",
    "minutes": "minutes", "minute": "minutes", "min": "minutes", "m": "minutes",
    "hours": "hours", "hour": "hours", "h": "hours",
}  # fmt: skip
IN_SECONDS = {"minutes": 60.0, "hours": 3600.0}

MOST = 1e15
"""Of any unit, in a budget: more is a mistake, and numbers up to there are exact."""


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
            if not value > 0:
                raise ValueError(f"expected a budget above 0 {unit}, got {max(value, -MOST):g}")
            if not value <= MOST:
                got = f"{value:g}" if isinstance(value, float) else f"about 1e+{math.floor(math.log10(value))}"
                raise ValueError(f"expected a budget of at most {MOST:g} {unit}, got {got}")

    def __str__(self) -> str:
        units = (("images", self.images), ("nfe", self.nfe), ("seconds", self.seconds))
        return ", ".join(f"{value:g} {unit}" for unit, value in units if value is not None) or "no limit"


def parse_budget(given: str | int | Budget | Iterable[str] | None) -> Budget:
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
    if isinstance(given, int):
        return Budget(images=given)
    texts = given.split(",") if isinstance(given, str) else [part for text in given for part in str(text).split(",")]
    limits: dict[str, float] = {}
    for text in texts:
        match = re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*([a-z]*)\s*", text.lower())
        if match is None:
            raise ValueError(f"expected a budget such as '64 images', '1920 nfe' or '30 s', got {text.strip()!r}")
        number, word = float(match[1]), match[2] or "images"
        unit = UNITS.get(word)
        if unit is None:
            raise ValueError(f"expected a budget in images, nfe or seconds, got unit {word!r} in {text.strip()!r}")
        if unit in IN_SECONDS:
            number, unit = number * IN_SECONDS[unit], "seconds"
        if unit != "seconds" and not number.is_integer():
            raise ValueError(f"expected a whole number of {unit}, got {text.strip()!r}")
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
