import math

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

import tiny
from noisewright.diffusion.schedule import Estimate, Schedule, estimate
from noisewright.diffusion.solvers import Ddim, Solver, transition
from noisewright.samplers.levels import read_levels
from noisewright.samplers.mixture import flow_schedule, vp_schedule

ROUNDING = 2e-5  # float32 states of magnitude up to about 20, a few operations each in another order
EXACT = 1e-9  # float64


def states(*shape, dtype=torch.float32, seed=0):
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("index", [0, 3, 8])
def test_transition_is_the_step_of_diffusers_ddim(eta, index):
    scheduler = DDIMScheduler(**tiny.SD_SCHEDULER)
    scheduler.set_timesteps(10)
    schedule = read_levels(scheduler).schedule
    x, prediction, z = states(2, 4, 8, 8)
    theirs = scheduler.step(prediction, scheduler.timesteps[index], x, eta=eta, variance_noise=z).prev_sample
    found = estimate(prediction, x, schedule.alpha[index], schedule.sigma[index], "epsilon")
    ours, state = Ddim(eta).step(schedule, index, x, found, z, None)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)
    assert state is None


@pytest.mark.parametrize("index", [0, 4, 9])
def test_transition_is_the_euler_step_on_flow_models(index):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    schedule = read_levels(scheduler).schedule
    x, velocity, _ = states(2, 4, 8, 8)
    theirs = scheduler.step(velocity, scheduler.timesteps[index], x).prev_sample
    found = estimate(velocity, x, schedule.alpha[index], schedule.sigma[index], "flow")
    torch.testing.assert_close(transition(schedule, index, index + 1, found, 0, None), theirs, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("index", [0, 4, 9])
def test_transition_is_k_diffusions_euler_in_other_coordinates(index):
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(10)
    levels = read_levels(scheduler)
    schedule, native = levels.schedule, levels.native
    x, prediction, _ = states(2, 4, 8, 8)
    scheduler.scale_model_input(x, scheduler.timesteps[index])
    theirs = scheduler.step(prediction, scheduler.timesteps[index], x / schedule.alpha[index]).prev_sample
    found = estimate(prediction, x, schedule.alpha[index], schedule.sigma[index], "epsilon")
    ours = transition(schedule, index, index + 1, found, 0, None) / schedule.alpha[index + 1]
    assert native.sigma[index] == pytest.approx(schedule.sigma[index] / schedule.alpha[index], rel=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


@given(st.floats(0.05, 1.5), st.floats(0.01, 0.95), st.integers(0, 2**31))
def test_eta_one_is_the_exact_posterior(angle, part, seed):
    """The mean and variance of q(x_j | x_i, x0) by Bayes' rule, against the formula (Ho et al. 2020, eq. 7)."""
    alpha_i, sigma_i = math.cos(angle), math.sin(angle)
    alpha_j, sigma_j = math.cos(angle * part), math.sin(angle * part)
    schedule = Schedule((1.0,), (alpha_i, alpha_j), (sigma_i, sigma_j))
    clean, noise, z = states(6, dtype=torch.float64, seed=seed)
    x = alpha_i * clean + sigma_i * noise
    ratio = alpha_i / alpha_j
    spread = sigma_i**2 - ratio**2 * sigma_j**2  # variance of x_i given x_j
    precision = 1 / sigma_j**2 + ratio**2 / spread
    mean = (alpha_j * clean / sigma_j**2 + ratio * x / spread) / precision
    expected = mean + z / math.sqrt(precision)
    found = transition(schedule, 0, 1, Estimate(clean, noise), 1.0, z)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)  # divisions by spreads as small as 1e-4


@given(st.floats(0, 1), st.integers(0, 19), st.sampled_from([vp_schedule, flow_schedule]))
def test_any_eta_keeps_the_marginal_variance(eta, index, make):
    """Noise kept and noise added share sigma_j^2: the coefficients squared sum to it for every eta."""
    schedule = make(20)
    one, nothing = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    kept = transition(schedule, index, index + 1, Estimate(nothing, one), eta, nothing)
    added = transition(schedule, index, index + 1, Estimate(nothing, nothing), eta, one)
    assert float(kept**2 + added**2) == pytest.approx(schedule.sigma[index + 1] ** 2, abs=EXACT)
    scale = transition(schedule, index, index + 1, Estimate(one, nothing), eta, nothing)
    assert float(scale) == pytest.approx(schedule.alpha[index + 1], abs=EXACT)


def test_the_clean_level_needs_no_noise_left():
    schedule = flow_schedule(4)
    clean, noise, z = states(5)
    assert torch.equal(transition(schedule, 3, 4, Estimate(clean, noise), 1.0, z), clean)


def test_a_stochastic_step_without_noise_is_refused():
    clean, noise, _ = states(5)
    with pytest.raises(ValueError, match=r"eta = 0\.5"):
        transition(vp_schedule(4), 0, 1, Estimate(clean, noise), 0.5, None)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match="eta"):
        Ddim(eta)


def test_ddim_is_a_solver():
    assert isinstance(Ddim(), Solver)
    assert not Ddim().stochastic
    assert Ddim(0.3).stochastic
    assert Ddim(name="euler").name == "euler"
