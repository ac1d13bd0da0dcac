"""Schedulers that draw where they should not, and what pipelines pass to a step: the plain image, or a refusal."""

import random
import warnings
from functools import cache

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, TCDScheduler

import noisewright as nw
import tiny
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import UnsupportedPipeline
from noisewright.executors.steps import carry
from noisewright.images.metadata import pixels_of
from noisewright.replay import replay
from noisewright.run.particle import Particle, noise_particle
from noisewright.samplers.pipeline import PipelineSampler

STEPS = 4
SEED = 3
PROMPT = "two red circles"
GLOBAL = "random generator of"


@cache
def held(kind):
    pipe = tiny.sd() if kind == "sd" else tiny.sd3(sample_size=16)
    pipe.set_progress_bar_config(disable=True)
    return pipe, pipe.scheduler.config


def with_scheduler(kind, scheduler, **config):
    """The one pipeline of its kind with another scheduler; None where it cannot be made for this model."""
    pipe, own = held(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pipe.scheduler = scheduler.from_config(own, **config)
        except (ImportError, TypeError, ValueError, AttributeError):
            return None
    return pipe


def generator(seed=SEED):
    return torch.Generator("cpu").manual_seed(seed)


def plain(pipe, **more):
    return pipe(PROMPT, generator=generator(), num_inference_steps=STEPS, guidance_scale=4.0, **more).images[0]


def sampler_of(pipe, **more):
    return PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0, **more)


def way(sampler, *cuts, seeds=(SEED,)):
    """Clean latents of starting noises, denoised in one piece or cut at these indices."""
    steps, x, state = sampler.schedule.steps, sampler.noise(seeds), None
    at = [noise_particle(seed, steps) for seed in seeds]
    starts = at
    for stop in (*cuts, steps):
        x, state = carry(at, sampler, x, state, stop)
        at = [Particle("denoise", (start,), {"to": stop}, stop, steps) for start in starts]
    return x


def everybodys():
    """What the process's own generators would draw next."""
    numbers = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state().numpy().tobytes(), numbers["key"].tobytes(), numbers["pos"], random.getstate()


DIFFERS_BY_ROUNDING = 1
"""In steps of 1/255: Euler in other coordinates."""


@pytest.mark.slow
def test_schedulers_that_draw_late_are_stochastic():
    for name in ("KDPM2AncestralDiscreteScheduler", "SASolverScheduler"):
        sampler = sampler_of(with_scheduler("sd", getattr(diffusers, name)))
        assert sampler.stochastic
        assert sampler.description["step_noise"] == "seeded"  # runs of version 0.1 drew from the global generator
    for name in ("EulerAncestralDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"):
        assert "step_noise" not in sampler_of(with_scheduler("sd", getattr(diffusers, name))).description


# Schedulers that draw where they should not


class Drawing(DDIMScheduler):
    """Adds noise in one step, from where ``draw`` says."""

    at = STEPS - 1

    def draw(self, sample):
        raise NotImplementedError

    def step(self, model_output, timestep, sample, return_dict=True):
        found = super().step(model_output, timestep, sample, return_dict=False)[0]
        if timestep == self.timesteps[self.at]:
            found = found + self.draw(sample)
        return (found,)


class ByTorch(Drawing):
    def draw(self, sample):
        return torch.randn_like(sample)


class ByNumpy(Drawing):
    def draw(self, sample):
        return float(np.random.normal())


class ByPython(Drawing):
    def draw(self, sample):
        return random.gauss(0, 1)


class InVain(Drawing):
    def draw(self, sample):
        return 0 * torch.randn_like(sample)


class Deaf(DDIMScheduler):
    """Takes a generator and does not use it."""

    def step(self, model_output, timestep, sample, generator=None, return_dict=True):
        found = super().step(model_output, timestep, sample, return_dict=False)[0]
        return (found + torch.randn_like(sample),)


@pytest.mark.parametrize(
    ("kind", "whose"), [(ByTorch, "torch"), (ByNumpy, "numpy"), (ByPython, "python"), (Deaf, "torch")]
)
@pytest.mark.parametrize("at", [0, STEPS - 1])
def test_a_scheduler_that_draws_from_everybodys_generator_is_refused(kind, whose, at, monkeypatch):
    monkeypatch.setattr(kind, "at", at, raising=False)
    pipe = with_scheduler("sd", kind)
    before = everybodys()
    with pytest.raises(UnsupportedPipeline, match=f"{kind.__name__} draws .*{GLOBAL} {whose}") as caught:
        sampler_of(pipe)
    assert "\n" not in str(caught.value)
    assert everybodys() == before
    sampler_of(pipe, solver=Ddim())  # its steps are not taken


def test_a_scheduler_that_draws_in_vain_leaves_everybodys_generator_alone():
    expected = np.asarray(plain(with_scheduler("sd", DDIMScheduler)))
    sampler = sampler_of(with_scheduler("sd", InVain))
    before = everybodys()
    found = way(sampler)
    assert not sampler.stochastic
    assert np.array_equal(pixels_of(sampler.decode(found))[0], expected)
    assert torch.equal(way(sampler, 2), found)
    assert everybodys() == before
    assert "do not matter" in sampler.warnings[0]


class Remembering(DDIMScheduler):
    """Keeps an object from step to step, as samplers of Brownian trees do."""

    def step(self, model_output, timestep, sample, return_dict=True):
        self.tree = object()
        return super().step(model_output, timestep, sample, return_dict=return_dict)


def test_a_scheduler_that_keeps_what_a_particle_cannot_take_along_is_refused_before_anything_is_spent():
    with pytest.raises(UnsupportedPipeline, match=r"keeps a object \(tree\)"):
        sampler_of(with_scheduler("sd", Remembering))


@pytest.mark.parametrize("name", ["CogVideoXDPMScheduler", "RePaintScheduler"])
def test_a_scheduler_that_needs_more_than_the_state_is_refused(name):
    with pytest.raises(UnsupportedPipeline, match="needs "):
        sampler_of(with_scheduler("sd", getattr(diffusers, name)))


class Late(StableDiffusionPipeline):
    """Has a loop, and steps never."""

    def __call__(
        self, prompt, num_images_per_prompt=1, num_inference_steps=50, guidance_scale=7.5, latents=None,
        generator=None, output_type="pil",
    ):  # fmt: skip
        self.scheduler.set_timesteps(num_inference_steps)
        for _ in self.scheduler.timesteps:
            denoised = latents
        return denoised


def test_a_pipeline_that_takes_no_step_is_refused_in_one_line():
    pipe = Late(**with_scheduler("sd", DDIMScheduler).components, requires_safety_checker=False)
    with pytest.raises(UnsupportedPipeline, match="got NoneType from Late") as caught:
        sampler_of(pipe)
    assert "\n" not in str(caught.value)
    assert type(pipe) is Late


# Pipelines that draw


@pytest.mark.parametrize("matters", [True, False])
def test_a_network_that_draws_from_everybodys_generator(matters):
    """Dropout that was left on, say."""
    pipe = with_scheduler("sd", DDIMScheduler)
    sampler = sampler_of(pipe)
    expected = way(sampler)

    def shake(module, args, output):
        drawn = torch.randn_like(output[0])
        return (output[0] + drawn, *output[1:]) if matters else None

    hook = pipe.unet.register_forward_hook(shake)
    before = everybodys()
    try:
        if matters:
            with pytest.raises(UnsupportedPipeline, match=f"StableDiffusionPipeline draws .*{GLOBAL} torch"):
                way(sampler)
        else:
            counted = sampler.meter.nfe
            assert torch.equal(way(sampler), expected)
            assert torch.equal(way(sampler), expected)
            assert sampler.meter.nfe == counted + 3 * STEPS  # proved once
            assert "do not matter" in sampler.warnings[0]
    finally:
        hook.remove()
    assert everybodys() == before


# What pipelines pass to step


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("scheduler", "config", "eta", "solver"),
    [
        (DDIMScheduler, {}, 0.8, "ddim"),
        (DDIMScheduler, {}, 1.0, "ddim"),
        (DDIMScheduler, {}, 0.0, "ddim"),
        (DDIMScheduler, {"timestep_spacing": "linspace"}, 0.8, None),
        (DDIMScheduler, {"clip_sample": True}, 0.5, None),
        (diffusers.DDIMParallelScheduler, {}, 0.5, None),
        (TCDScheduler, {}, 0.0, None),
        (TCDScheduler, {}, 0.3, None),
        (TCDScheduler, {}, 0.9, None),
    ],
)
def test_eta_reaches_the_scheduler_or_its_equal(scheduler, config, eta, solver):
    pipe = with_scheduler("sd", scheduler, **config)
    expected = np.asarray(plain(pipe, eta=eta)).astype(int)
    sampler = sampler_of(pipe, pipe_kwargs={"eta": eta})
    assert (sampler.solver.name if sampler.solver else None) == solver
    assert sampler.stochastic == (eta > 0)
    found = way(sampler)
    assert np.abs(pixels_of(sampler.decode(found))[0].astype(int) - expected).max() <= DIFFERS_BY_ROUNDING
    assert torch.equal(way(sampler, 1, 3), found)
    default = 0.3 if scheduler is TCDScheduler else 0.0
    recorded = eta if solver or eta != default else None
    assert sampler.description["eta"] == recorded


def test_without_eta_the_pipelines_own_default_counts():
    pipe = with_scheduler("sd", TCDScheduler)
    sampler = sampler_of(pipe)
    assert not sampler.stochastic  # TCD's step has 0.3 by default, the pipeline passes 0
    assert sampler.description["eta"] == 0.0
    assert np.array_equal(pixels_of(sampler.decode(way(sampler)))[0], np.asarray(plain(pipe)))


class Churning(StableDiffusionPipeline):
    """Passes more to its scheduler's step."""

    more = {"s_churn": 8.0, "s_noise": 1.1}  # noqa: RUF012
    quiet_calls = 0

    def prepare_extra_step_kwargs(self, generator, eta):
        found = super().prepare_extra_step_kwargs(generator, eta)
        Churning.quiet_calls -= 1
        return found if Churning.quiet_calls >= 0 else {**found, **self.more}


def churning(**config):
    pipe = with_scheduler("sd", EulerDiscreteScheduler, **config)
    made = Churning(**pipe.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def test_churn_reaches_the_scheduler():
    pipe = churning()
    sampler = sampler_of(pipe)
    assert sampler.solver is None  # euler of ours does not churn
    assert sampler.stochastic
    found = way(sampler)
    assert np.array_equal(pixels_of(sampler.decode(found))[0], np.asarray(plain(pipe)))
    assert torch.equal(way(sampler, 2), found)


def test_what_is_passed_without_notice_and_not_understood_is_refused(monkeypatch):
    pipe = churning()
    monkeypatch.setattr(Churning, "quiet_calls", 1)
    with pytest.raises(UnsupportedPipeline, match=r"passes s_churn = 8\.0"):
        way(sampler_of(pipe))
    pipe.scheduler = diffusers.FlowMatchHeunDiscreteScheduler()  # natively it would draw without a seed
    pipe.scheduler.init_noise_sigma = 1.0
    pipe.scheduler.scale_model_input = lambda sample, time: sample
    monkeypatch.setattr(Churning, "quiet_calls", 1)
    with pytest.raises(UnsupportedPipeline, match="drew none when its steps were tried"):
        way(sampler_of(pipe))


def test_an_argument_of_a_rule_that_is_not_used_is_refused():
    pipe = with_scheduler("sd", DDIMScheduler)
    with pytest.raises(ValueError, match="no eta of the pipeline's beside a solver ddim"):
        sampler_of(pipe, solver=Ddim(0.3), pipe_kwargs={"eta": 0.5})


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("scheduler", "more"),
    [
        (EulerDiscreteScheduler, {"timesteps": [999, 700, 300, 50]}),
        (EulerDiscreteScheduler, {"sigmas": [14.0, 5.0, 1.0, 0.2]}),
        (diffusers.DPMSolverMultistepScheduler, {"timesteps": [900, 300, 50]}),
        (DDIMScheduler, {"guidance_rescale": 0.7}),
    ],
)
def test_arguments_of_the_call_reach_the_pipeline(scheduler, more):
    pipe = with_scheduler("sd", scheduler)
    expected = np.asarray(plain(pipe, **more)).astype(int)
    assert np.abs(expected - np.asarray(plain(pipe)).astype(int)).max() > DIFFERS_BY_ROUNDING
    sampler = sampler_of(pipe, pipe_kwargs=more)
    assert np.abs(pixels_of(sampler.decode(way(sampler)))[0].astype(int) - expected).max() <= DIFFERS_BY_ROUNDING


def test_levels_that_are_given_twice_are_refused():
    pipe = with_scheduler("sd", EulerDiscreteScheduler)
    sigmas = {"sigmas": [14.0, 5.0, 1.0, 0.2]}
    with pytest.raises(ValueError, match="sigmas of the pipeline's beside a schedule"):
        sampler_of(pipe, schedule="karras", pipe_kwargs=sigmas)
    with pytest.raises(ValueError, match="no other number of steps beside sigmas"):
        sampler_of(pipe, pipe_kwargs=sigmas).with_steps(2)


@pytest.mark.slow
def test_runs_with_late_step_noise_and_with_eta_are_replayed(tmp_path):
    for name in ("KDPM2AncestralDiscreteScheduler", "TCDScheduler"):
        pipe = with_scheduler("sd", getattr(diffusers, name))
        pipe.save_pretrained(tmp_path / name, safe_serialization=True)
        out = tmp_path / f"run-{name}"
        found = nw.search(
            str(tmp_path / name), PROMPT, verifier="brightness", budget="2 images", num_inference_steps=3, out=out,
            batch_size=1,
        )  # fmt: skip
        assert replay(str(found.best.file)).identical
        assert replay(f"{out}:baseline").identical
