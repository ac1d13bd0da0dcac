"""Class scores and self-similarity: right class, right number, and one clear line otherwise."""


import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    CLIPModel,
    Dinov2ForImageClassification,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
)

from golden import clip_inputs as inputs
from noisewright import registry
from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.verifiers.classifier import TEMPLATES, Classifier, ClipClassifier, find_label
from noisewright.verifiers.protocol import Verifier, score
from noisewright.verifiers.self_similarity import SelfSimilarity
from reward_models import DEVIATION, LABELS, MEAN, named, write_clip, write_processor

IMAGES = torch.rand(5, 3, 40, 48, generator=torch.Generator().manual_seed(0))
EXACT = 1e-5  # float32 kernels differ by the order of their sums


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A convolutional network, whose pooled output has the shape (batch, width, 1, 1)."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **named(["cat", "dog"]))
    ResNetForImageClassification(config).save_pretrained(folder)
    write_processor(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"), 1)


def by_hand(images, side=16):
    """Bilinear PIL resize to a square, then normalised."""
    squares = [Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR) for one in pixels_of(images)]
    pixels = torch.stack([torch.frombuffer(bytearray(one.tobytes()), dtype=torch.uint8) for one in squares])
    return (pixels.view(-1, side, side, 3).permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


# Labels


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tench, Tinca tinca", 0),
        ("Tinca Tinca", 0),
        ("a photo of a TABBY cat.", 1),
        ("tabby", 1),
        ("tiger cat", 2),
        ("a tiger-cat asleep", 2),  # the longer name, not the tiger in it
        ("the tiger, burning bright", 3),
        ("3", 3),
        ("t_shirt", 6),
        ("a T shirt on a line", 6),
    ],
)
def test_a_text_names_a_class(text, number):
    assert find_label(text, LABELS) == number


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tabbi", r"one of 7 classes, got 'tabbi'; nearest: tabby, tabby cat"),
        ("a picture of some tigre", r"nearest: tiger"),
        ("tigers", r"nearest: tiger"),
        ("xyz", r"got 'xyz'; nearest: tench, Tinca tinca, .*\.\.\."),
        ("crane", r"got 'crane', which names crane \(4\), crane \(5\): say label="),
        ("a tench and a tiger", r"which names tench, Tinca tinca \(0\), tiger \(3\): say label="),
        ("7", "one of 7 classes, got '7'"),
        ("", "one of 7 classes, got ''"),
    ],
)
def test_a_text_that_names_none_or_several_says_what_is_near(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        find_label(text, LABELS)
    assert "\n" not in str(caught.value)


# The supervised classifier


def test_logits_and_probabilities_are_the_models(dino):
    model = Dinov2ForImageClassification.from_pretrained(dino)
    with torch.no_grad():
        logits = model(by_hand(IMAGES)).logits
    verifier = Classifier(dino)
    assert isinstance(verifier, Verifier)
    assert verifier(IMAGES, "a tiger cat") == pytest.approx(logits[:, 2].tolist(), abs=EXACT)
    assert Classifier(dino, label="tench")(IMAGES, "a tiger cat") == pytest.approx(logits[:, 0].tolist(), abs=EXACT)
    assert Classifier(dino, label="5")(IMAGES, "") == pytest.approx(logits[:, 5].tolist(), abs=EXACT)
    likely = Classifier(dino, output="probability")(IMAGES, "tiger")
    assert likely == pytest.approx(logits.softmax(-1)[:, 3].tolist(), abs=EXACT)


@pytest.mark.parametrize("kind", ["dino", "resnet", "clip"])
def test_scores_do_not_depend_on_batch_mates_or_on_the_chunk(kind, dino, resnet, clip, monkeypatch):
    prompt = "a tiger" if kind == "dino" else "dog"
    verifier = (
        ClipClassifier(clip, labels="cat,dog") if kind == "clip" else Classifier({"dino": dino, "resnet": resnet}[kind])
    )
    together = score(verifier, IMAGES, prompt)
    assert together == pytest.approx([score(verifier, IMAGES[n : n + 1], prompt)[0] for n in range(5)], abs=1e-4)
    monkeypatch.setattr(verifier if kind != "clip" else verifier.encoder, "batch", 2)
    assert score(verifier, IMAGES, prompt) == pytest.approx(together, abs=1e-4)


def test_a_prompt_without_a_class_is_refused_before_anything_is_spent(dino):
    verifier = Classifier(dino)
    verifier.check("a tiger")
    with pytest.raises(ValueError, match="nearest: tiger"):
        verifier.check("a tigre")
    with pytest.raises(VerifierFailed, match="nearest: tiger"):
        score(verifier, IMAGES, "a tigre")
    Classifier(dino, label="tench").check("anything")
    with pytest.raises(ValueError, match="nearest: tabby"):
        Classifier(dino, label="tabbi")


def test_fingerprints_hold_what_is_scored(dino):
    made = [Classifier(dino), Classifier(dino, label="tench"), Classifier(dino, output="probability")]
    assert len({one.fingerprint for one in made}) == 3
    assert Classifier(dino, name="other").fingerprint == made[0].fingerprint


def test_by_name(dino, clip):
    verifier = registry.make_verifier(f"classifier:{dino},label=tiger cat,output=probability,name=tigerness")
    assert verifier.name == "tigerness"
    assert all(0 <= one <= 1 for one in verifier(IMAGES, "no class here"))
    with pytest.raises(
        ValueError, match=r"option output of verifier classifier: .*'logit' or 'probability', got 'odds'"
    ):
        registry.make_verifier(f"classifier:{dino},output=odds")
    with pytest.raises(ValueError, match="expected an output among logit, probability"):
        Classifier(dino, output="odds")
    verifier = registry.make_verifier(f"clip-classifier:{clip},labels=red star,blue circle,label=blue circle")
    assert verifier.labels == ["red star", "blue circle"]
    assert verifier.target == 1


def test_what_is_no_classifier_is_refused(tmp_path, clip):
    with pytest.raises(ValueError, match=r"the directory has no config\.json, model\.safetensors, preprocessor_config"):
        Classifier(tmp_path)
    BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    write_processor(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        Classifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_head_that_is_not_in_the_file_is_not_made_up(dino, tmp_path):
    Dinov2Model.from_pretrained(dino).save_pretrained(tmp_path)
    write_processor(tmp_path)
    with pytest.raises(ValueError, match=r"its files have no classifier\."):
        Classifier(tmp_path)


# CLIP as a classifier


def test_zero_shot_is_the_mean_of_templates(clip):
    verifier = ClipClassifier(clip, labels=["red star", "blue circle"])
    encoder = verifier.encoder
    vectors = []
    for label in verifier.labels:
        mean = torch.stack([encoder.text(one.format(label)) for one in TEMPLATES]).mean(0)
        vectors.append(mean / mean.norm())
    logits = CLIPModel.from_pretrained(clip).logit_scale.exp().item() * encoder.images(IMAGES) @ torch.stack(vectors).T
    assert verifier(IMAGES, "a blue circle") == pytest.approx(logits[:, 1].tolist(), abs=1e-3)
    likely = ClipClassifier(clip, labels="red star,blue circle", output="probability", label="red star")
    assert likely(IMAGES, "") == pytest.approx(logits.softmax(-1)[:, 0].tolist(), abs=1e-3)
    plain = ClipClassifier(clip, labels="red star,blue circle", template="{}")
    expected = encoder.logit_scale * encoder.images(IMAGES) @ encoder.text("red star")
    assert plain(IMAGES, "red star") == pytest.approx(expected.tolist(), abs=1e-3)
    assert len({verifier.fingerprint, likely.fingerprint, plain.fingerprint}) == 3


def test_labels_come_from_a_file_too_and_nonsense_is_refused(clip, tmp_path):
    (tmp_path / "labels.txt").write_text("red star\n\nblue circle\n")
    assert ClipClassifier(clip, labels=str(tmp_path / "labels.txt")).labels == ["red star", "blue circle"]
    for labels in ("", "cat", [], ["cat", " "]):
        with pytest.raises(ValueError, match="expected two labels or more"):
            ClipClassifier(clip, labels=labels)
    with pytest.raises(ValueError, match=r"expected a template with \{\} where the label goes, got 'a photo'"):
        ClipClassifier(clip, labels="cat,dog", template="a photo")
    with pytest.raises(ValueError, match="one of 2 classes, got 'horse'"):
        ClipClassifier(clip, labels="cat,dog", label="horse")
    with pytest.raises(ValueError, match="which names cat"):
        ClipClassifier(clip, labels="cat,dog").check("a cat and a dog")


# Self-similarity


@pytest.mark.parametrize("kind", ["dino", "resnet", "clip"])
def test_an_image_is_like_itself_and_less_like_others(kind, dino, resnet, clip):
    verifier = SelfSimilarity({"dino": dino, "resnet": resnet, "clip": clip}[kind])
    assert isinstance(verifier, Verifier)
    assert verifier.preview_sigma == 0.4
    assert verifier(IMAGES, "", IMAGES) == pytest.approx([1.0] * 5, abs=EXACT)
    rolled = IMAGES.roll(1, 0)
    found = verifier(IMAGES, "any", rolled)
    assert all(-1 <= one < 1 - EXACT for one in found)
    assert verifier(rolled, "other", IMAGES) == pytest.approx(found, abs=EXACT)
    alone = [verifier(IMAGES[n : n + 1], "", rolled[n : n + 1])[0] for n in range(5)]
    assert alone == pytest.approx(found, abs=EXACT)
    verifier.batch = 2
    assert verifier(IMAGES, "", rolled) == pytest.approx(found, abs=EXACT)
    small = torch.nn.functional.avg_pool2d(IMAGES, 2)  # a preview may have another size
    assert len(verifier(IMAGES, "", small)) == 5


def test_features_are_the_networks(dino, clip):
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(dino)(by_hand(IMAGES)).pooler_output
    assert torch.allclose(SelfSimilarity(dino).features(IMAGES), expected, atol=EXACT)
    assert SelfSimilarity(clip).features(IMAGES).shape == (5, inputs.EMBED)


def test_without_previews_there_is_nothing_to_compare(dino):
    verifier = registry.make_verifier(f"self-similarity:{dino}")
    for previews, got in [(None, "none"), (IMAGES[:2], "2")]:
        with pytest.raises(ValueError, match=rf"expected 5 previews at sigma 0\.4, got {got}"):
            verifier(IMAGES, "", previews)
    with pytest.raises(VerifierFailed, match="only a search has them"):
        score(verifier, IMAGES, "")
