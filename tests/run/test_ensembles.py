import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisewright.run.ensembles import (
    ensemble_values,
    ensemble_weights,
    mean_ranks,
    read_ensemble,
    weighted_sums,
    z_sums,
)

NAN = math.nan
FLOAT = 1e-12  # sums of a few float64 fractions


def test_mean_ranks_by_hand():
    assert mean_ranks([[3.0], [1.0], [2.0]]) == [1.0, 0.0, 0.5]
    assert mean_ranks([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]]) == pytest.approx([0.5, 0.5, 0.5], abs=FLOAT)
    assert mean_ranks([[5.0]]) == [1.0]
    assert mean_ranks([]) == []


def test_mean_ranks_share_ties_and_put_nan_last():
    assert mean_ranks([[1.0], [2.0], [2.0], [3.0]]) == pytest.approx([0, 0.5, 0.5, 1], abs=FLOAT)
    assert mean_ranks([[1.0], [NAN], [0.0], [NAN]]) == pytest.approx([1, 1 / 6, 2 / 3, 1 / 6], abs=FLOAT)
    assert mean_ranks([[-math.inf], [NAN]]) == pytest.approx([0.5, 0.5], abs=FLOAT)


def test_z_sums_by_hand():
    assert z_sums([[1.0], [2.0], [3.0]]) == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)], abs=FLOAT)
    assert z_sums([[1.0, 5.0], [3.0, 5.0]]) == pytest.approx([-1, 1], abs=FLOAT)
    assert z_sums([[1.0], [3.0], [NAN]]) == pytest.approx([-1, 1, -4], abs=FLOAT)
    assert z_sums([[NAN], [NAN]]) == [-4, -4]
    assert z_sums([]) == []


def test_ensemble_values():
    assert ensemble_values([], "rank") == []
    assert ensemble_values([[0.3], [NAN]], "rank") == [0.3, -math.inf]
    assert ensemble_values([[1.0, NAN], [NAN, NAN]], "rank") == [1.0 / 2 + 0.25, -math.inf]
    for ensemble in ("rank", "zsum"):
        assert ensemble_values([[NAN, NAN], [NAN, NAN]], ensemble) == [-math.inf, -math.inf]
        values = ensemble_values([[1.0, 10.0], [2.0, 20.0], [NAN, 5.0]], ensemble)
        assert values.index(max(values)) == 1
        assert values.index(min(values)) == 2


def test_weighted_sums_by_hand():
    assert weighted_sums([[1.0, 10.0], [2.0, -10.0]], [1.0, 0.5]) == [6, -3]
    assert weighted_sums([[1.0, 10.0]], [-1.0, 0.1]) == [0]
    assert weighted_sums([[NAN, 10.0], [1.0, NAN], [1.0, 2.0]], [1, 0]) == [-math.inf, 1, 1]
    assert weighted_sums([], [1.0]) == []


def test_weights_are_recorded_in_the_verifiers_order():
    text = read_ensemble({"a": 1, "b": 0.5}, ["b", "a"])
    assert text == "b=0.5,a=1.0"
    assert read_ensemble(text, ["b", "a"]) == read_ensemble(" a=1, b=.5", ["b", "a"]) == text
    assert ensemble_values([[2.0, 3.0], [8.0, 1.0]], text) == [4, 5]
    assert ensemble_values([[2.0, NAN], [NAN, NAN]], text) == [-math.inf, -math.inf]
    assert read_ensemble("rank", ["a"]) == "rank"
    assert ensemble_weights("zsum") == {}
    odd = {"a=b": 0.1 + 0.2, "c": -1e-300}
    assert ensemble_weights(read_ensemble(odd, list(odd))) == odd


@pytest.mark.parametrize(
    ("given", "names", "says"),
    [
        ("a=1,b=2", ["a", "c"], "expected a weight for each of a, c, got one for a, b"),
        ("a=1", ["a", "b"], "expected a weight for each of a, b, got one for a"),
        ({"a": 1, "b": 1, "c": 1}, ["a", "b"], "got one for a, b, c"),
        ({"a,x": 1, "b": 1}, ["a,x", "b"], "expected a weight for each of"),
        ("a=1", ["a"], "expected several verifiers for a weighted sum, got a alone"),
        ("a=one,b=2", ["a", "b"], "expected a number as the weight of a, got 'one'"),
        ("a=1,2", ["a", "b"], "expected a number as the weight of|expected a weight for each"),
        ("=,", ["a", "b"], "expected a number as the weight of a verifier, got ''"),
        ({"a": None, "b": 1}, ["a", "b"], "expected a number as the weight of a, got None"),
        ("a=nan,b=1", ["a", "b"], "expected finite weights that are not all 0"),
        ({"a": math.inf, "b": 1}, ["a", "b"], "expected finite weights"),
        ("a=0,b=0", ["a", "b"], "expected finite weights that are not all 0"),
    ],
)
def test_weights_that_are_none_are_refused_in_one_line(given, names, says):
    with pytest.raises(ValueError, match=says) as caught:
        read_ensemble(given, names)
    assert "\n" not in str(caught.value)


scores = st.one_of(st.floats(-1e6, 1e6), st.just(NAN))


@given(st.lists(st.tuples(scores, scores), min_size=2, max_size=9))
def test_mean_ranks_stay_in_range_and_are_fair(rows):
    rows = [list(row) for row in rows]
    values = mean_ranks(rows)
    assert all(0 <= value <= 1 for value in values)
    assert sum(values) == pytest.approx(len(rows) / 2, abs=1e-9)
    turned = mean_ranks(rows[::-1])
    assert turned == pytest.approx(values[::-1], abs=FLOAT)
