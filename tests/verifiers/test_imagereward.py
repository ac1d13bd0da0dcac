"""ImageReward against the authors' own code (golden/imagereward.json), and how the verifier behaves."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from golden import imagereward_inputs as inputs
from noisewright.registry import make_verifier
from noisewright.shapes.prompts import KINDS, sample_prompt, sample_scene
from noisewright.shapes.scene import render
from noisewright.verifiers.imagereward import ImageRewardVerifier, RewardModel
from noisewright.verifiers.protocol import DifferentiableVerifier, score
from reward_models import IMAGEREWARD as EXPECTED
from reward_models import imagereward_state

EXACT = 1e-5  # of scores around 1; float32 kernels differ by the order of their sums
MATES = 1e-5
# In normalised units, a deviation being about .27: PIL rounds and clips to 8 bits after each of its two passes, tensors
# do not; at most .064 and .0014 in [0, 1] on these harsh pictures.
GAP_MOST, GAP_MEAN = 0.25, 0.007
REWARD_RIGHT = 0.85  # of 40 pairs unlike each other
GAP_SCORE = 0.05  # what that is in scores here, whose spread is about 1


def tensor_of(picture):
    array = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


PHOTOGRAPHS = {name: tensor_of(inputs.photograph(name)) for name in inputs.sizes()}


@pytest.fixture(scope="module")
def verifier(original):
    return ImageRewardVerifier(original)


def test_scores_are_the_authors(verifier):
    assert isinstance(verifier, DifferentiableVerifier)
    spread = np.std(EXPECTED["scores"])
    assert 0.1 < spread < 10, "the golden scores must depend on what is scored"
    for prompt, row in zip(inputs.PROMPTS, EXPECTED["scores"], strict=True):
        found = [verifier(image, prompt)[0] for image in PHOTOGRAPHS.values()]
        assert found == pytest.approx(row, abs=EXACT)


def test_tokens_are_the_authors(verifier):
    for prompt, ids in zip(inputs.PROMPTS, EXPECTED["ids"], strict=True):
        found, mask = verifier.tokenise(prompt)
        assert found.tolist() == [ids]
        assert mask.sum() == sum(one != 0 for one in ids)
    assert len(verifier.tokenizer) == len(inputs.VOCABULARY) + 2


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_preprocessing_is_the_authors(verifier, name):
    pixels = verifier.preprocess.exact(PHOTOGRAPHS[name])[0]
    wanted = EXPECTED["pixels"][name]
    assert pixels[:, :2, :2].flatten().tolist() == pytest.approx(wanted["corner"], abs=1e-6)
    assert pixels.mean(dim=(0, 2)).view(16, -1).mean(dim=1).tolist() == pytest.approx(wanted["rows"], abs=1e-5)


def test_a_long_prompt_is_cut_with_the_count(original, caplog):
    verifier = ImageRewardVerifier(original)
    image = PHOTOGRAPHS["tiny"]
    with caplog.at_level(logging.WARNING):
        verifier(image, "a red circle")
        assert not caplog.records
        verifier(image, inputs.PROMPTS[-1])
        verifier(image, inputs.PROMPTS[-1])
    assert [one.getMessage() for one in caplog.records] == ["verifier imagereward reads 35 of the prompt's 50 tokens"]


def test_chunks_and_batch_mates_change_nothing(original, verifier):
    images = torch.rand(5, 3, 40, 30, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    together = score(verifier, images, "a red circle")
    alone = [score(verifier, images[n : n + 1], "a red circle")[0] for n in range(5)]
    assert together == pytest.approx(alone, abs=MATES)
    chunked = ImageRewardVerifier(original, batch_size=2)
    assert score(chunked, images.flip(0), "a red circle") == pytest.approx(together[::-1], abs=MATES)
    assert chunked.fingerprint == verifier.fingerprint
    assert torch.equal(images, before)
    assert score(verifier, images[:0], "a red circle") == []


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_gap_of_the_differentiable_path(verifier, name):
    image = PHOTOGRAPHS[name]
    gap = (verifier.preprocess.exact(image) - verifier.preprocess.with_graph(image)).abs()
    assert gap.max() <= GAP_MOST
    assert gap.mean() <= GAP_MEAN
    exact, found = verifier(image, "a red circle")[0], verifier.gradient_scores(image, "a red circle").item()
    assert found == pytest.approx(exact, abs=GAP_SCORE)
    if name == "exact":
        assert gap.max() < 1e-5
        assert found == pytest.approx(exact, abs=EXACT)


def test_gradients_point_uphill(verifier):
    images = torch.cat([PHOTOGRAPHS["tiny"]] * 2).clamp(0.1, 0.9).requires_grad_()
    before = verifier.gradient_scores(images, "two dogs")
    assert before.shape == (2,)
    (gradient,) = torch.autograd.grad(before.sum(), images)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        after = verifier.gradient_scores(images + 1e-3 * gradient / gradient.abs().max(), "two dogs")
    assert (after > before).all()


def test_safetensors_score_alike(original, verifier, tmp_path):
    for name in ("med_config.json", "vocab.txt"):
        shutil.copy(original / name, tmp_path)
    state = {name: value.clone() for name, value in imagereward_state().items()}
    save_file(state, tmp_path / "ImageReward.safetensors")
    other = ImageRewardVerifier(tmp_path)
    assert other.fingerprint == verifier.fingerprint
    image = PHOTOGRAPHS["odd"]
    assert other(image, "a cat") == verifier(image, "a cat")


def test_other_weights_have_another_fingerprint(original, verifier, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    state = imagereward_state()
    state["mlp.layers.7.bias"] += 1
    torch.save(state, tmp_path / "ImageReward.pt")
    assert ImageRewardVerifier(tmp_path).fingerprint != verifier.fingerprint


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_a_pickle_with_code_is_refused(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, tmp_path / "model")
    torch.save({"blip": Bomb()}, tmp_path / "model" / "ImageReward.pt")
    with pytest.raises(ValueError, match=r"ImageReward.pt is .*refused") as caught:
        ImageRewardVerifier(tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def without(key):
    state = imagereward_state()
    del state[key]
    return state


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "ImageReward.pt").unlink(), "the directory has no ImageReward.safetensors"),
        (lambda folder: (folder / "ImageReward.pt").write_bytes(b""), "damaged or none"),
        (lambda folder: torch.save([1, 2], folder / "ImageReward.pt"), "expected a checkpoint of named tensors"),
        (lambda folder: torch.save({"a": 1}, folder / "ImageReward.pt"), "got 'a' of another kind"),
        (lambda folder: torch.save({"a.b": torch.ones(1)}, folder / "ImageReward.pt"), "got the key 'a.b'"),
        (
            lambda folder: torch.save(without("blip.visual_encoder.pos_embed"), folder / "ImageReward.pt"),
            "got one without 'vision_model.embeddings.position_embedding'",
        ),
        (
            lambda folder: torch.save(without("blip.visual_encoder.norm.bias"), folder / "ImageReward.pt"),
            "could not be loaded",
        ),
        (lambda folder: (folder / "med_config.json").write_text("{}"), "expected 'hidden_size' in"),
        (lambda folder: (folder / "med_config.json").write_text("{"), "expected a JSON object in"),
        (lambda folder: (folder / "config.json").write_text("{}"), "the directory has no model.safetensors"),
        (lambda folder: (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"), "vocabulary of"),
    ],
)
def test_bad_files_are_named_in_one_line(original, tmp_path, change, says):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - looked at below
        ImageRewardVerifier(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_names_are_one_line():
    with pytest.raises(ValueError, match=r"expected a directory or a hub id OWNER/NAME, got no directory"):
        ImageRewardVerifier("nowhere")
    with pytest.raises(ValueError, match="expected a batch_size of at least 1, got 0"):
        ImageRewardVerifier("nowhere", batch_size=0)


def test_without_the_hub_the_missing_files_are_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"missing: ImageReward.safetensors, med_config.json; .* imagereward:DIR"):
        ImageRewardVerifier("someone/model")


@pytest.fixture
def native(tmp_path):
    """A model in the layout of ``noisewright/shapes-reward``."""
    from transformers import BertTokenizer

    torch.manual_seed(0)
    tokens = {name: number for number, name in enumerate(inputs.VOCABULARY)}
    BertTokenizer(vocab=tokens).save_pretrained(tmp_path)
    config = {
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 8, "initializer_range": 0.5,
        },
        "text_config": {
            "vocab_size": len(tokens), "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 12,
            "bos_token_id": None, "sep_token_id": 3, "initializer_range": 0.5,
        },
        "head_sizes": [16, 4, 1], "mean": 0.5, "deviation": 2.0, "most_tokens": 12,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
    }  # fmt: skip
    model = RewardModel(config["vision_config"], config["text_config"], config["head_sizes"])
    save_file({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_the_other_layout_is_scored_by_its_own_settings(native, caplog):
    verifier = ImageRewardVerifier(native, name="mine")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    found = verifier(images, "a red circle")
    ids, mask = verifier.tokenise("a red circle")
    assert ids.shape == (1, 12)
    with torch.no_grad():
        raw = verifier.model.judge(verifier.model.look((images - 0.5) / 0.25), ids.expand(2, -1), mask.expand(2, -1))
    assert found == pytest.approx(((raw - 0.5) / 2).tolist(), abs=EXACT)
    assert found[0] != found[1]
    assert verifier.model.head[0].weight.dtype == torch.float32
    verifier(images, inputs.PROMPTS[-1])
    assert caplog.messages == ["verifier mine reads 12 of the prompt's 50 tokens"]


def test_the_other_layouts_bad_files_are_one_line(native):
    config = json.loads((native / "config.json").read_text())
    for broken, says in (
        ({**config, "head_sizes": [16, 5, 1]}, "could not be loaded"),
        ({**config, "vision_config": {"hidden_size": 15}}, "could not be loaded"),
        ({key: value for key, value in config.items() if key != "mean"}, "expected 'mean' in"),
    ):
        (native / "config.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=says) as caught:
            ImageRewardVerifier(native)
        assert "\n" not in str(caught.value)


MODELS = Path(__file__).parents[2] / "src" / "noisewright" / "models"


@pytest.mark.parametrize("name", ["shapes-reward", "shapes-aesthetic"])
def test_the_bundled_ones_are_small_and_have_cards(name):
    assert sum(path.stat().st_size for path in (MODELS / name).rglob("*")) <= 6_000_000
    card = (MODELS / name / "README.md").read_text(encoding="utf-8")
    assert "apache-2.0" in card.lower()
    assert "oracle" in card


def scenes(count):
    """Prompts, each with the picture of its scene and that of an other prompt's of the same kind."""
    rng = np.random.default_rng(11)
    for number in range(count):
        prompts = [sample_prompt(rng, KINDS[number % len(KINDS)]) for _ in range(2)]
        pictures = np.stack([render(sample_scene(rng, prompt)) for prompt in prompts])
        yield prompts[0].text, torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@pytest.mark.slow
def test_the_bundled_reward_prefers_the_prompts_scene():
    verifier = make_verifier("shapes-reward")
    assert verifier.name == "shapes-reward"
    found = [verifier(images, prompt) for prompt, images in scenes(40)]
    assert np.mean([right > wrong for right, wrong in found]) >= REWARD_RIGHT
    # Another prompt, another order: it reads.
    assert np.std([right - wrong for right, wrong in found]) > 0.1


@pytest.mark.slow
def test_the_bundled_aesthetic_prefers_what_is_clean():
    verifier = make_verifier("shapes-aesthetic")
    images = torch.cat([images for _, images in scenes(20)])
    noisy = (images + 0.15 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    clean, worse, smeared = (np.array(verifier(one, "anything")) for one in (images, noisy, blurred))
    assert verifier(images[:2], "a red circle") == pytest.approx(clean[:2], abs=MATES)
    assert ((clean > 0) & (clean < 12)).all()
    assert (clean > worse).mean() >= 0.9
    assert (clean > smeared).mean() >= 0.9
