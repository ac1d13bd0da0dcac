"""Pipelines without a prompt: parity with the plain ones, the way through a run, and what they refuse."""

import json

import pytest
import torch
from diffusers import KarrasVePipeline, KarrasVeScheduler, ScoreSdeVePipeline, ScoreSdeVeScheduler

import noisewright as nw
import tiny
import tiny_unconditional
from noisewright import cli, registry
from noisewright.errors import UnsupportedPipeline
from noisewright.replay import replay
from noisewright.samplers.classes import is_class_conditional, is_unconditional
from noisewright.samplers.pipeline import PipelineSampler

# The plain image is float, ours is rounded to the 8 bits of a PNG.
HALF_A_STEP = 0.5 / 255 + 1e-5
A_STEP = 1.01 / 255

STEPS = {"ddpm": 5, "ddim": 4, "pndm": 4, "ldm": 4, "consistency": 3}


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def pipe_of(name):
    pipe = getattr(tiny_unconditional, name)()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain(pipe, name, seed, **more):
    """The image that the pipeline itself makes, (1, 3, height, width)."""
    found = pipe(batch_size=1, generator=generator(seed), num_inference_steps=STEPS[name], output_type="np", **more)
    return torch.as_tensor(found.images).permute(0, 3, 1, 2)


def images_of(sampler, seeds):
    x, _ = sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps, None, None, seeds)
    return sampler.decode(x)


@pytest.mark.parametrize("name", STEPS)
def test_a_candidate_is_the_plain_pipelines_image(name):
    pipe = pipe_of(name)
    scheduler = pipe.scheduler
    sampler = registry.make_sampler(pipe, None, {"num_inference_steps": STEPS[name]})
    found = images_of(sampler, [7])
    torch.testing.assert_close(found, plain(pipe, name, 7), rtol=0, atol=HALF_A_STEP)
    assert float((found - plain(pipe, name, 8)).abs().max()) > 0.05, "the seed matters"
    torch.testing.assert_close(images_of(sampler, [3, 7])[1:], found, rtol=0, atol=A_STEP)
    assert pipe.scheduler is scheduler
    assert sampler.description["prompt"] == ""
    assert sampler.description["pipeline"] == type(pipe).__name__


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", STEPS)
def test_parts_are_the_whole(name):
    sampler = registry.make_sampler(pipe_of(name), None, {"num_inference_steps": STEPS[name]})
    last = sampler.schedule.steps
    whole, _ = sampler.denoise(sampler.noise([7]), 0, last, None, None, [7])
    for cut in range(1, last):
        part, state = sampler.denoise(sampler.noise([7]), 0, cut, None, None, [7])
        rest, _ = sampler.denoise(part, cut, last, state, None, [7])
        torch.testing.assert_close(rest, whole, rtol=0, atol=2e-5)


def test_ddim_steps_have_the_eta_that_is_given():
    pipe = pipe_of("ddim")
    sampler = registry.make_sampler(pipe, None, {"num_inference_steps": 4, "pipe_kwargs": {"eta": 1.0}})
    torch.testing.assert_close(images_of(sampler, [7]), plain(pipe, "ddim", 7, eta=1.0), rtol=0, atol=HALF_A_STEP)
    assert float((images_of(sampler, [7]) - plain(pipe, "ddim", 7)).abs().max()) > A_STEP


def test_a_consistency_model_of_classes_is_told_a_class():
    pipe = tiny_unconditional.consistency(classes=5)
    assert is_class_conditional(pipe)
    sampler = registry.make_sampler(pipe, None, {"num_inference_steps": 2, "class_label": 3})
    own = [
        pipe(class_labels=[label], generator=generator(7), num_inference_steps=2, output_type="pt").images
        for label in (3, 1)
    ]
    found = images_of(sampler, [7])
    torch.testing.assert_close(found, own[0], rtol=0, atol=HALF_A_STEP)
    assert float((found - own[1]).abs().max()) > A_STEP
    with pytest.raises(ValueError, match="expected a class_label"):
        PipelineSampler(pipe, num_inference_steps=2)


def test_which_pipelines_are_unconditional():
    assert all(is_unconditional(pipe_of(name)) for name in STEPS)
    assert not any(map(is_unconditional, (tiny.sd(), tiny.dit(), tiny.class_flow(), tiny_unconditional.consistency(5))))


@pytest.mark.parametrize(("kind", "scheduler"), [
    (KarrasVePipeline, KarrasVeScheduler), (ScoreSdeVePipeline, ScoreSdeVeScheduler),
])  # fmt: skip
def test_those_that_do_not_step_as_others_do_are_refused(kind, scheduler):
    with pytest.raises(UnsupportedPipeline, match=r"\A[^\n]*cannot be entered through its scheduler[^\n]*\Z"):
        registry.make_sampler(kind(unet=tiny_unconditional.unet(), scheduler=scheduler()), None, {})


# Through a run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "ddim"
    tiny_unconditional.ddim().save_pretrained(path)
    return path


def test_a_search_needs_no_prompt(tmp_path, folder):
    def warmth(images, prompt):
        assert prompt == ""
        return images[:, 0].mean(dim=(1, 2))

    result = nw.search(
        tiny_unconditional.ddim(), verifier=[warmth, "sharpness"], search="zero-order", budget="4 images",
        num_inference_steps=2, out=tmp_path / "run", pictures=False,
    )  # fmt: skip
    assert result.images == 4
    assert result.prompt == ""


@pytest.mark.slow
def test_the_command_line_needs_no_prompt(tmp_path, folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["--model", str(folder), "--steps", "2", "--verifier", "sharpness"]
    assert cli.main(["generate", *common, "--budget", "2", "--out", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert cli.main(["resume", "run", "--budget", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    assert cli.main(["show", "run"]) == 0
    assert "prompt=" not in (tmp_path / "run" / "run.json").read_text()
    assert replay("run:best").identical


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["a red circle", "--verifier", "sharpness"], "expected no prompt, since DDIMPipeline is unconditional"),
        (["--class-label", "cat", "--verifier", "sharpness"], "expected no class_label"),
        ([], "takes no prompt, got clip, which reads it"),
        (["--verifier", "shapes-oracle"], "got shapes-oracle, which reads it"),
        (["--verifier", "sharpness", "--judge", "imagereward"], "got imagereward, which reads it"),
        (["--verifier", "sharpness", "--guidance-scale", "3"], "DDIMPipeline takes no guidance_scale"),
        (["--verifier", "sharpness", "--negative-prompt", "x"], "DDIMPipeline takes no negative_prompt"),
    ],
)
def test_the_command_line_refuses_in_one_line(tmp_path, folder, monkeypatch, capsys, more, says):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main(["generate", *more, "--model", str(folder), "--steps", "2", "--budget", "2", "--out", "run"]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n")) == ("", 1)
    assert not (tmp_path / "run").exists()


def test_a_model_with_a_prompt_still_needs_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "--budget", "2"]) == 2
    assert "expected a PROMPT, --prompt-file or --class-label" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected a prompt"):
        nw.search(tiny.sd(), verifier="sharpness", budget="2 images", num_inference_steps=1)
