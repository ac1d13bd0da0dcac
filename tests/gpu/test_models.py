"""Tiny pipelines on a GPU: the noise of a seed, the plain image in each precision, splits, native schedulers."""

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, UniPCMultistepScheduler

import tiny
from _gpu_pipelines import flux
from noisewright.samplers.optional import KeepsStates, resident
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.places import home, there

STEPS = 4
EXACT, HALF = 1.001 / 255, 6.001 / 255  # states are float32 between steps, those of a plain pipeline in half precision
TEXT = {"prompt": "two red circles", "guidance_scale": 3.0}


def plain_flux():
    made = flux("cpu", torch.float32, tiny=True)
    return made.pipe, {"prompt": None, **made.given}


FAMILIES = {
    "sd": lambda: (tiny.sd(), TEXT),
    "sdxl": lambda: (tiny.sdxl(), TEXT),
    "sd3": lambda: (tiny.sd3(), TEXT),
    "flux": plain_flux,
}
NATIVE = {"unipc": UniPCMultistepScheduler, "euler-ancestral": EulerAncestralDiscreteScheduler}


def made(name, device, dtype=torch.float32, scheduler=None):
    """A pipeline on a device with the arguments of its call, embeddings on the CPU."""
    pipe, given = FAMILIES[name]()
    if scheduler is not None:
        pipe.scheduler = NATIVE[scheduler].from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype), given


def sampler_of(pipe, given):
    return PipelineSampler(pipe, given["prompt"] or "any", num_inference_steps=STEPS, **without_prompt(given))


def without_prompt(given):
    return {name: value for name, value in given.items() if name != "prompt"}


def plain(pipe, given, seeds):
    """Images of the pipeline alone, a call for each seed."""
    placed = {name: one.to(pipe.device, pipe.dtype) if torch.is_tensor(one) else one for name, one in given.items()}
    rows = [
        pipe(num_inference_steps=STEPS, generator=torch.Generator("cpu").manual_seed(seed), output_type="pt", **placed)
        for seed in seeds
    ]
    return torch.cat([one.images for one in rows]).float().cpu()


def through(sampler, seeds, cuts=()):
    x, state, at = sampler.noise(seeds), None, 0
    for stop in (*cuts, STEPS):
        x, state = sampler.denoise(x, at, stop, state, None, seeds)
        at = stop
    return sampler.decode(x)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_draws_the_same_noise_on_every_device(name, device):
    here = sampler_of(*made(name, device)).noise([0, 7])
    assert here.device.type == "cpu"
    assert torch.equal(here, sampler_of(*made(name, "cpu")).noise([0, 7]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_image_in_each_precision(name, dtype, device):
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("float16 is for GPUs")
    pipe, given = made(name, device, dtype)
    difference = (through(sampler_of(pipe, given), [0, 7]) - plain(pipe, given, [0, 7])).abs().max()
    assert difference <= (EXACT if dtype == torch.float32 else HALF)


@pytest.mark.parametrize("name", FAMILIES)
def test_splits_and_batches_change_nothing(name, device):
    sampler = sampler_of(*made(name, device))
    whole = through(sampler, [3, 0, 7])
    assert (through(sampler, [3, 0, 7], cuts=(1, 2)) - whole).abs().max() <= EXACT
    assert (through(sampler, [7]) - whole[2:]).abs().max() <= EXACT


@pytest.mark.parametrize("scheduler", NATIVE)
def test_a_scheduler_of_the_pipelines_own_is_split(scheduler, device):
    sampler = sampler_of(*made("sd", device, scheduler=scheduler))
    assert sampler.solver is None
    whole = through(sampler, [3, 7])
    assert (through(sampler, [3, 7], cuts=(1, 2)) - whole).abs().max() <= EXACT
    x, state = sampler.denoise(sampler.noise([3, 7]), 0, 2, None, None, [3, 7])
    x, _ = sampler.denoise(x, 2, STEPS, home(state), None, None)  # as it is read from a file
    assert (sampler.decode(x) - whole).abs().max() <= EXACT


@pytest.mark.parametrize("scheduler", [None, "unipc"])
def test_states_that_stay_give_the_same_image(scheduler, device):
    sampler = sampler_of(*made("sd", device, scheduler=scheduler))
    if not isinstance(sampler, KeepsStates):
        pytest.skip("this sampler moves its states")
    whole = through(sampler, [3, 7])
    with resident(sampler) as place:
        x, state = sampler.denoise(there(sampler.noise([3, 7]), place), 0, 2, None, None, [3, 7])
        assert x.device.type == device
        if scheduler is None:
            clean = sampler.predict(x, 2)
            assert clean.device.type == device
            x, state = sampler.advance(x, 2, clean, state)
            assert x.device.type == device
        x, state = sampler.denoise(x, 2 if scheduler else 3, STEPS, state)
        images = sampler.decode(x)
    assert images.device.type == "cpu"
    assert (images - whole).abs().max() <= EXACT
    assert home((x, state))[0].device.type == "cpu"


def test_the_gradient_leads_back_to_the_noise(device):
    sampler = sampler_of(*made("sd", device))
    x = sampler.noise([0]).requires_grad_()
    sampler.trace(x).mean().backward()
    assert x.grad.device.type == "cpu"
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0
