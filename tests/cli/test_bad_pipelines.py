"""Families of pipelines and what they are wrongly given: exit code 2, one line, nothing written."""

from functools import cache

import pytest

import tiny
import tiny_unconditional
from noisewright import cli


def img2img():
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline(**tiny.sd().components, requires_safety_checker=False)


def inpaint():
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(**tiny.sd().components, requires_safety_checker=False)


def without_vae():
    pipe = tiny.sd()
    pipe.register_modules(vae=None)
    return pipe



FAMILIES = {
    "sd": tiny.sd, "sdxl": tiny.sdxl, "sd3": tiny.sd3, "dit": tiny.dit, "class-flow": tiny.class_flow,
    "ddpm": tiny_unconditional.ddpm, "ldm": tiny_unconditional.ldm, "consistency": tiny_unconditional.consistency,
    "img2img": img2img, "inpaint": inpaint, "without-vae": without_vae,
}  # fmt: skip

PROMPT, CLASS = ["a cat"], ["--class-label", "0"]

TABLE = [
    ("sd", [*PROMPT, "--pipeline-arg", "true_cfg_scale=2.0"], "no true_cfg_scale; did you mean guidance_scale?"),
    ("sd", [*PROMPT, "--pipeline-arg", "image=here.png"], "AutoPipelineForImage2Image.from_pipe(pipe)"),
    ("sd", [*PROMPT, "--pipeline-arg", "strength=0.5"], "AutoPipelineForImage2Image.from_pipe(pipe)"),
    ("sd", [*PROMPT, "--height", "36", "--width", "32"], "(nearest: height 32 or 40), got 36 x 32"),
    ("sd", [*CLASS], "StableDiffusionPipeline is not class-conditional"),
    ("sd", [], "expected a prompt"),
    ("sdxl", [*PROMPT, "--height", "64", "--width", "60"], "(nearest: width 56 or 64), got 64 x 60"),
    ("sdxl", [*PROMPT, "--pipeline-arg", "original_sise=[64,64]"], "did you mean original_size?"),
    ("sd3", PROMPT, "could not be loaded: it lacks text_encoder_3, tokenizer_3"),
    ("dit", [*CLASS, "--height", "16", "--width", "16"], "DiTPipeline takes no height"),
    ("dit", [], "expected a prompt (or a class label"),
    ("class-flow", ["a cow"], "takes a class_label in place of a prompt"),
    ("ddpm", PROMPT, "expected no prompt, since DDPMPipeline is unconditional"),
    ("ddpm", ["--height", "16", "--width", "16"], "DDPMPipeline takes no height"),
    ("ddpm", ["--pipeline-arg", "use_clipped_model_output=true"], "DDPMPipeline takes no use_clipped_model_output"),
    ("ldm", CLASS, "expected no class_label, since LDMPipeline is unconditional"),
    ("ldm", ["--guidance-scale", "2"], "LDMPipeline takes no guidance_scale"),
    ("consistency", CLASS, "expected no class_label, since ConsistencyModelPipeline is unconditional"),
    ("img2img", PROMPT, "an image as image for StableDiffusionImg2ImgPipeline, got none: --pipeline-arg image="),
    ("img2img", [*PROMPT, "--pipeline-arg", "image=nowhere.png"], "which is not there"),
    ("inpaint", [*PROMPT, "--pipeline-arg", "image=here.png"], "expected an image as mask_image"),
    ("without-vae", PROMPT, "could not be loaded: it lacks vae"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")

    @cache
    def folder(name):
        FAMILIES[name]().save_pretrained(root / name)
        return root / name

    return folder


@pytest.mark.parametrize(("family", "given", "says"), TABLE, ids=lambda one: one if isinstance(one, str) else None)
def test_it_is_said_in_one_line_before_anything_is_spent(saved, tmp_path, monkeypatch, capsys, family, given, says):
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.new("RGB", (32, 32), (200, 30, 30)).save("here.png")
    model = saved(family)
    capsys.readouterr()
    more = ["--model", str(model), "--verifier", "sharpness", "--steps", "2", "--budget", "2", "--out", "run"]
    assert cli.main(["generate", *given, *more]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
    assert err.startswith("noisewright: ")
    assert err.count("\n") == 1
    assert len(err) < 700
    assert sorted(one.name for one in tmp_path.iterdir()) == ["here.png"]
