import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from noisewright.run import ensembles
from noisewright.web.values import ensemble_values

ROUNDING = 1e-9
"""Sums in another order."""

SCORES = st.one_of(st.just(float("nan")), st.integers(-3, 3).map(float), st.integers(-999, 999).map(float))


@pytest.mark.parametrize("ensemble", ["rank", "zsum", "a=1.0,b=0.5", "a=1.0,b=0.0"])
@given(rows=arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=SCORES))
def test_values_are_those_that_a_run_ranks_by(ensemble, rows):
    expected = ensembles.ensemble_values(rows.tolist(), ensemble)
    found = ensemble_values(rows, ensemble)
    assert np.allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_of_none_there_are_none():
    assert ensemble_values(np.zeros((0, 2)), "rank").tolist() == []
