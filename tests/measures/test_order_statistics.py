import math

import numpy as np
import pytest

from noisewright.measures.order_statistics import expected_best, expected_best_of_drafts

TOLERANCE = 2e-4
"""Of the trapezoidal rule on its grid."""


@pytest.mark.parametrize(
    ("count", "value"),
    [(1, 0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (10, 1.53875), (100, 2.50759)],
)  # fmt: skip
def test_the_best_of_normal_numbers(count, value):
    assert expected_best(count) == pytest.approx(value, abs=TOLERANCE)


@pytest.mark.parametrize(("count", "best", "correlation"), [(30, 3, 0.8), (60, 3, 0.5), (12, 1, 0.9), (200, 5, 0.0)])
def test_the_best_of_the_best_drafts_is_what_a_simulation_gives(count, best, correlation):
    draws = np.random.default_rng(0)
    drafts = draws.standard_normal((20_000, count))
    full = correlation * drafts + math.sqrt(1 - correlation**2) * draws.standard_normal(drafts.shape)
    chosen = np.argsort(-drafts, axis=1)[:, :best]
    simulated = np.take_along_axis(full, chosen, 1).max(1).mean()
    # Blom's middles leave the spread of the order statistics out: up to .05 deviations.
    assert expected_best_of_drafts(count, best, correlation) == pytest.approx(simulated, abs=0.05)


def test_drafts_that_rank_perfectly_are_the_best_of_all():
    assert expected_best_of_drafts(50, 3, 1.0) == pytest.approx(expected_best(50), abs=0.02)
