"""Images of a variant, a single file or LoRAs are made again: the files are found by their content, or named."""

import importlib.util
import shutil

import pytest
import torch
from safetensors.torch import save_file

import ldm
import noisewright as nw
import tiny
from hostile import with_recipe
from noisewright.errors import RunMismatch
from noisewright.images.metadata import read_recipe
from noisewright.replay import replay
from noisewright.samplers.load import load_pipeline
from noisewright.samplers.recorded import loading_arguments

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
LAYER = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def model(tmp_path):
    tiny.sd().save_pretrained(tmp_path / "model")
    tiny.sd(seed=1).save_pretrained(tmp_path / "model", variant="ema")
    return tmp_path / "model"


def lora(path, seed=0):
    torch.manual_seed(seed)
    save_file({f"{LAYER}.lora_A.weight": torch.randn(2, 32), f"{LAYER}.lora_B.weight": torch.randn(32, 2)}, path)
    return path


def searched(pipe, out):
    nw.search(pipe, "a cat", verifier="brightness", budget="2 images", num_inference_steps=2, out=out, pictures=False)
    return out / "best.png"


def line(function, *args, kind=ValueError, **kwargs):
    with pytest.raises(kind, match=r"\A[^\n]+\Z") as caught:
        function(*args, **kwargs)
    return str(caught.value)


@pytest.mark.slow
def test_a_variant_is_made_again(model, tmp_path):
    image = searched(load_pipeline(model, "cpu", variant="ema"), tmp_path / "run")
    assert read_recipe(image)[1]["sampler"]["variant"] == "ema"
    assert replay(image).identical


@pytest.mark.slow
def test_an_image_of_a_single_file_is_made_again(model, tmp_path):
    file = ldm.save(tiny.sd(), tmp_path / "one.safetensors")
    image = searched(load_pipeline(file, "cpu", config=model), tmp_path / "run")
    recipe = read_recipe(image)[1]["sampler"]
    assert (recipe["model"], recipe["config"]) == ("one.safetensors", "model")  # no paths of this machine
    assert f"expected --config DIR for {image}: the configurations model" in line(replay, image)
    assert replay(image, config=model).identical
    moved = tmp_path / "moved.safetensors"
    file.rename(moved)
    assert "--model" in line(replay, image, config=model)
    assert replay(image, config=model, model=str(moved)).identical
    ldm.save(tiny.sd(seed=1), file)
    assert "fingerprint" in line(replay, image, config=model, kind=RunMismatch)


@pytest.mark.slow
def test_a_config_for_what_no_single_file_made_is_refused(model, tmp_path):
    image = searched(load_pipeline(model, "cpu"), tmp_path / "run")
    assert "expected no config" in line(replay, image, config=model)


@pytest.mark.slow
@needs_peft
def test_an_image_with_loras_is_made_again(model, tmp_path):
    files = [lora(tmp_path / "one.safetensors"), lora(tmp_path / "two.safetensors", 1)]
    image = searched(load_pipeline(model, "cpu", loras=[(files[0], 0.5), (files[1], -0.25)]), tmp_path / "run")
    recorded = read_recipe(image)[1]["sampler"]["loras"]
    assert [(one["file"], one["weight"]) for one in recorded] == [("one.safetensors", 0.5), ("two.safetensors", -0.25)]
    assert "expected --lora FILE for" in line(replay, image)
    assert "two.safetensors" in line(replay, image, loras=files[:1])
    renamed = files[0].rename(tmp_path / "renamed.safetensors")
    assert replay(image, loras=[files[1], renamed]).identical  # by content, in any order
    other = lora(tmp_path / "other.safetensors", 2)
    said = line(replay, image, loras=[files[1], renamed, other], kind=RunMismatch)
    assert "expected the LoRAs that made" in said
    assert "other.safetensors" in said


@pytest.mark.slow
@needs_peft
def test_loras_are_found_where_the_run_says_they_were(model, tmp_path):
    file = lora(tmp_path / "one.safetensors")
    image = searched(load_pipeline(model, "cpu", loras=[(file, 0.5)]), tmp_path / "run")
    (recorded,) = read_recipe(image)[1]["sampler"]["loras"]
    made = {"loras": [recorded]}
    request = {"loras": [{"file": str(file), "weight": 9.0}]}
    assert loading_arguments(made, what="x", request=request) == {"loras": [(str(file), 0.5)]}  # the recipe's weight
    shutil.copy(lora(tmp_path / "two.safetensors", 1), file)
    assert "expected --lora FILE for x" in line(loading_arguments, made, what="x", request=request)
    for strange in ({"loras": 7}, {"loras": [7, {"file": 7}, {"file": "/dev/zero"}, {"file": "/etc/passwd"}]}):
        assert "expected --lora FILE for x" in line(loading_arguments, made, what="x", request=strange)


def test_a_lora_for_what_was_made_without_is_refused(model, tmp_path):
    image = searched(load_pipeline(model, "cpu"), tmp_path / "run")
    said = line(replay, image, loras=[lora(tmp_path / "one.safetensors")], kind=RunMismatch)
    assert "(none), got another" in said


@pytest.mark.sampled(4)
@pytest.mark.parametrize("loras", ["a", [1], [{"file": "a"}], [{"file": "a", "sha256": "b", "weight": 1.0}]])
def test_forged_loras_of_a_recipe_are_refused(loras, model, tmp_path):
    image = searched(load_pipeline(model, "cpu"), tmp_path / "run")
    forged = with_recipe(image, tmp_path / "forged.png", lambda recipe: recipe["sampler"].update(loras=loras))
    assert "loras" in line(replay, forged)
