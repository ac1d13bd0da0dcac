"""How the tables of the benchmark of schedules are written, and the correlations that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import _schedules_fits as fits
from _schedules_store import Cell

if TYPE_CHECKING:
    from _schedules_study import Option

FEWEST_FITS = 8
"""Below so many fits a correlation gets no interval."""


def ends(low: float, high: float, digits: int = 4) -> str:
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def heading(text: str, columns: Sequence[str]) -> None:
    print(f"\n{text}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")


def line(*cells: Any) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def before_of(cell: Cell) -> Cell:
    return replace(cell, variant="before")


def fall(one: Option) -> float:
    """The relative drop of the cumulative error."""
    return 1 - fits.cpe_after(one.figures) / one.figures["cpe_before"]


def correlation(pairs: np.ndarray, resamples: int = 10_000) -> str:
    """Pearson's correlation of (fits, 2) with a bootstrap interval over fits, in words."""
    value = np.corrcoef(pairs.T)[0, 1]
    text = f"correlation {value:+.2f}"
    if len(pairs) >= FEWEST_FITS:
        rng = np.random.default_rng(0)
        drawn = pairs[rng.integers(0, len(pairs), (resamples, len(pairs)))]
        centred = drawn - drawn.mean(1, keepdims=True)
        scale = np.sqrt((centred**2).sum(1).prod(1))
        found = centred.prod(2).sum(1)[scale > 0] / scale[scale > 0]
        low, high = np.percentile(found, [2.5, 97.5])
        text += f" {ends(low, high, 2)}"
    else:
        text += " (too few fits for an interval)"
    return f"{text} over {len(pairs)} fits"
