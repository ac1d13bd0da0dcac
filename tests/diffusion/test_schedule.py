import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisewright.diffusion.schedule import Schedule, estimate, vp_levels
from noisewright.samplers.mixture import flow_schedule, vp_schedule

EXACT = 1e-9  # float64 throughout; divisions by alpha or sigma >= 0.01 magnify the rounding of 1e-16 by far less

angles = st.floats(0.05, math.pi / 2 - 0.05)
seeds = st.integers(0, 2**31)


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    return clean, noise


@given(angles, seeds)
def test_estimate_inverts_each_vp_prediction(angle, seed):
    alpha, sigma = math.cos(angle), math.sin(angle)
    clean, noise = pair(seed)
    x = alpha * clean + sigma * noise
    predictions = {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean}
    for kind, prediction in predictions.items():
        found = estimate(prediction, x, alpha, sigma, kind)
        torch.testing.assert_close(found.clean, clean, rtol=0, atol=EXACT)
        torch.testing.assert_close(found.noise, noise, rtol=0, atol=EXACT)


@given(st.floats(0.01, 50), seeds)
def test_estimate_of_a_v_prediction_in_edm_coordinates(s, seed):
    """x = x0 + s eps; the network's v is that of the VP level with the same s = sigma / alpha."""
    clean, noise = pair(seed)
    alpha, sigma = 1 / math.hypot(1, s), s / math.hypot(1, s)
    found = estimate(alpha * noise - sigma * clean, clean + s * noise, 1.0, s, "v_prediction")
    torch.testing.assert_close(found.clean, clean, rtol=0, atol=EXACT * (1 + s))
    torch.testing.assert_close(found.noise, noise, rtol=0, atol=EXACT * (1 + s))


@given(st.floats(0.02, 0.98), seeds)
def test_estimate_inverts_a_velocity(sigma, seed):
    clean, noise = pair(seed)
    x = (1 - sigma) * clean + sigma * noise
    found = estimate(noise - clean, x, 1 - sigma, sigma, "flow")
    torch.testing.assert_close(found.clean, clean, rtol=0, atol=EXACT)
    torch.testing.assert_close(found.noise, noise, rtol=0, atol=EXACT)


@given(st.floats(0.01, 50), seeds)
def test_estimate_in_edm_coordinates(sigma, seed):
    clean, noise = pair(seed)
    found = estimate(noise, clean + sigma * noise, 1.0, sigma, "epsilon")
    torch.testing.assert_close(found.clean, clean, rtol=0, atol=EXACT)


def test_estimate_refuses_another_kind():
    with pytest.raises(ValueError, match="'score'"):
        estimate(torch.zeros(1), torch.zeros(1), 1.0, 1.0, "score")


@given(st.lists(st.floats(0, 200), min_size=2, max_size=9))
def test_vp_levels_keep_the_ratio_and_the_variance(s):
    alpha, sigma = vp_levels(torch.tensor(s, dtype=torch.float64))
    for a, b, ratio in zip(alpha, sigma, s, strict=True):
        assert a**2 + b**2 == pytest.approx(1, abs=EXACT)
        assert b == pytest.approx(ratio * a, abs=EXACT)


@pytest.mark.parametrize(
    ("t", "alpha", "sigma", "start"),
    [
        ((1.0,), (1.0,), (1.0,), 1.0),
        ((1.0,), (0.0, 1.0), (1.0,), 1.0),
        ((1.0, 2.0), (0.0, 1.0), (1.0, 0.0), 1.0),
        ((), (1.0,), (0.0,), 1.0),
        ((math.nan,), (0.0, 1.0), (1.0, 0.0), 1.0),
        ((1.0,), (0.0, math.inf), (1.0, 0.0), 1.0),
        ((1.0,), (0.0, 1.0), (1.0, -math.inf), 1.0),
        ((1.0,), (0.0, 1.0), (1.0, 0.0), math.nan),
    ],
)
def test_schedule_refuses_malformed_levels(t, alpha, sigma, start):
    with pytest.raises(ValueError, match="expected"):
        Schedule(t, alpha, sigma, start)


def test_schedule_is_a_value():
    a, b = vp_schedule(7), vp_schedule(7)
    assert a == b
    assert len({a, b}) == 1
    assert a.steps == 7
    with pytest.raises(AttributeError):
        a.start = 2.0


def test_digest_is_stable_and_reads_every_level():
    levels = Schedule((999.0, 500.0), (0.1, 0.6, 1.0), (0.9, 0.5, 0.0))
    assert levels.digest == "df37bf086373edbb"
    others = [
        Schedule((999.0, 501.0), levels.alpha, levels.sigma),
        Schedule(levels.t, (0.1, 0.7, 1.0), levels.sigma),
        Schedule(levels.t, levels.alpha, (0.9, 0.5, 0.01)),
        Schedule(levels.t, levels.alpha, levels.sigma, start=2.0),
    ]
    assert len({levels.digest, *(one.digest for one in others)}) == 5


@pytest.mark.parametrize("make", [vp_schedule, flow_schedule])
def test_levels_go_from_noise_to_clean(make):
    levels = make(12)
    assert all(a < b for a, b in zip(levels.alpha[:-1], levels.alpha[1:], strict=True))
    assert all(a > b for a, b in zip(levels.sigma[:-1], levels.sigma[1:], strict=True))
    assert levels.sigma[0] > 0.999
    assert levels.sigma[-1] < 0.002
