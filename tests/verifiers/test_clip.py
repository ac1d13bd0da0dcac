"""The verifiers built on CLIP against the official implementations (golden/), and how they behave."""

import json
import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPModel

from golden import clip_inputs as inputs
from noisewright import registry
from noisewright.outside import hub
from noisewright.verifiers.aesthetic import Aesthetic, load_head, save_head
from noisewright.verifiers.clip import ClipVerifier
from noisewright.verifiers.hps import Hps, from_open_clip
from noisewright.verifiers.pickscore import PickScore
from noisewright.verifiers.preprocess import CentreCrop, Letterbox
from noisewright.verifiers.protocol import DifferentiableVerifier, score
from reward_models import CLIP, clip_config, clip_tensors, write_clip, write_clip_processors

GOLDEN = Path(__file__).parents[1] / "golden"

PICKSCORE = json.loads((GOLDEN / "pickscore.json").read_text(encoding="utf-8"))
EXACT = 1e-5  # of cosines, and of preprocessed values: float32 kernels differ by the order of their sums
MATES = 1e-5
# In [0, 1]: PIL rounds and clips to 8 bits after each of its two passes, tensors do not.
GAP_MOST, GAP_MEAN = 0.02, 0.002
GAP_COSINE = 0.01
REAL_HEAD = "aesthetic/sac+logos+ava1-l14-linearMSE.pth"


def tensor_of(name):
    array = np.asarray(inputs.picture(name).convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


PICTURES = {name: tensor_of(name) for name in inputs.SIZES}
ROW = {name: n for n, name in enumerate(inputs.SIZES)}
SQUARES = torch.rand(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def aesthetic(openai, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aesthetic")
    torch.save(clip_tensors(inputs.HEAD_SHAPES, 4), folder / "head.pth")
    return Aesthetic(openai, head=folder / "head.pth")


@pytest.fixture(scope="module")
def hps_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hps")
    extra = {"attn_mask": torch.zeros(2, 2)}  # a buffer that some versions of open_clip keep
    state = {**clip_tensors(CLIP["shapes"], 3), **extra}
    torch.save({"epoch": 1, "state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    clip_config("gelu", None).to_json_file(folder / "config.json")
    write_clip_processors(folder)
    return folder


@pytest.fixture(scope="module")
def pickscore(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickscore")
    model = CLIPModel(clip_config("gelu", 2))
    shapes = {name: list(one.shape) for name, one in model.state_dict().items() if one.is_floating_point()}
    model.load_state_dict(clip_tensors(shapes, 5), strict=False)
    model.save_pretrained(folder)
    write_clip_processors(folder)
    return PickScore(folder)


@pytest.fixture(scope="module")
def every(openai, hps_folder, pickscore, aesthetic):
    return {"clip": ClipVerifier(openai), "hps": Hps(hps_folder), "pickscore": pickscore, "aesthetic": aesthetic}


KINDS = ["clip", "hps", "pickscore", "aesthetic"]


# Against the official implementations


@pytest.mark.parametrize(
    ("kind", "made", "expected"),
    [
        ("openai", CentreCrop(224, (224, 224)), CLIP["preprocess"]["centre crop"]),
        ("transformers", CentreCrop(224, (224, 224), rounding="transformers"), PICKSCORE["preprocess"]),
        ("hps", Letterbox(224), CLIP["preprocess"]["letterbox"]),
    ],
)
@pytest.mark.parametrize("name", inputs.SIZES)
def test_preprocessing_is_the_official_one(kind, made, expected, name):
    if name not in expected:
        assert made.exact(PICTURES[name]).shape[-2:] == (224, 224), "the official code forgets to pad here"
        return
    found = inputs.sample(made.exact(PICTURES[name])[0].numpy())
    assert found == pytest.approx(expected[name], abs=EXACT)


def test_the_two_ways_to_round_a_centre_differ_where_they_should():
    image = (torch.arange(7.0) / 255).expand(1, 3, 4, 7)  # each column says which it is
    for kind, first in (("torchvision", 2), ("transformers", 1)):
        crop = CentreCrop(4, (4, 4), rounding=kind)
        assert torch.equal(crop.exact(image), crop.exact(image[..., first : first + 4]))


@pytest.mark.parametrize("row", range(len(inputs.PROMPTS)))
def test_the_tokenizer_reads_as_the_official_one(openai, row):
    tokenizer = AutoTokenizer.from_pretrained(openai)
    found = tokenizer(inputs.PROMPTS[row], truncation=True, max_length=inputs.CONTEXT)["input_ids"]
    assert found + [0] * (inputs.CONTEXT - len(found)) == CLIP["tokens"][row]


@pytest.mark.parametrize("name", inputs.SIZES)
def test_scores_are_the_official_ones(every, name):
    for row, prompt in enumerate(inputs.PROMPTS):
        image, column = PICTURES[name], ROW[name]
        assert every["clip"](image, prompt) == pytest.approx([CLIP["openai"][row][column]], abs=100 * EXACT)
        assert every["pickscore"](image, prompt) == pytest.approx([PICKSCORE["scores"][row][column]], abs=100 * EXACT)
        assert every["hps"](image, prompt) == pytest.approx([CLIP["hps"][row][column]], abs=EXACT)
        assert every["aesthetic"](image, prompt) == pytest.approx([CLIP["aesthetic"][column]], abs=EXACT)


def test_a_clip_with_the_other_activation_is_the_official_one(tmp_path):
    verifier = ClipVerifier(write_clip(tmp_path, 2))
    found = [verifier(PICTURES["portrait"], prompt)[0] for prompt in inputs.PROMPTS]
    assert found == pytest.approx([row[0] for row in CLIP["laion"]], abs=100 * EXACT)


def test_the_golden_scores_tell_images_and_prompts_apart():
    for scores in (CLIP["openai"], CLIP["hps"], PICKSCORE["scores"]):
        assert np.std(scores, axis=0).max() > 1000 * EXACT
        assert np.std(scores, axis=1).max() > 1000 * EXACT
    assert np.std(CLIP["aesthetic"]) > 1000 * EXACT


# The gradient path


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_pixels_and_lead_upwards(every, kind):
    verifier = every[kind]
    assert isinstance(verifier, DifferentiableVerifier)
    images = SQUARES.clone().requires_grad_(True)
    before = verifier.gradient_scores(images, "a red circle")
    assert before.shape == (5,)
    (slope,) = torch.autograd.grad(before.sum(), images)
    assert (slope.flatten(1).norm(dim=1) > 0).all()
    length = slope.flatten(1).norm(dim=1)[:, None, None, None]
    after = verifier.gradient_scores((SQUARES + 0.05 * slope / length).clamp(0, 1), "a red circle")
    assert (after > before).all()


def test_a_prompt_that_was_read_without_gradients_serves_them_too(every):
    with torch.inference_mode():
        every["clip"](SQUARES, "the blue star")
    images = SQUARES.clone().requires_grad_(True)
    every["clip"].gradient_scores(images, "the blue star").sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", inputs.SIZES)
@pytest.mark.parametrize("rounding", ["torchvision", "transformers"])
def test_the_gap_between_exact_and_differentiable_pixels_is_as_stated(name, rounding):
    plain = CentreCrop(224, (224, 224), mean=(0.0,) * 3, deviation=(1.0,) * 3, rounding=rounding)
    gap = (plain.exact(PICTURES[name]) - plain.with_graph(PICTURES[name])).abs()
    assert gap.max() <= GAP_MOST
    assert gap.mean() <= GAP_MEAN
    if name == "square":
        assert gap.max() <= EXACT, "nothing is resized"
    box = Letterbox(224)
    assert (box.exact(PICTURES[name]) - box.with_graph(PICTURES[name])).abs().max() <= EXACT, "8-bit images: the same"


@pytest.mark.parametrize("kind", KINDS)
def test_the_gap_between_exact_and_differentiable_scores_is_as_stated(every, kind):
    scale = {"clip": 100, "pickscore": 100, "hps": 1e-3, "aesthetic": 10}[kind]  # hps: the same preprocessing
    for image in PICTURES.values():
        exact, smooth = every[kind](image, "a red circle")[0], every[kind].gradient_scores(image, "a red circle").item()
        assert exact == pytest.approx(max(smooth, 0) if kind == "clip" else smooth, abs=scale * GAP_COSINE)


# Fair and frugal


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_batch_mates(every, kind):
    verifier = every[kind]
    together = score(verifier, SQUARES, "two blue squares")
    alone = [score(verifier, SQUARES[n : n + 1], "two blue squares")[0] for n in range(5)]
    bound = MATES * (100 if kind in ("clip", "pickscore") else 1)
    assert together == pytest.approx(alone, abs=bound)
    assert score(verifier, SQUARES.flip(0), "two blue squares") == pytest.approx(together[::-1], abs=bound)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_pool_is_seen_in_parts(every, kind, monkeypatch):
    encoder, sizes = every[kind].encoder, []
    monkeypatch.setattr(encoder, "batch", 2)
    original = encoder.model.get_image_features
    monkeypatch.setattr(
        encoder.model,
        "get_image_features",
        lambda pixel_values: sizes.append(len(pixel_values)) or original(pixel_values),
    )
    found = every[kind](SQUARES, "a star")
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(encoder, "batch", 32)
    assert found == pytest.approx(every[kind](SQUARES, "a star"), abs=100 * MATES)


@pytest.mark.parametrize("kind", ["clip", "hps", "pickscore"])
def test_a_prompt_that_is_too_long_is_cut_with_one_warning_that_counts(every, kind, caplog):
    prompt = "the star and " * 20 + kind  # no other test asks for it, so it is not remembered
    with caplog.at_level(logging.WARNING, logger="noisewright"):
        every[kind](SQUARES[:1], prompt)
        every[kind](SQUARES[:1], prompt)
    (line,) = (one.getMessage() for one in caplog.records if one.name == "noisewright")
    assert line == f"verifier {kind} reads 16 of the prompt's {62 + len(kind)} tokens"
    caplog.clear()
    every[kind](SQUARES[:1], "a star")
    assert not caplog.records


def test_fingerprints_tell_weights_formulas_and_preprocessing_apart(every, openai, tmp_path):
    assert len({one.fingerprint for one in every.values()}) == len(every)
    assert ClipVerifier(openai, name="other").fingerprint == every["clip"].fingerprint
    assert PickScore(openai).fingerprint != every["clip"].fingerprint
    copy = shutil.copytree(openai, tmp_path / "copy")
    told = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**told, "image_mean": [0.5] * 3}))
    assert ClipVerifier(copy).fingerprint != every["clip"].fingerprint


# Where the files come from


def test_registry_names_options_and_defaults(openai, hps_folder):
    assert registry.make_verifier(f"clip:{openai}").name == "clip"
    assert registry.make_verifier(f"clip:{openai},name=mine").name == "mine"
    assert registry.make_verifier(f"pickscore:{openai},processor={hps_folder}").name == "pickscore"
    assert registry.make_verifier(f"hps:{hps_folder},version=2.1").name == "hps"
    with pytest.raises(ValueError, match=r"no HPS_v2_compressed\.safetensors"):
        registry.make_verifier(f"hps-v2.0:{hps_folder}")
    with pytest.raises(ValueError, match=r"HPS version among 2\.0, 2\.1, got '3'"):
        registry.make_verifier(f"hps:{hps_folder},version=3")
    with pytest.raises(ValueError, match=r"unknown option of verifier clip 'nmae'.*did you mean name\?"):
        registry.make_verifier(f"clip:{openai},nmae=mine")
    with pytest.raises(ValueError, match="verifier brightness takes no options, got 'head'"):
        registry.make_verifier("brightness:head=x")


@pytest.mark.parametrize(
    ("text", "model", "options"),
    [
        ("", "", {}),
        ("openai/clip", "openai/clip", {}),
        ("a,b", "a,b", {}),
        ("a,label=cat,output=logit", "a", {"label": "cat", "output": "logit"}),
        ("labels=cat,dog,label=cat", "", {"labels": "cat,dog", "label": "cat"}),
        ("head=a=b", "", {"head": "a=b"}),
        ("//h/score?a=1,b=2", "//h/score?a=1,b=2", {}),
        ("//h/score?a=1,b=2,name=mine,timeout=3", "//h/score?a=1,b=2", {"name": "mine", "timeout": "3"}),
        ("//h/score,nmae=mine", "//h/score", {"nmae": "mine"}),
        ("labels=cat,dog?,template=a {}?", "", {"labels": "cat,dog?", "template": "a {}?"}),
    ],
)
def test_a_model_and_its_options_are_told_apart(text, model, options):
    assert registry.model_and_options(text, ("name", "timeout")) == (model, options)


@pytest.mark.parametrize(
    ("text", "located"),
    [
        ("clip", "clip"),
        ("clip:cat", "clip:{here}/cat"),
        ("clip:cat,processor=dog,name=cat", "clip:{here}/cat,processor={here}/dog,name=cat"),
        ("clip-classifier:labels=cat,dog,label=cat", "clip-classifier:labels=cat,dog,label=cat"),
        ("clip-classifier:labels=cat", "clip-classifier:labels=cat"),
        ("clip-classifier:labels=few.txt,label=dog", "clip-classifier:labels={here}/few.txt,label=dog"),
        ("http://h/score?a=cat,head=cat,name=x", "http://h/score?a=cat,head=cat,name=x"),
        ("clip:noisewright/shapes-clip", "clip:noisewright/shapes-clip"),
        ("mine.py:score", "{here}/mine.py:score"),
    ],
)
def test_what_is_there_is_named_by_its_full_path_and_labels_are_not(tmp_path, monkeypatch, text, located):
    from noisewright.registry.located import located_verifiers

    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    for name in ("few.txt", "mine.py"):
        (tmp_path / name).write_text("")
    assert located_verifiers([text]) == [located.format(here=tmp_path.resolve())]


def test_a_hub_id_without_a_network_says_what_is_missing_and_how_to_get_it(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "is_reachable", lambda endpoint: False)
    calls = {
        "clip": "hf download openai/clip-vit-large-patch14 --local-dir DIR, then clip:DIR",
        "pickscore": "hf download yuvalkirstain/PickScore_v1 --local-dir DIR, then pickscore:DIR",
        "hps": "HPS_v2.1_compressed",
        "hps-v2.0": "HPS_v2_compressed",
        "aesthetic": "hf download camenduru/improved-aesthetic-predictor --local-dir DIR, then aesthetic:head=DIR",
    }
    for name, says in calls.items():
        with pytest.raises(ValueError, match="could not be loaded") as caught:
            registry.make_verifier(name)
        assert says in str(caught.value)
        assert "missing: " in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"missing: config\.json, model\.safetensors, preprocessor_config\.json, tok"):
        registry.make_verifier("clip")


def test_a_hub_that_cannot_be_reached_is_noticed_at_once(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not hub.is_reachable("http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert hub.is_reachable("https://hub.invalid")


def test_what_is_in_the_cache_needs_no_network(openai, tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "models--tiny--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(openai, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "is_reachable", lambda endpoint: pytest.fail("asked the network"))
    assert ClipVerifier("tiny/clip").fingerprint == ClipVerifier(openai).fingerprint


@pytest.mark.parametrize("weights_file", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_not_in_the_cache_is_fetched_and_pickles_only_where_nothing_else_is(
    openai, tmp_path, monkeypatch, weights_file
):
    from fnmatch import fnmatch

    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    source = shutil.copytree(openai, tmp_path / "hub")
    if weights_file == "pytorch_model.bin":
        (source / "model.safetensors").unlink()
    torch.save(CLIPModel.from_pretrained(openai).state_dict(), source / "pytorch_model.bin")
    (source / "tf_model.h5").write_bytes(b"gigabytes")
    here = tmp_path / "cache"

    def fetch(repository, *, allow_patterns, local_files_only=False):
        if local_files_only and not here.exists():
            raise LocalEntryNotFoundError("not there")
        here.mkdir(exist_ok=True)
        for path in () if local_files_only else source.iterdir():
            if any(fnmatch(path.name, one) for one in allow_patterns):
                shutil.copy(path, here)
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(hub, "is_reachable", lambda endpoint: True)
    assert ClipVerifier("tiny/clip").fingerprint == ClipVerifier(openai).fingerprint
    assert not (here / "tf_model.h5").exists()
    assert {one.name for one in here.iterdir()} & {"model.safetensors", "pytorch_model.bin"} == {weights_file}
    shutil.rmtree(here)
    (source / "config.json").unlink()
    with pytest.raises(ValueError, match=r"could not be loaded: the hub has no config\.json in it"):
        ClipVerifier("tiny/clip")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shutil.rmtree(here)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set; missing: "):
        ClipVerifier("tiny/clip")


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "preprocessor_config.json", "vocab.json"])
def test_a_directory_without_a_file_says_which(openai, tmp_path, gone):
    copy = shutil.copytree(openai, tmp_path / "copy")
    (copy / gone).unlink()
    said = "tokenizer.json" if gone == "vocab.json" else gone
    with pytest.raises(ValueError, match=f"could not be loaded: the directory has no {said}"):
        ClipVerifier(copy)


@pytest.mark.parametrize("model", ["no/such/place", "./nowhere", "one", "noisewright/nothing", "noisewright/../x"])
def test_what_is_no_model_is_refused_in_one_line(model):
    for kind in (ClipVerifier, Hps, PickScore):
        with pytest.raises(ValueError, match="could not be loaded") as caught:
            kind(model)
        assert "\n" not in str(caught.value)


def test_a_damaged_or_foreign_model_is_refused_in_one_line(openai, tmp_path):
    copy = shutil.copytree(openai, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        ClipVerifier(copy)
    assert "\n" not in str(caught.value)
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="expected a CLIPModel, got a bert model"):
        ClipVerifier(copy)


def test_weights_that_are_missing_are_not_made_up(openai, hps_folder, tmp_path):
    from safetensors.torch import load_file

    copy = shutil.copytree(openai, tmp_path / "clip")
    state = load_file(copy / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its files have no visual_projection\.weight"):
        ClipVerifier(copy)
    copy = shutil.copytree(hps_folder, tmp_path / "hps")
    state = clip_tensors(CLIP["shapes"], 3)
    del state["visual.proj"]
    torch.save(state, copy / "HPS_v2.1_compressed.pt")
    with pytest.raises(ValueError, match=r"its files have no visual_projection\.weight"):
        Hps(copy)


class Runs:
    """Makes a directory when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickle_with_code_in_it_is_refused_and_one_without_is_read(openai, tmp_path):
    ran = tmp_path / "ran"
    for path, call in [
        (tmp_path / "bad.pt", lambda path: Hps(path, processor=str(openai))),
        (tmp_path / "bad.pth", lambda path: Aesthetic(openai, head=path)),
    ]:
        torch.save({"state_dict": {"visual.conv1.weight": torch.zeros(1)}, "extra": Runs(ran)}, path)
        with pytest.raises(ValueError, match="is refused: a pickle with something else than weights") as caught:
            call(path)
        assert "\n" not in str(caught.value)
        path.write_bytes(pickle.dumps(Runs(ran)))
        with pytest.raises(ValueError, match="is refused: a pickle"):
            call(path)
        path.write_bytes(b"not a pickle")
        with pytest.raises(ValueError, match="damaged"):
            call(path)
    copy = shutil.copytree(openai, tmp_path / "clip")
    (copy / "model.safetensors").unlink()
    torch.save({"x": Runs(ran)}, copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match="a file of it is refused: a pickle"):
        ClipVerifier(copy)
    assert not ran.exists()
    torch.save(CLIPModel.from_pretrained(openai).state_dict(), copy / "pytorch_model.bin")
    expected = pytest.approx(ClipVerifier(openai)(SQUARES, "a star"), abs=100 * EXACT)
    assert ClipVerifier(copy)(SQUARES, "a star") == expected


# HPS


def test_hps_reads_a_file_a_half_precision_one_and_a_converted_one(hps_folder, openai, tmp_path):
    expected = pytest.approx(Hps(hps_folder)(SQUARES, "a star"), abs=EXACT)
    state = clip_tensors(CLIP["shapes"], 3)
    clip_config("gelu", None).to_json_file(tmp_path / "config.json")
    save_file(state, tmp_path / "mine.safetensors")
    assert Hps(tmp_path / "mine.safetensors", processor=str(openai))(SQUARES, "a star") == expected
    save_file({name: one.half() for name, one in state.items()}, tmp_path / "half.safetensors")
    half = Hps(tmp_path / "half.safetensors", processor=str(openai))
    assert half.encoder.model.dtype == torch.float32
    assert half(SQUARES, "a star") == pytest.approx(expected.expected, abs=0.02)  # eleven bits of each weight
    save_file(from_open_clip(state), tmp_path / "model.safetensors")
    assert Hps(tmp_path, processor=str(openai))(SQUARES, "a star") == expected


def test_hps_without_a_config_is_vit_h_14(hps_folder, tmp_path, monkeypatch):
    copy = shutil.copytree(hps_folder, tmp_path / "copy")
    (copy / "config.json").unlink()
    built = []

    def small(*args, config, **options):
        built.append(config)
        raise ValueError("seen")

    monkeypatch.setattr(CLIPModel, "from_pretrained", small)
    with pytest.raises(ValueError, match="seen"):
        Hps(copy)
    vision, text = built[0].vision_config, built[0].text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (1280, 32, 16)
    assert (vision.patch_size, vision.image_size, vision.intermediate_size) == (14, 224, 5120)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (1024, 24, 16)
    assert (text.hidden_act, vision.hidden_act, built[0].projection_dim) == ("gelu", "gelu", 1024)


# The aesthetic head


def test_a_directory_with_head_and_clip_or_a_reference_to_it(openai, aesthetic, tmp_path):
    expected = pytest.approx(aesthetic(SQUARES, ""), abs=EXACT)
    state = clip_tensors(inputs.HEAD_SHAPES, 4)
    both = shutil.copytree(openai, tmp_path / "both")
    save_file(state, both / "head.safetensors")
    (both / "vocab.json").unlink()  # no text is read, so no tokenizer is needed
    assert Aesthetic(both)(SQUARES, "any prompt") == expected
    apart = tmp_path / "apart"
    apart.mkdir()
    save_file(state, apart / "head.safetensors")
    with pytest.raises(ValueError, match="expected a CLIPModel in it, or a config"):
        Aesthetic(apart)
    (apart / "config.json").write_text(json.dumps({"clip": "../both"}))
    assert Aesthetic(apart)(SQUARES, "") == expected
    (apart / "config.json").write_text(json.dumps({"clip": "noisewright/shapes-clip"}))
    with pytest.raises(ValueError, match="expected a head for the 128 values of noisewright/shapes-clip, got 24"):
        Aesthetic(apart)
    found = registry.make_verifier(f"aesthetic:{openai},head={apart}")
    assert found(SQUARES, "") == expected
    assert found.fingerprint == aesthetic.fingerprint


def test_any_chain_of_layers_is_a_head(tmp_path, openai):
    state = {"a.0.weight": torch.randn(5, 24), "a.0.bias": torch.randn(5), "a.10.weight": torch.randn(1, 5)}
    save_file(state, tmp_path / "head.safetensors", metadata={"activation": "relu"})
    vector = torch.nn.functional.normalize(torch.randn(3, 24), dim=-1)
    expected = (vector @ state["a.0.weight"].T + state["a.0.bias"]).relu() @ state["a.10.weight"].T
    assert torch.allclose(load_head(tmp_path / "head.safetensors")(vector), expected, atol=1e-6)
    copy = save_head(tmp_path / "head.safetensors", tmp_path / "copy")
    assert copy.name == "head.safetensors"
    assert torch.equal(load_head(copy)(vector), load_head(tmp_path / "head.safetensors")(vector))
    plain = tmp_path / "plain.safetensors"
    save_file(state, plain)
    assert Aesthetic(openai, head=plain).fingerprint != Aesthetic(openai, head=copy).fingerprint


@pytest.mark.parametrize(
    ("state", "metadata", "says"),
    [
        ({"x": torch.zeros(1)}, {}, "ends in one value, got none"),
        ({"0.weight": torch.zeros(3, 24), "1.weight": torch.zeros(1, 4)}, {}, r"got \[\(3, 24\), \(1, 4\)\]"),
        ({"0.weight": torch.zeros(2, 24)}, {}, r"got \[\(2, 24\)\]"),
        ({"0.weight": torch.zeros(1, 3, 2, 2)}, {}, r"got \[\(1, 3, 2, 2\)\]"),
        (
            {"0.weight": torch.zeros(1, 24)},
            {"activation": "tanh"},
            "activation among none, relu, gelu, silu, got 'tanh'",
        ),
    ],
)
def test_what_is_no_head_is_refused(tmp_path, state, metadata, says):
    save_file(state, tmp_path / "head.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=says):
        load_head(tmp_path / "head.safetensors")


def test_a_head_that_is_not_there_is_refused(openai, tmp_path):
    with pytest.raises(ValueError, match="expected a head as a file, a directory or a hub id"):
        Aesthetic(openai, head=tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"the directory has no head\.safetensors"):
        Aesthetic(openai, head=tmp_path)


def real_head():
    data = Path(os.environ.get("NOISEWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = data / REAL_HEAD
    if not path.is_file():
        pytest.skip(f"needs {REAL_HEAD} under NOISEWRIGHT_DATA")
    return path


def test_the_real_head_is_read_and_copied(tmp_path):
    path = real_head()
    head = load_head(path)
    shapes = [tuple(one.weight.shape) for one in head if isinstance(one, torch.nn.Linear)]
    assert shapes == [(1024, 768), (128, 1024), (64, 128), (16, 64), (1, 16)]
    vectors = torch.nn.functional.normalize(torch.randn(64, 768, generator=torch.Generator().manual_seed(0)), dim=-1)
    state = torch.load(path, map_location="cpu", weights_only=True)
    expected = vectors
    for n in (0, 2, 4, 6, 7):
        expected = expected @ state[f"layers.{n}.weight"].T + state[f"layers.{n}.bias"]
    assert torch.allclose(head(vectors), expected, atol=1e-5)
    assert 0 < head(vectors).mean() < 10
    copy = load_head(save_head(path, tmp_path / "aesthetic.safetensors"))
    assert torch.equal(copy(vectors), head(vectors))
