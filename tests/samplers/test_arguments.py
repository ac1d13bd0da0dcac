"""Arguments of a pipeline's call from JSON: as the call is annotated, or refused in one line."""

import inspect
from functools import cache

import pytest
import torch

import tiny
from commands import refused
from noisewright import cli
from noisewright.images.metadata import read_recipe
from noisewright.replay import replay
from noisewright.samplers.arguments import arguments_from_json, check_call_arguments
from noisewright.samplers.pipeline import PipelineSampler


@cache
def pipe_of(name):
    pipe = getattr(tiny, name)()
    pipe.set_progress_bar_config(disable=True)
    return pipe


GOOD = {
    "float": ("sd", "guidance_rescale", 0.5, 0.5),
    "whole number": ("sd", "guidance_rescale", 1, 1.0),
    "int": ("sd", "clip_skip", 1, 1),
    "null": ("sd", "clip_skip", None, None),
    "mapping": ("sd", "cross_attention_kwargs", {"scale": 0.5}, {"scale": 0.5}),
    "list of numbers": ("sd", "timesteps", [900, 500, 100], [900, 500, 100]),
    "tuple": ("sdxl", "original_size", [64, 64], (64, 64)),
    "text": ("sdxl", "prompt_2", "a cat", "a cat"),
    "list of texts": ("sdxl", "negative_prompt_2", ["a cat"], ["a cat"]),
    "more levels": ("sd3", "skip_guidance_layers", [0], [0]),
}


@pytest.mark.parametrize("name", GOOD)
def test_json_becomes_what_the_call_takes(name):
    kind, argument, value, expected = GOOD[name]
    (found,) = arguments_from_json(pipe_of(kind), {argument: value}).values()
    assert found == expected
    assert type(found) is type(expected)


BAD = {
    "a text for a number": ("sd", "guidance_rescale", "high", "expected guidance_rescale as float, got 'high'"),
    "a flag for a number": ("sd", "guidance_rescale", True, "expected guidance_rescale as float, got True"),
    "a list for a number": ("sd", "clip_skip", [1], "expected clip_skip as int"),
    "a half for a whole": ("sd", "clip_skip", 1.5, "expected clip_skip as int"),
    "too many": ("sdxl", "original_size", [64, 64, 64], "expected original_size as tuple"),
    "texts in a tuple": ("sdxl", "original_size", ["64", "64"], "expected original_size as tuple"),
    "numbers as texts": ("sd", "timesteps", ["900"], "expected timesteps as list"),
    "null for a number": ("sd", "guidance_rescale", None, "expected guidance_rescale as float, got None"),
    "a tensor": ("sd", "prompt_embeds", [[0.5]], "expected no prompt_embeds as JSON"),
    "an image": ("sd", "ip_adapter_image", "cat.png", "expected no ip_adapter_image as JSON"),
    "tensors in a list": ("sd", "ip_adapter_image_embeds", [[1.0]], "ip_adapter_image_embeds"),
    "a function": ("sd", "callback_on_step_end", "print", "expected no callback_on_step_end as JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_json_cannot_say_or_the_call_does_not_take_is_refused(name):
    kind, argument, value, said = BAD[name]
    with pytest.raises(ValueError, match=r"\A[^\n]{10,400}\Z") as caught:
        arguments_from_json(pipe_of(kind), {argument: value})
    assert said in str(caught.value)


def test_a_name_that_is_not_taken_has_the_nearest_beside_it():
    with pytest.raises(ValueError, match=r"StableDiffusionPipeline takes no clipskip; did you mean clip_skip\?"):
        check_call_arguments(pipe_of("sd"), ["clip_skip", "clipskip"])
    with pytest.raises(ValueError, match=r"takes no budgett; did you mean budget\?"):
        check_call_arguments(pipe_of("sd"), ["budgett"], ["budget"])
    with pytest.raises(ValueError, match=r"takes no self\Z"):
        check_call_arguments(pipe_of("sd"), ["self"])


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "class_flow", "dit"])
def test_every_default_of_a_call_is_taken_back(name):
    """JSON of what a pipeline has anyway is never refused."""
    pipe = pipe_of(name)
    defaults = {
        key: list(one.default) if isinstance(one.default, tuple) else one.default
        for key, one in inspect.signature(type(pipe).__call__).parameters.items()
        if isinstance(one.default, (bool, int, float, str, list, tuple, type(None)))
    }
    found = arguments_from_json(pipe, defaults)
    assert list(found) == list(defaults)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("clip_skip=true", "expected clip_skip as int or None, got True"),
        ("prompt_embeds=[[1]]", "expected no prompt_embeds as JSON"),
        ("clipskip=1", "did you mean clip_skip?"),
        ("timesteps=[1,", "expected --pipeline-arg NAME=JSON"),
    ],
)
def test_a_command_refuses_it_before_anything_is_spent(argument, said, tmp_path, capsys):
    pipe_of("sd").save_pretrained(tmp_path / "model")
    argv = ["generate", "a cat", "--model", tmp_path / "model", "--verifier", "brightness", "--out", tmp_path / "run"]
    assert said in refused(capsys, [*argv, "--pipeline-arg", argument])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_command_passes_it_on(tmp_path):
    pipe_of("sdxl").save_pretrained(tmp_path / "model")
    argv = ["generate", "a cat", "--model", tmp_path / "model", "--verifier", "brightness", "--out", tmp_path / "run",
            "--steps", 1, "--budget", "1 images", "--pipeline-arg", "original_size=[32,32]"]  # fmt: skip
    assert cli.main([str(one) for one in argv]) == 0
    recorded = read_recipe(tmp_path / "run" / "best.png")[1]["sampler"]
    assert recorded["original_size"] == {"$tuple": [32, 32]}
    assert replay(tmp_path / "run" / "best.png").identical


def test_a_size_from_json_reaches_the_network():
    given = arguments_from_json(pipe_of("sdxl"), {"original_size": [32, 32], "crops_coords_top_left": [4, 4]})
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0}
    sampler = PipelineSampler(pipe_of("sdxl"), "a cat", pipe_kwargs=given, **settings)
    found = sampler.denoise(sampler.noise([1]), 0, 2)[0]
    generator = torch.Generator("cpu").manual_seed(1)
    plain = pipe_of("sdxl")("a cat", generator=generator, output_type="latent", original_size=(32, 32),
                            crops_coords_top_left=(4, 4), **settings).images  # fmt: skip
    torch.testing.assert_close(found, plain, rtol=0, atol=5e-5 * float(plain.std()))
