"""Two methods on the same prompts: tests of their difference, and how alike two orders are; many columns at once.

Everything takes columns, (n, columns), of which each row is a prompt and seed. Rows of one group (the seeds of a
prompt) are drawn, or flipped, together. Intervals of means are those of :mod:`noisewright.measures.bootstrap`.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from noisewright.measures.bootstrap import DRAWN_AT_ONCE, by_group, intervals

DRAWS = 10_000
"""Of signs, where all of them are too many."""

EXACT = 13
"""Groups whose 2^EXACT = 8,192 flips are all taken, so that the p is exact."""

ROUNDING = 1e-12
"""Of the sum of absolute differences: means that differ by less are equal but for rounding."""

Z = NormalDist().inv_cdf(0.975)


def paired_intervals(
    values: Any, other: Any, *, groups: Any = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of the paired differences ``values - other`` with its 95 % percentile bootstrap interval.

    Args:
        values: (n, columns); a pair in which either side is not finite is left out.
        other: (n, columns).
        groups: (n,) labels; see :func:`~noisewright.measures.bootstrap.interval`.
        seed: of the draws.

    Returns:
        (columns,) means, lower and upper ends; NaN where no pair is left.

    Raises:
        ValueError: on another number of labels than of rows.
    """
    differences = np.asarray(values, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return (means(differences), *intervals(differences, groups=groups, seed=seed))


def means(values: Any) -> np.ndarray:
    """(columns,): the mean of the finite numbers of each column of (n, columns); NaN where there is none."""
    sums, counts = by_group(values, np.zeros(len(values), dtype=np.int64))
    if not len(sums):
        return np.full(np.shape(values)[1], np.nan)
    with np.errstate(invalid="ignore"):
        return sums[0] / counts[0]


def sign_flip(differences: Any, *, groups: Any = None, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Two-sided p that the differences are symmetric around 0: the sign-flip permutation test of their mean.

    Under the hypothesis that two methods are alike each prompt's difference could as well have the other sign (Fisher
    1935, section 21; Good 2005, section 3.2). The p is the share of flips whose mean is at least as far from 0: of all
    flips where at most :data:`EXACT` groups differ, else of ``draws`` random ones, with the observed one counted among
    them (Phipson and Smyth 2010), so that it is never 0.

    Args:
        differences: (n, columns); those that are not finite are left out.
        groups: (n,) labels: the differences of one group are flipped together.
        draws: random flips.
        seed: of them.

    Returns:
        (columns,) p in (0, 1]; NaN where no difference is left.

    Raises:
        ValueError: on another number of labels than of rows.
    """
    sums, counts = by_group(differences, groups)
    found = np.where(counts.any(0), 1.0, np.nan)
    differing = (sums != 0).sum(0)
    few, many = np.flatnonzero((differing > 0) & (differing <= EXACT)), np.flatnonzero(differing > EXACT)
    if len(few):
        most = int(differing[few].max())
        order = np.argsort(sums[:, few] == 0, axis=0, kind="stable")[:most]
        flips = 1 - 2 * (np.arange(2**most)[:, None] >> np.arange(most) & 1)
        found[few] = _as_far(np.take_along_axis(sums[:, few], order, 0), [flips]) / len(flips)
    if len(many):
        found[many] = (1 + _as_far(sums[:, many], _random_flips(len(sums), draws, seed))) / (1 + draws)
    return found


def _random_flips(size: int, draws: int, seed: int) -> Any:
    generator, block = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // size)
    for done in range(0, draws, block):
        yield 1 - 2 * generator.integers(0, 2, (min(block, draws - done), size), dtype=np.int8)


def _as_far(sums: np.ndarray, flips: Any) -> np.ndarray:
    """(columns,): of how many flips the sum of (groups, columns) is at least as far from 0 as without."""
    least = np.abs(sums.sum(0)) - ROUNDING * np.abs(sums).sum(0)
    found, at_once = np.zeros(sums.shape[1], dtype=np.int64), max(1, DRAWN_AT_ONCE // DRAWS)
    for signs in flips:
        weights = signs.astype(np.float64)
        for first in range(0, sums.shape[1], at_once):
            some = slice(first, first + at_once)
            found[some] += (np.abs(weights @ sums[:, some]) >= least[some]).sum(0)
    return found


def holm(p: Any) -> np.ndarray:
    """Adjusts p by Holm's step-down correction (Holm 1979).

    Where every p below 0.05 after it counts as a finding, the chance that any finding is false is at most 5 %.

    Args:
        p: (tests,); NaN stays NaN and is no test.

    Returns:
        (tests,) in [0, 1], at least p.
    """
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    there = np.flatnonzero(~np.isnan(given))
    order = there[np.argsort(given[there], kind="stable")]
    stepped = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def ranks(values: Any) -> np.ndarray:
    """Ranks from 1 within each column of (n, columns), equal values their mean rank; NaN for NaN."""
    rows = np.asarray(values, dtype=np.float64)
    if not len(rows):
        return rows.copy()
    order = np.argsort(rows, axis=0, kind="stable")
    sorted_rows = np.take_along_axis(rows, order, 0)
    places = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    new = np.ones(rows.shape, dtype=bool)
    new[1:] = sorted_rows[1:] != sorted_rows[:-1]
    last = np.ones(rows.shape, dtype=bool)
    last[:-1] = new[1:]
    first_of = np.maximum.accumulate(np.where(new, places, 0), axis=0)
    last_of = np.minimum.accumulate(np.where(last, places, len(rows))[::-1], axis=0)[::-1]
    found = np.empty(rows.shape)
    np.put_along_axis(found, order, (first_of + last_of) / 2 + 1, 0)
    return np.where(np.isnan(rows), np.nan, found)


def spearman(x: Any, y: Any) -> np.ndarray:
    """Spearman's rank correlation of the columns of x with those of y, equal values at their mean rank.

    Args:
        x: (n, columns); a row in which either is NaN is left out of that column.
        y: (n, columns).

    Returns:
        (columns,) in [-1, 1]; NaN where one side is constant or fewer than two rows are left.
    """
    first, second, kept = _both(x, y)
    first, second = ranks(first), ranks(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = kept.sum(0)
        first = np.where(kept, first - np.nansum(first, 0) / count, 0.0)
        second = np.where(kept, second - np.nansum(second, 0) / count, 0.0)
        return (first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0))


def kendall(x: Any, y: Any) -> np.ndarray:
    """Kendall's tau-b (Kendall 1945) of the columns of x with those of y; ties on either side are corrected for.

    Time grows with n^2, memory does not.

    Args:
        x: (n, columns); a row in which either is NaN is left out of that column.
        y: (n, columns).

    Returns:
        (columns,) in [-1, 1]; NaN where one side is constant or fewer than two rows are left.
    """
    first, second, _ = _both(x, y)
    size, columns = first.shape
    alike, of_first, of_second = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    block = max(1, DRAWN_AT_ONCE // max(1, size * columns))
    for begin in range(0, size, block):
        some = slice(begin, begin + block)
        signs, others = _signs(first, some), _signs(second, some)
        alike += (signs * others).sum((0, 1), dtype=np.int64)
        of_first += np.count_nonzero(signs, axis=(0, 1))
        of_second += np.count_nonzero(others, axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return alike / np.sqrt(of_first * of_second)


def _both(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both with NaN wherever one has it, and where there is none."""
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"expected two arrays (n, columns) of one shape, got {first.shape} and {second.shape}")
    kept = ~(np.isnan(first) | np.isnan(second))
    return np.where(kept, first, np.nan), np.where(kept, second, np.nan), kept


def _signs(values: np.ndarray, some: slice) -> np.ndarray:
    """(rows, n, columns): 1 where a row is above another, -1 where it is below; 0 where equal or NaN."""
    rows = values[some, None]
    return (rows > values).view(np.int8) - (rows < values).view(np.int8)


def wilson(successes: Any, trials: Any) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a rate (Wilson 1927), which stays in [0, 1] and has a width at 0 and 1 too.

    Args:
        successes: how many; any shape.
        trials: of how many.

    Returns:
        Lower and upper ends; NaN where there are no trials.
    """
    n = np.asarray(trials, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.asarray(successes, dtype=np.float64) / n
        centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * np.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
