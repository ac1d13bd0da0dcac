"""Modular pipelines: the images of their own call, and what cannot be entered named."""

import pytest
import torch
from diffusers import StableDiffusionXLAutoBlocks

import noisewright as nw
import tiny
from noisewright import registry
from noisewright.errors import UnsupportedPipeline

HALF_A_STEP = 0.5 / 255 + 1e-5  # the plain image is float
A_STEP = 1.01 / 255
STEPS = 4
PROMPT = "two red circles"


def pipe_of(blocks=None):
    """Stable Diffusion XL of blocks, with the components of the classic one."""
    parts = tiny.sdxl().components
    pipe = (blocks or StableDiffusionXLAutoBlocks()).init_pipeline()
    taken = [key for key, one in parts.items() if one is not None and key in pipe.component_names]
    pipe.update_components(**{key: parts[key] for key in taken})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain(pipe, seed, **more):
    given = {"num_inference_steps": STEPS, "output_type": "pt", "output": "images", **more}
    return pipe(prompt=PROMPT, generator=torch.Generator("cpu").manual_seed(seed), **given)


def images_of(sampler, seeds):
    x, _ = sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps, None, None, seeds)
    return sampler.decode(x)


def test_a_candidate_is_the_plain_pipelines_image():
    pipe = pipe_of()
    scheduler, blocks = pipe.scheduler, list(pipe.blocks.sub_blocks)
    sampler = registry.make_sampler(pipe, PROMPT, {"num_inference_steps": STEPS})
    found = images_of(sampler, [7])
    torch.testing.assert_close(found, plain(pipe, 7), rtol=0, atol=HALF_A_STEP)
    assert float((found - plain(pipe, 8)).abs().max()) > 0.05
    torch.testing.assert_close(images_of(sampler, [3, 7])[1:], found, rtol=0, atol=A_STEP)
    x = sampler.noise([7])
    for cut in range(1, STEPS):
        part, state = sampler.denoise(x, 0, cut, None, None, [7])
        rest, _ = sampler.denoise(part, cut, STEPS, state, None, [7])
        torch.testing.assert_close(sampler.decode(rest), found, rtol=0, atol=A_STEP)
    assert sampler.predict(x, 1).shape == x.shape
    assert sampler.meter.forwards == 2 * sampler.meter.nfe  # its guider asks twice
    assert pipe.scheduler is scheduler
    assert list(pipe.blocks.sub_blocks) == blocks
    assert sampler.description["pipeline"] == "StableDiffusionXLModularPipeline"


@pytest.mark.slow
def test_arguments_of_the_blocks_are_arguments_of_the_call():
    pipe = pipe_of()
    given = {"original_size": (32, 32)}
    sampler = registry.make_sampler(pipe, PROMPT, {"num_inference_steps": STEPS, "pipe_kwargs": given})
    torch.testing.assert_close(images_of(sampler, [7]), plain(pipe, 7, **given), rtol=0, atol=HALF_A_STEP)


@pytest.mark.slow
def test_a_search(tmp_path):
    result = nw.search(
        pipe_of(), PROMPT, verifier="sharpness", search="zero-order", budget="3 images", num_inference_steps=2,
        negative_prompt="grey", out=tmp_path / "run", pictures=False,
    )  # fmt: skip
    assert result.images == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"guidance_scale": 3.0}, "takes no guidance_scale"),
        ({"orignal_size": (32, 32)}, "did you mean original_size?"),
        ({"latents": torch.zeros(1)}, "expected no latents"),
    ],
)
def test_wrong_arguments_are_refused(given, says):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        nw.search(pipe_of(), PROMPT, verifier="sharpness", budget="1 images", num_inference_steps=1, **given)
    assert says in str(caught.value)


def test_blocks_that_do_not_decode_are_refused():
    blocks = StableDiffusionXLAutoBlocks()
    del blocks.sub_blocks["decode"]
    with pytest.raises(UnsupportedPipeline, match="use the classic StableDiffusionXLPipeline"):
        registry.make_sampler(pipe_of(blocks), PROMPT, {"num_inference_steps": STEPS})


def test_guidance_in_a_part_of_the_loop_is_refused():
    from diffusers import ClassifierFreeGuidance

    pipe = pipe_of()
    pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=5.0, stop=0.5))
    with pytest.raises(UnsupportedPipeline, match=r"guides every step, got ClassifierFreeGuidance from 0 to 0\.5"):
        registry.make_sampler(pipe, PROMPT, {"num_inference_steps": STEPS})
