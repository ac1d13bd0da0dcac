"""Values of an ensemble for many candidates at once: what :mod:`noisewright.run.ensembles` gives, to rounding.

A run ranks its candidates now and then; a page that follows one of ten thousand does so with each micro-batch.
"""

from __future__ import annotations

import numpy as np

MISSING = -4.0
"""Deviations that a missing score counts as in a z-sum."""


def ensemble_values(rows: np.ndarray, ensemble: str) -> np.ndarray:
    """One value for each candidate, higher better; -inf where no verifier gave a number.

    Args:
        rows: (candidates, verifiers) scores, NaN where there is none.
        ensemble: ``rank``, ``zsum``, or weights in the verifiers' order.
    """
    if not len(rows):
        return np.zeros(0)
    if "=" in ensemble:
        weights = np.array([float(part.rpartition("=")[2]) for part in ensemble.split(",")])
        counted = rows[:, weights != 0]
        values = np.where(np.isnan(counted).any(1), -np.inf, np.nan_to_num(counted) @ weights[weights != 0])
    else:
        alone = _deviations if ensemble == "zsum" else _ranks
        columns = [alone(column) for column in rows.T]
        values = np.sum(columns, 0) / (1 if ensemble == "zsum" else len(columns))
    return np.where(np.isnan(rows).all(1), -np.inf, values)


def _ranks(column: np.ndarray) -> np.ndarray:
    """Ranks from 0 worst to 1 best; equal scores share the mean of theirs, NaN is below everything."""
    if len(column) == 1:
        return np.ones(1)
    _, place, counts = np.unique(np.where(np.isnan(column), -np.inf, column), return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts + 1) / 2
    return means[place] / (len(column) - 1)


def _deviations(column: np.ndarray) -> np.ndarray:
    """Deviations from the mean."""
    there = column[~np.isnan(column)]
    spread = float(there.std()) if len(there) else 0.0
    values = (column - there.mean()) / spread if spread > 0 else np.zeros(len(column))
    return np.where(np.isnan(column), MISSING, values)
