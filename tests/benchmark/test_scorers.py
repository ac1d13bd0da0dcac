"""What several verifiers say of the same candidates, held to scipy and to counting all subsets."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from noisewright.benchmark import scorers

PROMPTS, COUNT, WIDTH = 6, 7, 3


@pytest.fixture
def scores():
    """Rounded, so that there are ties; the last prompt has one candidate without a number."""
    found = np.random.default_rng(0).normal(size=(PROMPTS, COUNT, WIDTH)).round(1)
    found[0, 1, 0] = found[0, 2, 0]
    found[-1, 3, 1] = np.nan
    return scorers.complete(found)


def test_one_number_that_is_missing_leaves_the_candidate_out_for_all(scores):
    assert np.isnan(scores[-1, 3]).all()
    assert np.isfinite(scores).all(2).sum() == PROMPTS * COUNT - 1


def test_correlations_are_those_of_scipy(scores):
    rho, tau = scorers.correlations(scores)
    for prompt, (one, other) in itertools.product(range(PROMPTS), itertools.combinations(range(WIDTH), 2)):
        rows = scores[prompt][np.isfinite(scores[prompt]).all(1)]
        assert rho[prompt, one, other] == pytest.approx(stats.spearmanr(rows[:, one], rows[:, other]).statistic)
        assert tau[prompt, one, other] == pytest.approx(stats.kendalltau(rows[:, one], rows[:, other]).statistic)
    assert np.allclose(rho[:, range(WIDTH), range(WIDTH)], 1)


def test_a_scorer_that_says_nothing_correlates_with_nothing(scores):
    scores[0, :, 1] = 4.0
    rho, tau = scorers.correlations(scores)
    assert np.isnan(rho[0, 1]).all()
    assert np.isnan(tau[0, :, 1]).all()
    assert np.isfinite(rho[0, 0, 2])


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_a_pick_is_worth_its_mean_over_all_subsets(scores, count):
    found = scorers.judged(scores, [scores[:, :, 0]], count)[:, 0]
    for prompt in range(PROMPTS):
        rows = scores[prompt][np.isfinite(scores[prompt]).all(1)]
        worth = []
        for some in itertools.combinations(range(len(rows)), min(count, len(rows))):
            best = max(rows[k, 0] for k in some)
            worth.append(np.mean([rows[k] for k in some if rows[k, 0] == best], axis=0))
        assert found[prompt] == pytest.approx(np.mean(worth, axis=0))


def test_chances_add_up_to_one(scores):
    found = scorers.chances(scores[:, :, 0], 3)
    assert found.sum(1) == pytest.approx(np.ones(PROMPTS))
    assert found[-1, 3] == 0


def test_gains_in_deviations_are_nothing_where_all_are_alike(scores):
    scores[0, :, 2] = 1.0
    mean, spread = scorers.spreads(scores)
    assert spread[0, 2] == 0
    assert mean[1] == pytest.approx(scores[1].mean(0))
    assert spread[1] == pytest.approx(scores[1].std(0))
    gains = scorers.judged(scores, [scores[:, :, 0]], COUNT - 1) - mean[:, None]
    found = scorers.in_deviations(gains, spread)
    assert found[0, 0, 2] == 0
    assert found[1, 0] == pytest.approx(gains[1, 0] / spread[1])


def test_intervals_are_those_of_a_bootstrap_over_prompts():
    from noisewright.measures.bootstrap import interval

    values = np.random.default_rng(1).normal(2, 1, (40, 2))
    mean, low, high = scorers.averaged(values)
    assert (low[0], high[0]) == pytest.approx(interval(values[:, 0]))
    values[3, 1] = np.nan
    mean, low, high = scorers.averaged(values)
    assert (low[1], high[1]) == pytest.approx(interval(values[:, 1]))
    assert mean[1] == pytest.approx(np.nanmean(values[:, 1]))
    mean, low, high = scorers.averaged(values[:1])
    assert np.isfinite(mean).all()
    assert np.isnan([low, high]).all()
    assert np.isnan(scorers.averaged(np.full((4, 1, 2), np.nan))).all()


def test_a_good_picker_is_the_best_of_both_halves():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(60, 16)) + generator.normal(size=(60, 1))
    scores = np.stack([truth + 0.1 * generator.normal(size=truth.shape), generator.normal(size=truth.shape), truth], 2)
    panel = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = scorers.stability(scores, [0, 1], panel)
    assert found.same_best > 0.95
    assert found.order > 0.9
    assert found.best[0] > 0.95
    assert found.prompts[0] > 0.6  # prompts differ as much as candidates do
    assert abs(found.prompts[1]) < 0.3


def test_pickers_that_know_nothing_change_places():
    scores = np.random.default_rng(3).normal(size=(40, 8, 3))
    found = scorers.stability(scores, [0, 1], np.array([[0.0, 0.0, 1.0]] * 2))
    assert 0.2 < found.same_best < 0.9
    assert sum(found.best) == pytest.approx(1)


def test_of_one_prompt_there_is_no_order_of_prompts():
    found = scorers.stability(np.random.default_rng(4).normal(size=(1, 8, 2)), [0], np.array([[0.0, 1.0]]))
    assert all(math.isnan(one) for one in found.prompts)
    assert found.best == (1.0,)


def test_nobody_else_says_nothing():
    found = scorers.stability(np.random.default_rng(5).normal(size=(3, 4, 1)), [0], np.array([[np.nan]]))
    assert math.isnan(found.same_best)
    assert math.isnan(found.order)


def test_a_candidate_without_a_number_of_a_judge_is_not_picked(scores):
    scores[0, 2] = np.nan
    scores[0, 2, 0] = 1e6  # what the picker likes best
    found = scorers.judged(scores, [scores[:, :, 0]], 2)[0, 0]
    rest = np.delete(scores[0], 2, axis=0)
    assert found == pytest.approx(scorers.judged(rest[None], [rest[None, :, 0]], 2)[0, 0])
