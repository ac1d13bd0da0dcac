"""Where models come from: what they may not do, what must be there, and that another model is told from them."""

import json
import shutil
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from golden import clip_inputs as inputs
from noisewright.measures.statistics import FeatureStatistics
from noisewright.verifiers.aesthetic import Aesthetic
from noisewright.verifiers.classifier import Classifier
from noisewright.verifiers.clip import ClipVerifier
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.imagereward import ImageRewardVerifier
from noisewright.verifiers.self_similarity import SelfSimilarity
from noisewright.verifiers.vlm_local import LocalModel
from reward_models import clip_tensors


@pytest.fixture
def copy(tmp_path):
    return lambda folder: shutil.copytree(folder, tmp_path / "copy")


# Code


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}),
        (
            "preprocessor_config.json",
            {"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}),
    ],
)
@pytest.mark.parametrize("make", [ClipVerifier, FeatureNetwork, Classifier, SelfSimilarity, LocalModel])
def test_no_model_s_code_is_run_whatever_the_user_types(qwen, copy, tmp_path, monkeypatch, file, told, make):
    folder, ran = copy(qwen[0]), tmp_path / "ran"
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(ran)!r})\nclass Mine: pass\n")
    (folder / file).write_text(json.dumps(told))
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    says = "it is refused: it brings code of its own, which noisewright never runs" if file == "config.json" else ""
    # In the place of another file's class transformers may have one of its own.
    with pytest.raises(ValueError, match=says) if says else suppress(ValueError):
        make(folder)
    assert not ran.exists()


# Whole checkpoints


def test_of_a_checkpoint_in_parts_every_part_must_be_there(openai, copy):
    folder = copy(openai)
    state = load_file(folder / "model.safetensors")
    whole = ClipVerifier(folder).fingerprint
    (folder / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {key: names[n % 2] for n, key in enumerate(state)}
    for name in names:
        part = {key: value for key, value in state.items() if places[key] == name}
        save_file(part, folder / name, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert ClipVerifier(folder).fingerprint == whole
    (folder / names[1]).unlink()
    with pytest.raises(ValueError, match=f"the directory has no {names[1]}$"):
        ClipVerifier(folder)
    for damaged in ("", "{}", "[]", '{"weight_map": 3}'):
        index.write_text(damaged)
        with pytest.raises(ValueError, match=r"has no model\.safetensors\.index\.json that can be read$"):
            ClipVerifier(folder)


# Fingerprints


def change_one_value(folder):
    """Adds a little to one value, which is neither the first nor at a sixteenth, of a large tensor."""
    state = load_file(folder / "model.safetensors")
    large = max(state, key=lambda key: state[key].numel())
    state[large].view(-1)[1] += 0.01
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("make", "of"),
    [
        (ClipVerifier, "openai"), (FeatureNetwork, "openai"), (FeatureNetwork, "dino"), (Classifier, "dino"),
        (SelfSimilarity, "dino"), (LocalModel, "qwen"),
    ],
)  # fmt: skip
def test_one_changed_value_is_another_model_and_another_place_is_not(request, copy, make, of):
    given = request.getfixturevalue(of)
    given = given[0] if isinstance(given, tuple) else given
    folder = copy(given)
    before = make(given).fingerprint
    assert make(folder).fingerprint == before
    change_one_value(folder)
    assert make(folder).fingerprint != before


def test_one_changed_value_of_imagereward(original, copy):
    folder = copy(original)
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    large = max(state, key=lambda key: state[key].numel())
    state[large].view(-1)[1] += 0.01
    torch.save(state, folder / "ImageReward.pt")
    assert ImageRewardVerifier(folder).fingerprint != ImageRewardVerifier(original).fingerprint


def test_another_tokenizer_is_another_verifier(openai, original, copy, tmp_path):
    folder = copy(openai)
    lines = (folder / "merges.txt").read_text().splitlines()
    (folder / "merges.txt").write_text("\n".join(lines[:-1]) + "\n")
    assert ClipVerifier(folder).fingerprint != ClipVerifier(openai).fingerprint
    save_file(clip_tensors(inputs.HEAD_SHAPES, 4), tmp_path / "head.safetensors")
    one, other = (Aesthetic(place, head=tmp_path / "head.safetensors") for place in (folder, openai))
    assert one.fingerprint == other.fingerprint  # reads no text
    swapped = shutil.copytree(original, tmp_path / "swapped")
    words = (swapped / "vocab.txt").read_text().splitlines()
    words[-1], words[-2] = words[-2], words[-1]
    (swapped / "vocab.txt").write_text("\n".join(words) + "\n")
    assert ImageRewardVerifier(swapped).fingerprint != ImageRewardVerifier(original).fingerprint


def test_other_settings_of_a_local_model_are_another(qwen, copy):
    folder = copy(qwen[0])
    before = LocalModel(folder).fingerprint
    file = next(one for one in ("processor_config.json", "preprocessor_config.json") if (folder / one).is_file())
    told = json.loads((folder / file).read_text())
    (told.get("image_processor") or told)["rescale_factor"] = 1 / 128
    (folder / file).write_text(json.dumps(told))
    assert LocalModel(folder).fingerprint != before


def test_statistics_are_told_apart_by_how_features_go_together():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    one, other = FeatureStatistics().add(features), FeatureStatistics().add(features)
    assert one.digest() == other.digest()
    other.scatter[0, 1] += 1
    other.scatter[1, 0] += 1
    assert one.digest() != other.digest()
