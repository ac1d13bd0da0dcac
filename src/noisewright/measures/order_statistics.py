"""What the best of N is expected to be, in standard deviations above the mean, of normal scores."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

_GRID = np.linspace(-9.0, 12.0, 2101)
_NORMAL = NormalDist()


def expected_best(count: float) -> float:
    """E max of ``count`` independent standard normal numbers; 0 of one.

    ``E max = b - int_a^b F(x)^n dx`` with F the normal distribution function and nothing outside of [a, b], by the
    trapezoidal rule.

    Args:
        count: n, at least 1; not only whole.
    """
    return _mean(_phi(_GRID) ** max(1.0, count))


def expected_best_of_drafts(count: float, best: int, correlation: float) -> float:
    """What the best is of the ``best`` full images whose drafts are the highest of ``count``.

    A full image's score is ``r d + sqrt(1 - r^2) e`` with d its draft's, e independent of it, both standard normal. The
    k-th highest draft is taken to stand at its expectation (Blom's approximation, ``Phi^-1((n - k + 5/8) / (n + 1/4))``
    for the k-th of n), so the spread of the order statistics themselves is left out.

    Args:
        count: drafts, at least ``best``.
        best: K, how many are made in full.
        correlation: r, in [-1, 1].
    """
    count = max(float(best), count)
    spread = max(math.sqrt(max(0.0, 1 - correlation**2)), 1e-3)
    below = np.ones_like(_GRID)
    for k in range(1, best + 1):
        middle = _NORMAL.inv_cdf((count - k + 0.625) / (count + 0.25))
        below *= _phi((_GRID - correlation * middle) / spread)
    return _mean(below)


def _phi(x: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


def _mean(below: np.ndarray) -> float:
    """The mean of what has this distribution function on the grid: its end less the integral."""
    return float(_GRID[-1] - ((below[1:] + below[:-1]) / 2 * np.diff(_GRID)).sum())
