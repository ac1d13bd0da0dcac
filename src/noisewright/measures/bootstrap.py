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
    low, high = intervals(rows[:, None], groups=groups, resamples=resamples, seed=seed)
    return float(low[0]), float(high[0])


def intervals(
    values: Any, *, groups: Any = None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`interval` of each of many columns, in a few products of matrices.

    Columns with as many groups share their draws, so each interval is what :func:`interval` gives of that column alone.

    Args:
        values: (n, columns).
        groups: (n,) labels, as there.
        resamples: as there.
        seed: as there.

    Returns:
        (columns,) lower and (columns,) upper ends.

    Raises:
        ValueError: on another number of labels than of rows.
    """
    sums, counts = by_group(values, groups)
    kept = counts > 0
    sizes = kept.sum(0)
    low, high = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    at_once = max(1, DRAWN_AT_ONCE // resamples)
    for size in np.unique(sizes[sizes > 0]):
        alike = np.flatnonzero(sizes == size)
        for first in range(0, len(alike), at_once):
            some = alike[first : first + at_once]
            order = np.argsort(~kept[:, some], axis=0, kind="stable")[:size]  # groups with a value, in their order
            means = _resampled(
                np.take_along_axis(sums[:, some], order, 0), np.take_along_axis(counts[:, some], order, 0),
                resamples, seed,
            )  # fmt: skip
            low[some], high[some] = np.percentile(means, [2.5, 97.5], axis=1, overwrite_input=True)
    return low, high


def by_group(values: Any, groups: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The sums of each group's finite values, and how many there are.

    Args:
        values: (n, columns).
        groups: (n,) labels; by default each row is a group.

    Returns:
        (groups, columns) sums and counts, the groups sorted by label.

    Raises:
        ValueError: on another number of labels than of rows.
    """
    rows = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(rows)
    sums, counts = np.where(finite, rows, 0.0), finite.astype(np.float64)
    if groups is None:
        return sums, counts
    labels = np.asarray(groups)
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"expected {len(rows)} labels of groups, one for each value, got {labels.size}")
    if not len(labels):
        return sums, counts
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.add.reduceat(sums[order], starts, axis=0), np.add.reduceat(counts[order], starts, axis=0)


def _resampled(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(columns, resamples): the means of draws of the groups, each of which has a value in every column."""
    size = len(sums)
    generator, block = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // size)
    means = np.empty((sums.shape[1], resamples))
    even = counts[0, 0] if (counts == counts[0, 0]).all() else None
    for done in range(0, resamples, block):
        rows = min(block, resamples - done)
        drawn = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        of = size * even if even is not None else (times @ counts).T
        means[:, done : done + rows] = (times @ sums).T / of
    return means
