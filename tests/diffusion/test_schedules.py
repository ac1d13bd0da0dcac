"""Named schedules: the rules, on VP and flow models, against diffusers and against published numbers."""

import math

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

import tiny
from noisewright import registry
from noisewright.diffusion.clock import Clock
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import RULES, beta_quantile, named_schedule
from noisewright.samplers.levels import read_levels
from noisewright.samplers.pipeline import PipelineSampler

TABLE = 1e-6  # float32 tables of cumulative products
PUBLISHED = 2e-3  # printed to three digits
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clock_of(scheduler, steps=10):
    scheduler.set_timesteps(steps)
    return read_levels(scheduler).schedule.clock


@pytest.fixture(scope="module")
def stable():
    return clock_of(DDIMScheduler(**SD))


@pytest.fixture(scope="module")
def linear():
    return clock_of(DDIMScheduler(beta_start=1e-4, beta_end=0.02))


def ratios(schedule):
    return [s / a if a else math.inf for a, s in zip(schedule.alpha, schedule.sigma, strict=True)]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["vp", "flow", "zero"])
def test_every_rule_falls_within_the_models_range(name, kind, stable):
    shifted = Clock("flow", shift=3.0)
    zero = clock_of(DDIMScheduler(**SD, rescale_betas_zero_snr=True, timestep_spacing="trailing"))
    clock = {"vp": stable, "flow": shifted, "zero": zero}[kind]
    for steps in (6,) if name == "autodiffusion" else (1, 2, 10, 33):
        made = named_schedule(name, clock, steps)
        assert made.steps == steps
        assert (made.alpha[-1], made.sigma[-1]) == (1.0, 0.0)
        assert all(0 <= t <= clock.last for t in made.t)
        assert made.straight == (kind == "flow")
        levels = ratios(made)
        assert levels == sorted(levels, reverse=True)
        if not name.startswith("a"):  # the tables are another model's
            assert made.t[0] >= clock.last * 0.99
    assert name in registry.names("schedule")


def test_published_starts_of_vrg(linear):
    """Cumulative alphas of ten steps (Xu et al. 2025), five digits; the first one printed is the cleanest."""
    printed = {
        "logsnr": [0.99931, 0.99525, 0.96807, 0.81442, 0.38846, 0.08420, 0.01313, 0.00192, 0.00028, 0.00004],
        "quadratic": [0.99581, 0.97021, 0.88987, 0.72390, 0.48175, 0.23679, 0.07595, 0.01374, 0.00119, 0.00004],
        "uniform": [0.89533, 0.65688, 0.39473, 0.19420, 0.07819, 0.02575, 0.00694, 0.00153, 0.00027, 0.00004],
    }
    for name, expected in printed.items():
        found = [alpha**2 for alpha in named_schedule(name, linear, 10).alpha[:-1]]
        assert found[::-1] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("name", "flag"), [("karras", "use_karras_sigmas"), ("exponential", "use_exponential_sigmas")])
def test_karras_and_exponential_are_diffusers(name, flag, stable):
    scheduler = diffusers.DPMSolverMultistepScheduler(**SD, **{flag: True})
    scheduler.set_timesteps(12)
    assert ratios(named_schedule(name, stable, 12)) == pytest.approx(scheduler.sigmas.tolist(), rel=1e-4)


def test_uniform_is_linspace_and_sgm_uniform_its_whole_times(stable):
    scheduler = diffusers.DPMSolverMultistepScheduler(**SD)
    scheduler.set_timesteps(9)  # 111 is whole
    assert named_schedule("uniform", stable, 9).t == pytest.approx(scheduler.timesteps.tolist())
    assert named_schedule("sgm-uniform", stable, 9).t == pytest.approx(scheduler.timesteps.tolist())
    assert all(t == int(t) for t in named_schedule("sgm-uniform", stable, 10).t)


def test_sgm_uniform_of_a_flow_model_is_shifted():
    clock = clock_of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    found = named_schedule("sgm-uniform", clock, 4).sigma
    assert found == pytest.approx((1.0, 0.9, 0.75, 0.5, 0.0))


def test_dynamic_shifts_reach_the_clock():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(4, mu=math.log(3.0))
    assert read_levels(scheduler, math.log(3.0)).schedule.clock.shift == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("ays-sd15", [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]),
        ("ays-sdxl", [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]),
    ],
)
def test_align_your_steps(name, times, stable):
    made = named_schedule(name, stable, 10)
    assert made.t == pytest.approx(times, abs=1)
    levels = [sigma / alpha for alpha, sigma in zip(made.alpha, made.sigma, strict=True)]
    five, twenty = (
        [sigma / alpha for alpha, sigma in zip(one.alpha, one.sigma, strict=True)]
        for one in (named_schedule(name, stable, steps) for steps in (5, 20))
    )
    assert five == pytest.approx([*levels[:-1:2], 0.0], rel=TABLE)  # every second of the eleven published levels
    assert twenty[::2] == pytest.approx(levels, rel=TABLE)
    assert twenty[-2] == pytest.approx(math.sqrt(levels[-2] * 0.029), rel=TABLE)  # halfway to the eleventh


def test_autodiffusion(stable):
    assert named_schedule("autodiffusion", stable, 4).t == (926, 690, 424, 153)
    assert named_schedule("autodiffusion", stable, 6).t == (948, 830, 622, 390, 207, 123)
    with pytest.raises(ValueError, match="4 or 6 steps"):
        named_schedule("autodiffusion", stable, 5)


@given(st.floats(0.001, 0.999))
def testbeta_quantiles(part):
    """By the density itself, integrated in the angle x = sin^2 a, another variable than the rule's."""
    quantile = beta_quantile(part)
    angle = torch.linspace(0, math.pi / 2, 20001, dtype=torch.float64)
    height = (angle.sin() * angle.cos()).clamp(min=0) ** 0.2
    mass = torch.cumulative_trapezoid(height, angle)
    place = min(int(math.asin(math.sqrt(quantile)) / (math.pi / 2) * 20000), 19999)
    assert float(mass[place] / mass[-1]) == pytest.approx(part, abs=2e-4)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_the_clock_goes_both_ways(kind, stable):
    clock = stable if kind == "vp" else Clock("flow")
    for t in (0.0, 0.4, 17.0, 500.25, clock.last):
        level = clock.at(t)
        s = level.sigma / level.alpha if level.alpha else math.inf
        if s > 0:
            again = clock.of(s)
            assert (again.t, again.sigma) == pytest.approx((t, level.sigma), abs=1e-6)


def test_the_clock_has_the_schedulers_own_levels(stable):
    scheduler = DDIMScheduler(**SD)
    for t in (0, 1, 500, 999):
        assert stable.at(t).alpha == pytest.approx(float(scheduler.alphas_cumprod[t]) ** 0.5, rel=TABLE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: named_schedule("kerras", c, 5), "did you mean karras"),
        (lambda c: named_schedule("karras", c, 0), "at least 1 step"),
        (lambda c: named_schedule("sgm-uniform", c, 5000), "fall at every step"),
        (lambda c: c.at(1000.5), r"time in \[0, 999\]"),
        (lambda c: c.of(1e5), "the model's range"),
        (lambda c: Clock("edm"), "vp or flow"),
        (lambda c: registry.schedule_from("logsnrr", None), "did you mean logsnr"),
    ],
)
def test_bad_input(call, message, stable):
    with pytest.raises(ValueError, match=message):
        call(stable)


# On pipelines


def pipeline_sampler(pipe, **more):
    pipe.set_progress_bar_config(disable=True)
    return PipelineSampler(pipe, "two red circles", num_inference_steps=4, guidance_scale=4.0, **more)


def test_any_levels_on_a_pipeline_whose_scheduler_refuses_them():
    """DDIM steps by t - T // K whatever the times are; ours go where the schedule says."""
    pipe = tiny.sd()
    named = pipeline_sampler(pipe, schedule="karras")
    assert named.schedule.t == named_schedule("karras", named.schedule.clock, 4).t
    x = named.noise([3])
    found, _ = named.denoise(x, 0, 4)
    scheduler = diffusers.EulerDiscreteScheduler(**SD)
    listed = ratios(named.schedule)
    scheduler.set_timesteps(sigmas=listed)
    other = tiny.sd(scheduler)
    other.set_progress_bar_config(disable=True)
    given = {"guidance_scale": 4.0, "output_type": "latent", "sigmas": listed}
    start = x * math.hypot(1, listed[0]) / scheduler.init_noise_sigma
    expected = other("two red circles", latents=start, num_inference_steps=4, **given).images
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.std()))


def test_another_number_of_steps_makes_the_levels_again():
    sampler = pipeline_sampler(tiny.sd(), schedule="logsnr")
    assert sampler.with_steps(7).schedule.t == named_schedule("logsnr", sampler.schedule.clock, 7).t
    assert sampler.description["levels"] == "logsnr"
    assert "levels" not in pipeline_sampler(tiny.sd(), schedule="pipeline").description


def test_levels_given_one_by_one():
    own = pipeline_sampler(tiny.sd()).schedule
    made = Schedule((900, 500, 100), (0.2, 0.5, 0.9, 1.0), tuple(math.sqrt(1 - a * a) for a in (0.2, 0.5, 0.9, 1.0)))
    sampler = pipeline_sampler(tiny.sd(), schedule=made, solver=registry.make_solver("pndm-f"))
    assert sampler.schedule == made
    assert sampler.schedule.clock == own.clock
    assert sampler.nfe(0, 3) == 9
    assert Schedule(**sampler.description["levels"]) == made
    with pytest.raises(ValueError, match="expected the 3 steps of the schedule given, got 5"):
        sampler.with_steps(5)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule((900, 500), (0.2, 0.2, 1.0), (0.9, 0.9, 0.0)), "fall at every step"),
        (Schedule((900, 500), (0.1, 0.5, 1.0), (0.9, 0.5, 0.0)), "of a VP model, got those of a flow model"),
    ],
)
def test_levels_that_do_not_fit_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        pipeline_sampler(tiny.sd(), schedule=schedule)


def test_a_scheduler_without_an_equal_needs_a_solver():
    scheduler = diffusers.UniPCMultistepScheduler.from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config)
    with pytest.raises(ValueError, match="custom schedule needs a solver"):
        pipeline_sampler(tiny.sd(scheduler), schedule="karras")
    assert pipeline_sampler(tiny.sd(scheduler), schedule="karras", solver=registry.make_solver("unipc")).nfe(0, 4) == 4
