"""States that are carried back towards noise: only solvers that can be entered on their way may go on from them."""

import diffusers
import pytest
import torch

import noisewright as nw
import tiny
from noisewright import registry
from noisewright.samplers.levels import begins_anywhere, read_levels
from noisewright.samplers.native import resumed
from noisewright.samplers.pipeline import PipelineSampler

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CASES = [
    ("HeunDiscreteScheduler", {}, False),
    ("KDPM2DiscreteScheduler", {}, False),
    ("KDPM2AncestralDiscreteScheduler", {}, False),
    ("PNDMScheduler", {}, False),
    ("PNDMScheduler", {"skip_prk_steps": True}, False),
    ("DPMSolverMultistepScheduler", {}, True),
    ("DPMSolverMultistepScheduler", {"solver_order": 3}, True),
    ("DEISMultistepScheduler", {}, True),
    ("UniPCMultistepScheduler", {}, True),
    ("EulerDiscreteScheduler", {}, True),
    ("DDIMScheduler", {"clip_sample": False}, True),
]


def mean(images, prompt):
    return images.mean((1, 2, 3))


def scheduler_of(name, more):
    return getattr(diffusers, name)(**{**SD, **more})


@pytest.mark.parametrize(("name", "more", "anywhere"), CASES)
def test_whether_a_scheduler_begins_anywhere_is_what_a_perfect_network_shows(name, more, anywhere):
    scheduler = scheduler_of(name, more)
    scheduler.set_timesteps(6)
    levels = read_levels(scheduler).native
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    errors = []
    for start in range(len(scheduler.timesteps)):
        state, begun = levels.alpha[start] * clean + levels.sigma[start] * noise, resumed(scheduler, None, start)
        for time in scheduler.timesteps[start:]:
            state = begun.step(noise, time, state, return_dict=False)[0]
        errors.append(float((state - levels.alpha[-1] * clean - levels.sigma[-1] * noise).abs().max()))
    assert begins_anywhere(scheduler, levels) is anywhere
    assert (max(errors) < 0.01) is anywhere


@pytest.mark.slow
@pytest.mark.parametrize("search", ["paths", "evolution"])
@pytest.mark.parametrize(("name", "more", "anywhere"), CASES)
def test_a_search_that_goes_back_takes_ddim_where_the_scheduler_cannot_be_entered(search, name, more, anywhere):
    pipe = tiny.sd(scheduler_of(name, more))
    back = {"children": 2, "level": 0.3, "up": 0.4, "down": 0.5}
    arguments = {"population": 2, "elites": 1} if search == "evolution" else back
    result = nw.search(
        pipe, "a cat", verifier=mean, judge="none", search=search, budget="4 images", num_inference_steps=10,
        search_args=arguments, pictures=False,
    )  # fmt: skip
    assert any("cannot be entered on its way" in text for text in result.warnings) is not anywhere
    assert all(one.scores["mean"] == one.scores["mean"] for one in result.candidates)


@pytest.mark.parametrize("name", ["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"])
def test_our_solver_starts_from_a_state_of_the_first_level(name):
    sampler = PipelineSampler(
        tiny.sd(scheduler_of(name, {})), "a cat", num_inference_steps=6, solver=registry.make_solver("ddim")
    )
    assert sampler.schedule.steps == 6
    assert float(sampler.noise([0]).std()) == pytest.approx(1, abs=0.1)
    assert all(high > low for high, low in zip(sampler.schedule.t, sampler.schedule.t[1:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"])
def test_previews_are_made_only_where_levels_are_known(name):
    result = nw.search(
        tiny.sd(scheduler_of(name, {})), "a cat", verifier=mean, judge="none", search="halving", budget="60 nfe",
        num_inference_steps=6, search_args={"pilot": 4}, pictures=False,
    )  # fmt: skip
    assert any("cannot be entered on its way" in text for text in result.warnings)
