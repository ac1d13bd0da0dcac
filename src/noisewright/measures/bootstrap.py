"""How far a mean can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np

RESAMPLES = 10_000
DRAWN_AT_ONCE = 2**22
"""Numbers of a block of resamples: memory does not grow with their product."""


def interval(
    values: Any, other: Any = None, *, groups: Any = None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: (n,) numbers, one for each prompt or image; those that are not finite are left out.
        other: (n,) numbers of the same prompts or images: the interval is that of the mean paired difference
            ``values - other``.
        groups: (n,) labels, such as the prompts of images: whole groups are drawn, as many as there are, each with all
            its values (the cluster bootstrap; Davison and Hinkley 1997, section 3.8). Values of one group need not be
            independent then; with a handful of groups the interval is too narrow.
        resamples: draws of n of the n, with replacement.
        seed: of the draws.

    Returns:
        Its lower and upper end, in the values' unit; NaN where there is no value.

    Raises:
        ValueError: on another number of labels than of values.
    """
    rows = np.asarray(values, dtype=np.float64)
    if other is not None:
        rows = rows - np.asarray(other, dtype=np.float64)
    kept = np.isfinite(rows)
    if not kept.any():
        return float("nan"), float("nan")
    sums: np.ndarray = rows[kept]
    counts: np.ndarray = np.ones(len(sums))
    if groups is not None:
        labels = np.asarray(groups)
        if labels.shape != rows.shape:
            raise ValueError(f"expected {len(rows)} labels of groups, one for each value, got {labels.size}")
        place = np.unique(labels[kept], return_inverse=True)[1]
        sums, counts = np.bincount(place, weights=sums), np.bincount(place)
    generator, block = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // len(sums))
    means = []
    for done in range(0, resamples, block):
        drawn = generator.integers(0, len(sums), (min(block, resamples - done), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
