"""Class-conditional pipelines: the class that is meant, parity with the plain pipeline, and the way through a run."""

import json
import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

import noisewright as nw
import tiny
from noisewright import cli, registry
from noisewright.errors import UnsupportedPipeline
from noisewright.images.metadata import pixels_of, read_recipe
from noisewright.measures.statistics import FeatureStatistics
from noisewright.pipelines.class_flow import ClassConditionalFlowPipeline, positions, preconditioning
from noisewright.replay import rebuild, replay
from noisewright.samplers.classes import labels_of, read_class
from noisewright.samplers.pipeline import PipelineSampler, load_pipeline
from noisewright.verifiers.features import FeatureNetwork

# A few float32 roundings a step where the guided halves are summed in another order; see test_pipeline.ROUNDING.
ROUNDING = 5e-5
STEPS = 4
SCALE = 3.0


def dpm_dit():
    return tiny.dit(DPMSolverMultistepScheduler.from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config))


MAKE = {"flow": tiny.class_flow, "dit": tiny.dit, "dit, native scheduler": dpm_dit}
OURS = {"flow": "euler", "dit": "ddim", "dit, native scheduler": None}


@cache
def pipe_of(name):
    pipe = MAKE[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def plain(name, seed, number, scale=SCALE):
    """The image that the pipeline itself makes."""
    given = {"guidance_scale": scale, "num_inference_steps": STEPS, "output_type": "pt"}
    return pipe_of(name)([number], generator=generator(seed), **given).images


def sampler_of(name, label, scale=SCALE, **more):
    settings = {"class_label": label, "num_inference_steps": STEPS, "guidance_scale": scale, **more}
    return registry.make_sampler(pipe_of(name), None, settings)


def images_of(sampler, seeds):
    x, _ = sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps, None, None, seeds)
    return sampler.decode(x)


# Parity


@pytest.mark.parametrize("scale", [SCALE, 1.0])
@pytest.mark.parametrize("name", sorted(MAKE))
def test_a_candidate_is_the_plain_pipelines_image(name, scale):
    sampler = sampler_of(name, 1, scale)
    assert (sampler.solver.name if sampler.solver else None) == OURS[name]
    found, expected = images_of(sampler, [7]), plain(name, 7, 1, scale)
    if name == "flow":
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING + 0.5 / 255)
    else:
        assert torch.equal(found, (expected * 255).round() / 255)
    assert float((found - plain(name, 8, 1, scale)).abs().max()) > 0.05, "the seed matters"
    assert float((found - plain(name, 7, 2, scale)).abs().max()) > 2 / 255, "the class matters"


@pytest.mark.parametrize("name", sorted(MAKE))
def test_a_batch_is_its_members(name):
    sampler = sampler_of(name, 0)
    together = images_of(sampler, [3, 4, 9])
    for row, seed in enumerate([3, 4, 9]):
        torch.testing.assert_close(together[row : row + 1], images_of(sampler, [seed]), rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize("name", sorted(MAKE))
def test_guidance_asks_the_network_twice(name):
    for scale, each in ((SCALE, 2), (1.0, 1)):
        sampler = sampler_of(name, 0, scale)
        images_of(sampler, [0, 1])
        assert sampler.meter.nfe == 2 * STEPS
        assert sampler.meter.forwards == 2 * STEPS * each


@pytest.mark.parametrize("name", sorted(MAKE))
def test_parts_previews_and_the_pipeline_afterwards(name):
    pipe = pipe_of(name)
    before = pipe.scheduler
    sampler = sampler_of(name, 2)
    x = sampler.noise([5])
    whole, _ = sampler.denoise(x, 0, STEPS, None, None, [5])
    part, state = sampler.denoise(x, 0, 2, None, None, [5])
    part, _ = sampler.denoise(part, 2, STEPS, state, None, [None])
    assert torch.equal(part, whole)
    assert sampler.predict(x, 0).shape == x.shape
    assert pipe.scheduler is before
    assert type(pipe) is type(MAKE[name]())


def test_the_gradient_reaches_the_noise():
    sampler = sampler_of("flow", 1)
    x = sampler.noise([0]).requires_grad_()
    images = sampler.trace(x)
    images.square().mean().backward()
    assert float(x.grad.abs().max()) > 0
    torch.testing.assert_close(images.detach(), plain("flow", 0, 1), rtol=0, atol=ROUNDING)


# Which class is meant


@pytest.mark.parametrize("given", ["dog", "Dog", " dog ", 1, "1"])
def test_a_class_by_name_or_number(given):
    assert read_class(tiny.class_flow(), given) == (1, "dog")


def test_imagenet_names_are_parts_of_a_list():
    pipe = tiny.dit()
    assert read_class(pipe, "Tinca tinca") == (0, "Tinca tinca")
    assert read_class(pipe, 999) == (999, "999")  # a class without a name
    assert labels_of(object(), ["cat", "dog"]) == {"cat": 0, "dog": 1}


@pytest.mark.parametrize(
    ("given", "says"),
    [("dgo", "did you mean dog"), ("xyzzy", "expected one of cat, dog, frog"), (3, r"in \[0, 3\), got 3"),
     ("-1", "got -1"), ("", "unknown class")],
)  # fmt: skip
def test_an_unknown_class_is_refused_in_one_line(given, says):
    with pytest.raises(ValueError, match=says) as caught:
        read_class(tiny.class_flow(), given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "given", "says"),
    [
        (tiny.class_flow, {}, "expected a prompt"),
        (tiny.class_flow, {"prompt": "a photo"}, r"class_label in place of a prompt.*expected one of cat, dog, frog"),
        (tiny.class_flow, {"prompt": "cat", "class_label": "dog"}, "expected one class"),
        (tiny.sd, {"class_label": "cat"}, "StableDiffusionPipeline is not class-conditional"),
        (tiny.sd, {"prompt": "a cat", "class_label": 3}, "is not class-conditional"),
        (tiny.class_flow, {"class_label": "cat", "class_labels": [0]}, "expected no class_labels"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_spent(make, given, says):
    with pytest.raises(ValueError, match=says) as caught:
        nw.search(make(), verifier="brightness", budget="2 images", num_inference_steps=1, **given)
    assert "\n" not in str(caught.value)


def test_a_sampler_is_asked_as_a_pipeline_is():
    with pytest.raises(ValueError, match="expected a class_label"):
        PipelineSampler(tiny.class_flow(), num_inference_steps=1)
    with pytest.raises(ValueError, match="not class-conditional"):
        PipelineSampler(tiny.sd(), "a cat", class_label=1, num_inference_steps=1)
    with pytest.raises(UnsupportedPipeline, match="prompt"):
        PipelineSampler(Bare(), "a cat", num_inference_steps=1)
    assert sampler_of("dit", "goldfish").class_label == 1
    assert PipelineSampler(tiny.class_flow(), "Frog", num_inference_steps=1).prompt == "frog"
    sampler = sampler_of("flow", "frog")
    assert (sampler.prompt, sampler.class_label) == ("frog", 2)
    with pytest.raises(ValueError, match="expected no class_label"):
        nw.search(sampler, "frog", class_label="frog", verifier="brightness")


class Bare:
    scheduler = FlowMatchEulerDiscreteScheduler()

    def __call__(self, latents, generator=None, num_inference_steps=1, output_type="pil"):
        raise AssertionError("never called")


# Through a run


def asked(images, prompt):
    """A verifier that is told the class."""
    assert prompt == "dog"
    return images.mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {name: tmp_path_factory.mktemp(name) for name in ("flow", "dit")}
    for name, folder in found.items():
        MAKE[name]().save_pretrained(folder)
    index = json.loads((found["dit"] / "model_index.json").read_text())
    index["id2label"] = {"0": "tench", "1": "goldfish"}  # as DiT's own repository has it; saving leaves it out
    (found["dit"] / "model_index.json").write_text(json.dumps(index))
    return found


@pytest.mark.parametrize("given", [{"class_label": "dog"}, {"prompt": "dog"}, {"class_label": 1, "prompt": "Dog"}])
def test_a_search_by_class(tmp_path, given):
    result = nw.search(
        pipe_of("flow"), **given, verifier=asked, budget="3 images", num_inference_steps=STEPS,
        guidance_scale=SCALE, out=tmp_path / "run", pictures=False, seed=5,
    )  # fmt: skip
    assert result.forwards == 2 * result.nfe == 2 * 3 * STEPS
    described = json.loads((tmp_path / "run" / "run.json").read_text())["spec"]["sampler"]
    assert (described["prompt"], described["class_label"]) == ("dog", 1)
    expected = [pixels_of(plain("flow", seed, 1)[0]) for seed in (5, 6, 7)]
    for one, pixels in zip(result.candidates, expected, strict=True):
        found = read_recipe(tmp_path / "run" / one.file)[0]
        assert np.abs(found.astype(int) - pixels.astype(int)).max() <= 1
    assert result.best.scores["asked"] == max(one.scores["asked"] for one in result.candidates)


def test_names_from_the_models_card(tmp_path):
    pipe = tiny.class_flow()
    nameless = ClassConditionalFlowPipeline(pipe.transformer, pipe.scheduler)
    nameless.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "noisewright.json").write_text(json.dumps({"labels": ["cat", "dog", "frog"]}))
    result = nw.search(
        str(tmp_path / "model"), class_label="dog", verifier=asked, budget="2 images", num_inference_steps=1,
        out=tmp_path / "run", device="cpu", pictures=False,
    )  # fmt: skip
    assert result.images == 2
    assert replay(f"{tmp_path / 'run'}:best").identical


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "label"), [("flow", "dog"), ("dit", "goldfish")])
def test_a_replay_has_its_class(tmp_path, folders, name, label):
    nw.search(
        str(folders[name]), class_label=label, verifier="brightness", budget="2 images", num_inference_steps=2,
        guidance_scale=SCALE, out=tmp_path / "run", device="cpu", pictures=False,
    )  # fmt: skip
    found = replay(f"{tmp_path / 'run'}:best")
    assert found.identical, found.to_text()
    recipe = read_recipe(tmp_path / "run" / "best.png")[1]
    assert recipe["sampler"]["model"] == folders[name].name  # by itself an image does not say where
    sampler = rebuild(recipe, str(folders[name]))
    assert (sampler.class_label, sampler.prompt) == (1, label)
    recipe["sampler"]["class_label"] = 2
    assert float((images_of(rebuild(recipe, str(folders[name])), [0]) - images_of(sampler, [0])).abs().max()) > 0.02


@pytest.mark.slow
def test_the_command_line(tmp_path, monkeypatch, capsys, folders):
    monkeypatch.chdir(tmp_path)
    common = ["--model", str(folders["flow"]), "--steps", "2", "--verifier", "brightness", "--budget", "2"]
    assert cli.main(["generate", "--class-label", "frog", *common, "--out", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert json.loads(Path("run/run.json").read_text())["spec"]["sampler"]["class_label"] == 2
    assert cli.main(["resume", "run", "--budget", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    assert cli.main(["replay", "run:best"]) == 0
    assert cli.main(["generate", "frog", *common, "--dry-run", "--json"]) == 0
    out = capsys.readouterr().out
    forecast = json.loads(out[out.index("{") :])
    assert (forecast["prompt"], forecast["forwards_per_nfe"]) == ("frog", 2)
    for given, says in (
        (["--class-label", "forg"], "did you mean frog"),
        (["a green frog"], "class_label in place of a prompt"),
        ([], "expected a prompt (or a class label"),
    ):
        assert cli.main(["generate", *given, *common]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


# The pipeline of our own


def test_the_pipeline_survives_saving_and_half_precision(folders):
    folder = folders["flow"]
    pipe = ClassConditionalFlowPipeline.from_pretrained(folder)
    assert pipe.labels == {"cat": 0, "dog": 1, "frog": 2}
    assert type(load_pipeline(folder, device="cpu")) is ClassConditionalFlowPipeline
    given = {"num_inference_steps": 2, "output_type": "pt"}
    exact = pipe(["dog"], generator=generator(1), **given).images
    for dtype in (torch.float16, torch.bfloat16):
        half = ClassConditionalFlowPipeline.from_pretrained(folder, torch_dtype=dtype)
        latents = torch.randn(1, 3, 16, 16, generator=generator(1))  # the noise of another dtype is other noise
        found = half("dog", latents=latents, **given).images.float()
        assert found.isfinite().all()
        assert float((found - exact).abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"class_labels": "cow"}, "expected one of the classes cat, dog, frog"),
        ({"class_labels": [3]}, r"\[0, 3\)"),
        ({"class_labels": [0], "height": 8, "width": 8}, "height and width of 16"),
        ({"class_labels": [0], "latents": torch.zeros(2, 3, 16, 16)}, "latents of shape"),
    ],
)
def test_the_pipeline_refuses(given, says):
    with pytest.raises(ValueError, match=says):
        tiny.class_flow()(**given)


def test_preconditioning_has_unit_variances():
    """On Gaussian data of the stated deviation: the input's variance and that of what is left to predict are 1."""
    deviation, t = 0.5, torch.linspace(0, 1, 9).view(-1, 1)
    gauss = generator(0)
    x = deviation * torch.randn(9, 200_000, generator=gauss)
    noise = torch.randn(9, 200_000, generator=gauss)
    enter, skip, out = preconditioning(t, deviation)
    noisy = (1 - t) * x + t * noise
    target = (noise - x - skip * noisy) / out
    within = 0.02  # four deviations of a variance over 200,000 draws
    assert ((enter * noisy).var(dim=1) - 1).abs().max() < within
    assert (target.var(dim=1) - 1).abs().max() < within
    assert (target * noisy).mean(dim=1).abs().max() < within  # skip is the best linear guess


def test_positions_tell_all_places_apart():
    table = positions(4, 16)
    assert table.shape == (16, 16)
    assert float(torch.pdist(table).min()) > 0.1


def test_a_fresh_network_guesses_linearly():
    """With its last layer at zero it gives the best linear guess of the velocity, which at pure noise is the noise."""
    pipe = tiny.class_flow()
    torch.nn.init.zeros_(pipe.transformer.finish.weight)
    x = torch.randn(2, 3, 16, 16, generator=generator(0))
    with torch.no_grad():
        found = pipe.transformer(x, torch.tensor(1000.0), torch.tensor([0, 3])).sample
    torch.testing.assert_close(found, x)


def bundled(name):
    folder = registry.bundled(f"noisewright/{name}")
    if folder is None or not (folder / "README.md").is_file():
        pytest.skip(f"the bundled model noisewright/{name} is not in this copy")
    return folder


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_bundled_model():
    folder = bundled("cifar10")
    assert size_of(folder) < 16e6
    pipe = nw.load("noisewright/cifar10", device="cpu")
    assert pipe.labels["cat"] == 3
    sampler = PipelineSampler(pipe, "cat", num_inference_steps=2, guidance_scale=SCALE)
    given = {"guidance_scale": SCALE, "num_inference_steps": 2, "output_type": "pt"}
    expected = pipe([3], generator=generator(0), **given).images
    torch.testing.assert_close(images_of(sampler, [0]), expected, rtol=0, atol=ROUNDING + 0.5 / 255)


def test_the_bundled_statistics_are_of_the_bundled_classifier():
    folder = bundled("cifar10-classifier")
    network = FeatureNetwork(folder)
    statistics = FeatureStatistics.load(folder / "reference.safetensors")
    assert (statistics.fingerprint, statistics.count) == (network.fingerprint, 50_000)
    assert (folder / "reference.safetensors").stat().st_size < 2e6
    start = FeatureStatistics.load(folder / "start.safetensors")
    assert start.fingerprint == network.fingerprint
    assert start.count >= 4 * len(start.mean), "fewer samples have no covariance to speak of"
    assert list(network.labels.values())[3] == "cat"


# Training


@pytest.fixture
def training(monkeypatch):
    """The modules of training/cifar10, whose names others have too."""
    folder = Path(__file__).parents[2] / "training" / "cifar10"
    names = [path.stem for path in folder.glob("*.py")]
    held = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(folder))
    import importlib

    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(held)


def options(**more):
    from argparse import Namespace

    given = {"device": "cpu", "steps": 4, "minutes": None, "batch": 4, "optimiser": "muon", "compile": False}
    return Namespace(**{**given, "grid_every": 0, **more})


def test_training_goes_on_as_if_it_had_not_stopped(training, tmp_path, monkeypatch):
    diffusion = training("diffusion")
    monkeypatch.setattr(diffusion, "build", lambda: (torch.manual_seed(0), tiny_network())[1])
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8), np.arange(12) % 10
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    straight, done = diffusion.fit(pictures, labels, whole, options())
    assert done
    plain_train = diffusion.loop.train
    monkeypatch.setattr(diffusion.loop, "train", lambda *a, **k: plain_train(*a, **{**k, "steps": k["steps"] // 2}))
    diffusion.fit(pictures, labels, cut, options())
    monkeypatch.setattr(diffusion.loop, "train", plain_train)
    resumed, _ = diffusion.fit(pictures, labels, cut, options())
    for one, other in zip(straight.models, resumed.models, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"expected the batch size of .*diffusion\.pt, 4, to go on with it, got 6$"):
        diffusion.fit(pictures, labels, cut, options(batch=6))
    begun = torch.load(whole / "diffusion.pt", weights_only=True)["model"]
    assert any(not torch.equal(value, tiny_network().state_dict()[name]) for name, value in begun.items())


def tiny_network():
    from noisewright.pipelines.class_flow import ClassFlowTransformer

    return ClassFlowTransformer(sample_size=16, width=32, depth=3, heads=2, modulations=2, refine=4)


def test_augmentations_move_pictures_and_nothing_else(training):
    classifier = training("classifier")
    torch.manual_seed(0)
    flat = torch.full((8, 3, 32, 32), 0.25)
    assert torch.equal(classifier.augmented(flat, classifier.KINDS["cifar10-classifier"]), flat)
    row = torch.arange(32.0).expand(8, 3, 32, 32) / 32
    moved = classifier.augmented(row, classifier.Kind(32, 0))
    steps = (moved[..., 1:] - moved[..., :-1]).abs()
    assert float((steps - 1 / 32).abs().max()) < 1e-6  # reflected at the border, never wrapped or blank
    assert len({float(one[0, 0, 0]) for one in moved}) > 2
    holes = classifier.augmented(flat, classifier.Kind(32, 0, hole=8))
    assert ((holes == 0.5).sum(dim=(1, 2, 3)) == 3 * 64).all()


@pytest.mark.parametrize("name", ["cifar10-classifier", "cifar10-judge"])
def test_the_classifiers_load_by_their_auto_classes(training, tmp_path, name):
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    classifier = training("classifier")
    model = classifier.build(name).eval()
    classifier.save(model, name, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 3e6
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert loaded.config.id2label[3] == "cat"
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    prepare = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    exact = prepare([Image.fromarray(one) for one in pictures], return_tensors="pt")["pixel_values"]
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    trained_on = classifier.prepared(images, classifier.KINDS[name].side)
    within = 1.01 / 255 / min(classifier.DEVIATION)  # the processor rounds to 8 bits after each pass of its resize
    assert float((exact - trained_on).abs().max()) <= within
    features, logits = classifier.outputs(tmp_path, pictures)
    assert features.shape[1] >= 128
    expected = loaded(exact).logits.detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_judge_begins_with_what_it_shares_with_the_wider_one(training):
    classifier = training("classifier")
    wide, judge = classifier.build(classifier.WIDE), classifier.build(classifier.JUDGE)
    count = sum(one.numel() for one in judge.state_dict().values())
    assert count < sum(one.numel() for one in wide.state_dict().values()) / 2
    same = classifier.inherit(judge, wide)
    held, given = judge.state_dict(), wide.state_dict()
    equal = [key for key in held if key in given and torch.equal(held[key], given[key])]
    assert same == sum(held[key].numel() for key in equal)
    assert count / 2 < same < count


def test_a_distillation_by_hand(training):
    classifier = training("classifier")
    logits, wanted = torch.zeros(1, 2), torch.tensor([[2 * math.log(3.0), 0.0]])  # at temperature 2: 3/4 and 1/4
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(classifier.distilled(logits, wanted)) == pytest.approx(expected, abs=1e-6)
    assert float(classifier.distilled(wanted, wanted)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_a_judge_is_distilled(training, tmp_path):
    classifier = training("classifier")
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8)
    teacher = classifier.build(classifier.WIDE)
    before = {key: one.clone() for key, one in teacher.state_dict().items()}
    model, done = classifier.fit(classifier.JUDGE, pictures, labels, tmp_path, steps=2, teacher=teacher)
    assert done
    assert all(torch.equal(one, before[key]) for key, one in teacher.state_dict().items()), "the teacher learned"
    assert any(not torch.equal(one, before[key]) for key, one in model.named_parameters() if key in before
               and one.shape == before[key].shape)  # fmt: skip


def test_data_asks_for_its_files_in_one_line(training, tmp_path, monkeypatch):
    data = training("data")
    monkeypatch.setenv(data.ENVIRONMENT, str(tmp_path))
    with pytest.raises(ValueError, match=r"train.*parquet"):
        data.load("train", tmp_path)
