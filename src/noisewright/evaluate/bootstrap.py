"""How far a mean can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np

RESAMPLES = 10_000
DRAWN_AT_ONCE = 2**22
"""Numbers of a block of resamples: memory does not grow with their product."""


def interval(values: Any, other: Any = None, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: (n,) numbers, one for each prompt or image; those that are not finite are left out.
        other: (n,) numbers of the same prompts or images: the interval is that of the mean paired difference
            ``values - other``.
        resamples: draws of n of the n, with replacement.
        seed: of the draws.

    Returns:
        Its lower and upper end, in the values' unit; NaN where there is no value.
    """
    rows = np.asarray(values, dtype=np.float64)
    if other is not None:
        rows = rows - np.asarray(other, dtype=np.float64)
    rows = rows[np.isfinite(rows)]
    if not len(rows):
        return float("nan"), float("nan")
    generator, block = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // len(rows))
    means = [
        rows[generator.integers(0, len(rows), (min(block, resamples - done), len(rows)))].mean(1)
        for done in range(0, resamples, block)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
