"""The bundled weights: they load as anyone's would, within their sizes, and do what their cards say."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import noisewright.models
from noisewright.shapes.oracle import read
from noisewright.shapes.prompts import KINDS, WORDS, sample_prompt, sample_scene
from noisewright.shapes.scene import render

MODELS = Path(next(iter(noisewright.models.__path__)))
PIPELINE_BYTES, SMALL_BYTES, CLIP_BYTES = 14_000_000, 4_000_000, 6_000_000
ALL_BYTES = 40_000_000
RECONSTRUCTIONS_READ = 0.95  # 200 scenes: the card's 97 % less two standard errors


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def pipe():
    from diffusers import StableDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = StableDiffusionPipeline.from_pretrained(MODELS / "shapes")
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def clip():
    from transformers import CLIPModel, CLIPProcessor

    folder = MODELS / "shapes-clip"
    return CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)


def test_sizes():
    assert 0 < size_bytes(MODELS / "shapes") <= PIPELINE_BYTES
    assert 0 < size_bytes(MODELS / "shapes-clip") <= CLIP_BYTES
    assert 0 < size_bytes(MODELS / "shapes-small") <= SMALL_BYTES
    weights = [path.stat().st_size for path in MODELS.rglob("*.safetensors")]
    assert 0 < sum(weights) <= ALL_BYTES
    for folder in ("shapes", "shapes-small", "shapes-clip"):
        assert "apache-2.0" in (MODELS / folder / "README.md").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("name", ["shapes", "shapes-small"])
def test_manifest(name):
    manifest = json.loads((MODELS / name / "noisewright.json").read_text(encoding="utf-8"))
    assert manifest["name"] == f"noisewright/{name}"
    assert set(manifest["words"]) == set(WORDS)


def test_each_word_is_one_token(pipe):
    tokenizer = pipe.tokenizer
    for word in WORDS:
        assert len(tokenizer(word).input_ids) == 3, word
    assert len(tokenizer("a dog's café").input_ids) > 6  # any other text falls back to bytes
    assert tokenizer.model_max_length == pipe.text_encoder.config.max_position_embeddings == 24


def test_pooled_output_is_that_of_the_end_token(pipe):
    ids = pipe.tokenizer(["a red circle"], padding="max_length", return_tensors="pt").input_ids
    assert ids[0, 4] == pipe.text_encoder.config.eos_token_id
    output = pipe.text_encoder(ids)
    assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, 4])


@pytest.mark.slow
def test_makes_pictures_in_float32(pipe):
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(8)]
    images = pipe(["a large red circle"] * 8, generator=generators, num_inference_steps=25, guidance_scale=4).images
    assert {image.size for image in images} == {(64, 64)}
    found = [[(t.colour, t.shape) for t in reading.things] for reading in read(images)]
    assert found.count([("red", "circle")]) >= 4


@pytest.mark.slow
def test_oracle_reads_reconstructions(pipe):
    rng = np.random.default_rng(21)
    scenes = [sample_scene(rng, sample_prompt(rng, KINDS[i % 5])) for i in range(200)]
    images = torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        again = pipe.vae.decode(pipe.vae.encode(images).latent_dist.mode()).sample / 2 + 0.5
    exact = [
        not reading.malformed
        and sorted((t.colour, t.shape, t.size) for t in reading.things)
        == sorted((t.colour, t.shape, t.size) for t in scene.things)
        for reading, scene in zip(read(again), scenes, strict=True)
    ]
    assert np.mean(exact) >= RECONSTRUCTIONS_READ


def test_clip_prefers_the_true_prompt(clip):
    model, processor = clip
    rng = np.random.default_rng(5)
    prompts = [sample_prompt(rng, KINDS[i % 5]) for i in range(40)]
    images = [render(sample_scene(rng, prompt)) for prompt in prompts]
    inputs = processor(text=[p.text for p in prompts], images=images, return_tensors="pt", padding="max_length")
    assert inputs.pixel_values.shape == (40, 3, 64, 64)
    with torch.inference_mode():
        output = model(**inputs)
    cosines = output.image_embeds @ output.text_embeds.T
    assert (cosines.argmax(dim=0) == torch.arange(40)).float().mean() >= 0.8
