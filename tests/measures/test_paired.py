"""Paired statistics, held to scipy's and to laws of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from noisewright.measures.bootstrap import interval, intervals
from noisewright.measures.paired import holm, kendall, means, paired_intervals, ranks, sign_flip, spearman, wilson

MONTE_CARLO = 0.04
"""Of an interval's width: by how much the ends of two sets of 10,000 resamples may differ (four standard errors)."""

P_MONTE_CARLO = 0.02
"""By how much p of 10,000 random flips may differ from that of all or of others (four standard errors at p = 0.5)."""

NUMBERS = st.floats(-100, 100).map(lambda one: round(one, 3))
TIED = st.integers(-3, 3).map(float) | st.just(float("nan"))


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(0.1, 1, shape)


@pytest.mark.parametrize("size", [5, 40, 200])
def test_intervals_are_scipys(size):
    values, other = drawn((size, 3)), drawn((size, 3), 1)
    mean, low, high = paired_intervals(values, other)
    for k in range(3):
        pair = values[:, k] - other[:, k]
        theirs = stats.bootstrap((pair,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
        assert mean[k] == pytest.approx(pair.mean())
        assert (low[k], high[k]) == pytest.approx(tuple(theirs), abs=MONTE_CARLO * (theirs.high - theirs.low))


def test_intervals_over_groups_are_scipys_of_sums():
    values, labels = drawn(90), np.repeat(np.arange(30), 3)
    values[[4, 5, 6, 33]] = np.nan
    sums = np.array([np.nansum(values[labels == one]) for one in range(30)])
    counts = np.array([np.isfinite(values[labels == one]).sum() for one in range(30)])

    def ratio(sums, counts, axis):
        return sums.sum(axis) / counts.sum(axis)

    theirs = stats.bootstrap(
        (sums, counts), ratio, paired=True, vectorized=True, n_resamples=10_000, method="percentile", rng=3
    ).confidence_interval
    low, high = interval(values, groups=labels)
    assert (low, high) == pytest.approx(tuple(theirs), abs=MONTE_CARLO * (theirs.high - theirs.low))
    alone = interval(values)
    assert (low, high) != alone


def test_many_columns_are_as_one_by_one():
    values = drawn((30, 7))
    values[::4, 2] = values[:, 5] = np.nan
    values[3, 6] = np.inf
    labels = np.repeat(np.arange(10), 3)
    for groups in (None, labels):
        low, high = intervals(values, groups=groups, seed=4)
        for k in range(7):
            alone = interval(values[:, k], groups=groups, seed=4)
            assert (low[k], high[k]) == pytest.approx(alone, nan_ok=True, abs=1e-12)
    assert np.isnan(low[5])


def test_labels_are_one_for_each_row():
    for call in (intervals, sign_flip):
        with pytest.raises(ValueError, match="expected 4 labels of groups"):
            call(drawn((4, 2)), groups=[1, 2, 3])


@pytest.mark.parametrize("size", [2, 5, 9, 12])
def test_p_of_few_pairs_is_scipys_exact_one(size):
    differences = np.round(drawn((size, 6)), 1)  # ties and zeros
    differences[:, 5] += 1
    theirs = [
        stats.permutation_test((column,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        for column in differences.T
    ]
    assert sign_flip(differences) == pytest.approx(theirs)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_p_of_many_pairs_is_near_scipys(shift):
    differences = drawn((60, 4)) - 0.1 + shift
    theirs = [
        stats.permutation_test((column,), np.mean, permutation_type="samples", n_resamples=9999, rng=5).pvalue
        for column in differences.T
    ]
    assert sign_flip(differences) == pytest.approx(theirs, abs=P_MONTE_CARLO)


def test_p_of_groups_is_that_of_their_sums():
    differences, labels = drawn((36, 3)), np.tile(np.arange(12), 3)
    sums = np.stack([differences[labels == one].sum(0) for one in range(12)])
    assert sign_flip(differences, groups=labels) == pytest.approx(sign_flip(sums))
    assert not np.allclose(sign_flip(differences, groups=labels), sign_flip(differences))


def test_p_of_zeros_and_of_nothing():
    p = sign_flip(np.array([[0.0, np.nan, 1.0], [0.0, np.nan, np.nan]]))
    assert p[0] == 1
    assert np.isnan(p[1])
    assert p[2] == 1  # one pair, two flips: both as far from 0


def test_p_of_random_flips_is_never_zero():
    assert sign_flip(np.full((40, 1), 3.0)) == pytest.approx([1 / 10_001])


def test_p_holds_what_it_promises():
    """Under the hypothesis at most 5 % of p are below 0.05, but for chance (binomial, four standard errors)."""
    differences = np.random.default_rng(6).normal(size=(20, 4000))
    rate = (sign_flip(differences) < 0.05).mean()
    assert rate == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


@given(arrays(np.float64, (8, 2), elements=TIED), st.permutations(range(8)))
@settings(deadline=None, max_examples=60)
def test_order_does_not_matter_to_p(differences, order):
    assert sign_flip(differences[order]) == pytest.approx(sign_flip(differences), nan_ok=True)
    assert sign_flip(-differences) == pytest.approx(sign_flip(differences), nan_ok=True)


@given(arrays(np.float64, (9, 2), elements=NUMBERS), arrays(np.float64, (9, 2), elements=NUMBERS), NUMBERS)
@settings(deadline=None, max_examples=40)
def test_what_both_have_more_does_not_matter(values, other, shift):
    moved, plain = paired_intervals(values + shift, other + shift), paired_intervals(values, other)
    for one, two in zip(moved, plain, strict=True):
        assert one == pytest.approx(two, abs=1e-9)
    by_shift = paired_intervals(values + shift, other)
    for one, two in zip(by_shift, plain, strict=True):
        assert one == pytest.approx(two + shift, abs=1e-9)


@given(arrays(np.float64, (10, 2), elements=TIED), arrays(np.float64, (10, 2), elements=TIED))
@settings(deadline=None, max_examples=60)
def test_a_pair_without_a_number_is_as_if_it_were_not_there(values, other):
    mean, low, high = paired_intervals(values, other)
    for k in range(2):
        kept = np.isfinite(values[:, k] - other[:, k])
        alone = paired_intervals(values[kept][:, [k]], other[kept][:, [k]])
        assert [mean[k], low[k], high[k]] == pytest.approx([float(one[0]) for one in alone], nan_ok=True)
        p = sign_flip((values - other)[kept][:, [k]])
        assert sign_flip(values - other)[k] == pytest.approx(p[0], nan_ok=True)


def test_means_of_nothing():
    assert means([[1.0, np.nan], [2.0, np.nan]]) == pytest.approx([1.5, np.nan], nan_ok=True)
    assert np.isnan(means(np.empty((0, 3)))).all()


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm 1979 by hand
        ([0.5, 0.6, 0.7], [1.0, 1.0, 1.0]),
        ([0.02], [0.02]),
        ([np.nan, 0.01, np.nan, 0.02], [np.nan, 0.02, np.nan, 0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p, adjusted):
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_keeps_order_and_lies_between_p_and_bonferronis(p, shuffled):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    order = list(range(len(p)))
    shuffled.shuffle(order)
    assert holm([p[k] for k in order]) == pytest.approx(adjusted[order])


@given(arrays(np.float64, (12, 3), elements=TIED), arrays(np.float64, (12, 3), elements=TIED))
@settings(deadline=None, max_examples=80)
def test_rank_correlations_are_scipys(x, y):
    rho, tau = spearman(x, y), kendall(x, y)
    for k in range(3):
        kept = ~np.isnan(x[:, k] + y[:, k])
        first, second = x[kept, k], y[kept, k]
        if len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
            assert np.isnan(rho[k])
            assert np.isnan(tau[k])
            continue
        assert rho[k] == pytest.approx(stats.spearmanr(first, second).statistic)
        assert tau[k] == pytest.approx(stats.kendalltau(first, second).statistic)


def test_rank_correlations_in_blocks():
    """More rows than are compared at once."""
    x, y = np.round(drawn((2500, 1)), 1), np.round(drawn((2500, 1), 1), 1)
    y[:500] = x[:500]
    assert kendall(x, y)[0] == pytest.approx(stats.kendalltau(x[:, 0], y[:, 0]).statistic)
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x[:, 0], y[:, 0]).statistic)


@given(arrays(np.float64, (11, 2), elements=TIED))
def test_ranks_are_scipys(values):
    found = ranks(values)
    for k in range(2):
        kept = ~np.isnan(values[:, k])
        assert found[kept, k] == pytest.approx(stats.rankdata(values[kept, k]))
        assert np.isnan(found[~kept, k]).all()


def test_rank_correlations_take_columns_of_one_shape():
    for call in (spearman, kendall):
        with pytest.raises(ValueError, match="expected two arrays"):
            call([1.0, 2.0], [1.0, 2.0])
        with pytest.raises(ValueError, match="of one shape"):
            call([[1.0], [2.0]], [[1.0]])


def test_wilsons_interval_is_scipys():
    trials = 20
    low, high = wilson(np.arange(trials + 1), trials)
    for k in range(trials + 1):
        theirs = stats.binomtest(k, trials).proportion_ci(method="wilson")
        assert (low[k], high[k]) == pytest.approx(tuple(theirs), abs=1e-12)
    assert np.isnan(wilson(0, 0)).all()
