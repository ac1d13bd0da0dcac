"""A bundled model that has parts of another one: ``noisewright/shapes-small``, here with a U-Net of random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

import noisewright as nw
from commands import done
from noisewright import registry
from noisewright.images.reading import read_image
from noisewright.outside import bundled
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.load import load_pipeline

NAME = "noisewright/shapes-small"
WHOLE = registry.MODELS / "shapes"
PROMPT = "a red circle left of a blue square"
CALL = ("--verifier", "brightness", "--judge", "none", "--steps", "3", "--device", "cpu", "--batch-size", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory of bundled models, one of them with a U-Net alone."""
    found = tmp_path_factory.mktemp("package") / "models"
    own = found / "shapes-small"
    own.mkdir(parents=True)
    (found / "shapes").symlink_to(WHOLE)
    config = json.loads((WHOLE / "unet" / "config.json").read_text())
    torch.manual_seed(5)
    narrow = {"block_out_channels": (16, 32), "norm_num_groups": 8, "mid_block_type": None}
    UNet2DConditionModel.from_config({**config, **narrow}).half().save_pretrained(own / "unet")
    for name in ("model_index.json", "noisewright.json"):
        shutil.copy(WHOLE / name, own / name)
    return found


@pytest.fixture
def place(folder, monkeypatch):
    """Its directory, while the package's models are those."""
    monkeypatch.setattr(bundled, "MODELS", folder)
    return folder / "shapes-small"


def image(pipe):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    return pipe(PROMPT, num_inference_steps=3, generator=generator, output_type="pt").images


def test_who_lends_is_said_for_directories_of_the_package_alone(place, tmp_path, monkeypatch):
    assert bundled.lender(place) == place.parent / "shapes"
    assert bundled.lender(str(place / ".." / "shapes-small")) == place.parent / "shapes"
    assert not set(bundled.LENDERS) & set(bundled.LENDERS.values()), "what lends has all its parts"
    shutil.copytree(place, tmp_path / "models" / "shapes-small")
    monkeypatch.chdir(tmp_path / "models")
    copies = "shapes-small", tmp_path / "models" / "shapes-small"
    names = NAME, "owner/shapes-small", "", "\0/shapes-small", "x" * 5000
    for other in (*copies, *names, place.parent, place.parent / "shapes", WHOLE, place / "unet"):
        assert bundled.lender(other) is None
    monkeypatch.chdir(place)
    assert bundled.lender(".") == place.parent / "shapes"


def test_only_the_unet_is_its_own(place):
    large, small = (nw.load(one, device="cpu") for one in ("noisewright/shapes", NAME))
    whole, own = fingerprint(large), fingerprint(small)
    assert whole != own
    assert small.name_or_path == str(place)
    assert fingerprint(load_pipeline(place, "cpu")) == own
    small.unet = large.unet
    assert fingerprint(small) == whole


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_parts_have_one_precision(place, dtype):
    pipe = nw.load(NAME, device="cpu", dtype=dtype)
    assert {one.dtype for one in (pipe.unet, pipe.vae, pipe.text_encoder)} == {getattr(torch, dtype)}


def test_plain_diffusers_makes_the_same_image(place):
    unet = UNet2DConditionModel.from_pretrained(place / "unet")
    plain = StableDiffusionPipeline.from_pretrained(WHOLE, unet=unet)
    assert torch.equal(image(plain), image(nw.load(NAME, device="cpu")))


def test_a_variant_that_nobody_has_is_told(place):
    with pytest.raises(ValueError, match=r"^expected .*got 'fp16'"):
        load_pipeline(place, "cpu", variant="fp16")


def test_no_copy_of_it_and_no_card_has_parts_elsewhere(place, tmp_path):
    copy = tmp_path / "models" / "shapes-small"
    shutil.copytree(place, copy)
    shutil.copytree(WHOLE / "vae", copy.parent / "shapes" / "vae")
    named = {"lender": str(WHOLE), "parts": str(WHOLE), "base": str(WHOLE), "_name_or_path": str(WHOLE)}
    for name in ("noisewright.json", "model_index.json"):
        (copy / name).write_text(json.dumps({**json.loads((copy / name).read_text()), **named}))
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        load_pipeline(copy, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_goes_on_is_made_again_and_needs_no_noisewright(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate = ("generate", PROMPT, "--model", NAME, *CALL, "--out", "run", "--budget", "2 images", "--json")
    assert json.loads(done(capsys, generate))["images"] == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["request"]["model"] == NAME
    assert json.loads(done(capsys, ["resume", "run", "--budget", "3 images", "--json"]))["images"] == 3
    assert json.loads(done(capsys, ["replay", "run/best.png", "--out", "again.png", "--json"]))["identical"] is True
    code = done(capsys, ["show", "run", "--diffusers"])
    assert "unet=unet" in code
    exec(compile(code, "lines", "exec"), {})
    best, again, plain = (read_image(tmp_path / one)[0] for one in ("run/best.png", "again.png", "best.png"))
    assert np.array_equal(best, again)
    assert np.array_equal(best, plain)
