"""What ``training/shapes/small.py`` trains and writes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import noisewright as nw
import noisewright.models

FOLDER = Path(__file__).parents[2] / "training" / "shapes"
MODELS = Path(next(iter(noisewright.models.__path__)))
HALF = 1e-3  # float16 holds embeddings of a few units to this


@pytest.fixture
def tiny(training, monkeypatch):
    """The module, with sizes at which nothing is learned."""
    small = training("small")
    monkeypatch.setattr(training("data"), "CHUNK", 20)
    monkeypatch.setattr(training("diffusion"), "BATCH_SIZE", 4)
    monkeypatch.setattr(small, "PICTURES", 40)
    return small


def test_it_costs_at_most_a_third_of_the_large_one(training):
    own = sum(one.numel() for one in training("small").build().parameters())
    large = load_file(MODELS / "shapes" / "unet" / "diffusion_pytorch_model.safetensors")
    assert own <= sum(one.numel() for one in large.values()) / 3


def test_a_prompt_is_encoded_once_and_found_again(tiny, tmp_path):
    pipe = nw.load("noisewright/shapes", device="cpu")
    texts = ["a red circle", "two blue stars", "a red circle"]
    contexts, rows = tiny.embeddings(pipe, texts, tmp_path / "kept.pt")
    assert contexts.shape == (3, 24, 128)
    assert rows.tolist() == [0, 1, 0]
    for text, context in zip([*texts, ""], [*contexts[rows], contexts[-1]], strict=True):
        ids = pipe.tokenizer([text], padding="max_length", return_tensors="pt").input_ids
        assert torch.allclose(pipe.text_encoder(ids)[0][0], context.float(), atol=HALF, rtol=HALF)
    kept, again = tiny.embeddings(None, texts[:2], tmp_path / "kept.pt")
    assert torch.equal(kept, contexts)
    assert again.tolist() == [0, 1]


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped_and_is_written_without_the_others_parts(tiny, training, tmp_path, monkeypatch):
    models = tmp_path / "models"
    models.mkdir()
    (models / "shapes").symlink_to(MODELS / "shapes")
    once, twice = tmp_path / "once", tmp_path / "twice"
    for work in (once, twice):
        work.mkdir()
    whole = tiny.fit(once, models, "cpu", 4)
    monkeypatch.setattr(training("loop"), "CHECKPOINT_SECONDS", 0.0)
    tiny.fit(twice, models, "cpu", 4, {"minutes": 0.0})  # stopped before the first step
    again = tiny.fit(twice, models, "cpu", 4)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(whole.parameters()), next(tiny.build().parameters())), "nothing was trained"
    folder = tiny.write(whole, models, {"name": "noisewright/shapes", "version": 1})
    assert {one.name for one in folder.iterdir()} == {"unet", "model_index.json", "noisewright.json"}
    assert json.loads((folder / "noisewright.json").read_text())["name"] == "noisewright/shapes-small"
