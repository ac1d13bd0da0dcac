import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import tiny
from commands import refused
from noisewright import cli
from noisewright.images.metadata import encode_png, read_recipe
from noisewright.run.lineage import Lineages
from noisewright.run.particle import Particle, from_lineage, noise_particle

MODEL = []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of five candidates in micro-batches of three, with its model beside it."""
    root = tmp_path_factory.mktemp("replay")
    MODEL[:] = [root / "model"]
    tiny.sd().save_pretrained(root / "model", safe_serialization=True)
    given = ["generate", "a cat", "--model", str(root / "model"), "--verifier", "brightness", "--steps", "3"]
    assert cli.main([*given, "--budget", "5 images", "--batch-size", "3", "--out", str(root / "run"), "--json"]) == 0
    return root / "run"


def replayed(capsys, source, *more, code):
    capsys.readouterr()
    file = Path(str(source))
    sent = file.suffix == ".png" and not any((one / "run.json").is_file() for one in file.parents)
    if sent and "--model" not in more:
        more = [*more, "--model", MODEL[0]]  # by itself a file does not say where a local model is
    assert cli.main(["replay", str(source), *map(str, more), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_best_baseline_and_every_candidate_are_identical(run, capsys):
    for source in (run / "best.png", run / "baseline.png", f"{run}:best", f"{run}:baseline", *run.glob("images/*.png")):
        found = replayed(capsys, source, code=0)
        assert found["identical"] is True
        assert found["max_difference"] == 0
        assert found["reasons"] == []


@pytest.mark.slow
def test_by_the_beginning_of_an_id(run, capsys):
    name = next(run.glob("images/*.png")).stem
    assert replayed(capsys, f"{run}:{name[:10]}", code=0)["id"] == name
    refused(capsys, ["replay", f"{run}:zzzz"], "zzzz", "fits 0")
    refused(capsys, ["replay", f"{run}:"], "id of one candidate")


def test_text_says_identical(run, capsys):
    capsys.readouterr()
    assert cli.main(["replay", f"{run}:best"]) == 0
    assert capsys.readouterr().out.startswith("identical: ")


@pytest.mark.slow
def test_tampered_pixels_are_found(run, capsys, tmp_path):
    pixels, recipe = read_recipe(run / "best.png")
    pixels = pixels.copy()
    pixels[3, 5] ^= 255
    (tmp_path / "edited.png").write_bytes(encode_png(pixels, recipe))
    found = replayed(capsys, tmp_path / "edited.png", code=1)
    assert found["identical"] is False
    assert found["max_difference"] > 0
    assert found["changed"] == pytest.approx(1 / pixels.shape[0] / pixels.shape[1])
    assert "changed after it was made" in found["reasons"][0]
    assert cli.main(["replay", str(tmp_path / "edited.png"), "--model", str(MODEL[0])]) == 1
    assert capsys.readouterr().out.startswith("different: ")


@pytest.mark.slow
def test_resized_image_is_different(run, capsys, tmp_path):
    pixels, recipe = read_recipe(run / "best.png")
    (tmp_path / "small.png").write_bytes(encode_png(np.ascontiguousarray(pixels[::2, ::2]), recipe))
    found = replayed(capsys, tmp_path / "small.png", code=1)
    assert "16x16" in found["reasons"][0]


def test_out_writes_a_png_that_replays_itself(run, capsys, tmp_path):
    file = tmp_path / "again.png"
    assert replayed(capsys, run / "best.png", "--out", file, code=0)["file"] == str(file)
    assert np.array_equal(read_recipe(file)[0], read_recipe(run / "best.png")[0])
    replayed(capsys, file, code=0)
    refused(capsys, ["replay", run / "best.png", "--out", tmp_path / "none" / "x.png"], "--out")


@pytest.mark.slow
def test_other_dtype_differs_and_says_so(run, capsys, tmp_path):
    found = replayed(capsys, run / "best.png", "--dtype", "bfloat16", "--out", tmp_path / "half.png", code=1)
    assert any("dtype float32 then, bfloat16 now" in reason for reason in found["reasons"])
    assert 0 < found["max_difference"] < 64
    replayed(capsys, tmp_path / "half.png", code=0)


@pytest.mark.slow
def test_other_versions_are_named(run, capsys, tmp_path):
    pixels, recipe = read_recipe(run / "best.png")
    recipe = {**recipe, "versions": {**recipe["versions"], "torch": "0.4.1"}, "pixels": "0" * 64}
    (tmp_path / "old.png").write_bytes(encode_png(np.ascontiguousarray(255 - pixels), recipe))
    found = replayed(capsys, tmp_path / "old.png", code=1)
    assert any(reason.startswith("torch 0.4.1 then") for reason in found["reasons"])


def test_another_model_is_refused(run, capsys, tmp_path):
    tiny.sd(seed=1).save_pretrained(tmp_path / "other", safe_serialization=True)
    refused(capsys, ["replay", run / "best.png", "--model", tmp_path / "other"], "fingerprint")


@pytest.mark.slow
def test_moved_model_is_found_with_model(run, capsys, tmp_path):
    (tmp_path / "moved").symlink_to(run.parent / "model")
    assert replayed(capsys, run / "best.png", "--model", tmp_path / "moved", code=0)["identical"]


@pytest.mark.slow
def test_noise_between_the_steps_is_made_again(run, capsys, tmp_path):
    given = ["generate", "a cat", "--model", str(run.parent / "model"), "--verifier", "brightness", "--steps", "3"]
    more = ["--solver", "ddim", "--eta", "0.8", "--budget", "3", "--out", str(tmp_path / "eta")]
    assert cli.main([*given, *more]) == 0
    for source in (f"{tmp_path / 'eta'}:best", f"{tmp_path / 'eta'}:baseline"):
        assert replayed(capsys, source, code=0)["identical"]


@pytest.mark.parametrize(
    ("text", "part"),
    [("{", "damaged"), ("{}", "version"), ("[]", "version")],
)
def test_damaged_recipes_are_refused(run, capsys, tmp_path, text, part):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("noisewright", text)
    Image.open(run / "best.png").save(tmp_path / "odd.png", pnginfo=chunks)
    refused(capsys, ["replay", tmp_path / "odd.png"], part)


def test_edited_lineage_is_refused(run, capsys, tmp_path):
    pixels, recipe = read_recipe(run / "best.png")
    recipe["lineage"][0]["args"]["seed"] += 1
    (tmp_path / "edited.png").write_bytes(encode_png(pixels, recipe))
    refused(capsys, ["replay", tmp_path / "edited.png"], "edited")


@pytest.mark.slow
@pytest.mark.parametrize("ancestors", [10, 1_000, 30_000])
def test_a_recipe_of_any_length_is_read(tmp_path, ancestors):
    particle = noise_particle(3, 4)
    for number in range(ancestors):
        particle = Particle("vary", (particle,), {"cosine": 0.9, "draw": number}, 0, 4)
    particle = Particle("denoise", (particle,), {"to": 4}, 4, 4)
    sampler = {"num_inference_steps": 4, "solver": "ddim", "model": "m", "prompt": "p"}
    recipe = {"recipe_version": 2, "id": particle.id, "sampler": sampler, "lineage": Lineages().text(particle),
              "micro_batch": {"size": 1, "place": 0}, "versions": {"noisewright": "0"}}  # fmt: skip
    (tmp_path / "one.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8), recipe))
    assert from_lineage(read_recipe(tmp_path / "one.png")[1]["lineage"]) == particle
