import json
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from noisewright import cli
from noisewright.errors import VerifierFailed
from noisewright.evaluate import scoring
from noisewright.evaluate.overview import overview
from noisewright.evaluate.scoring import score_files
from noisewright.images.metadata import MOST_PIXELS, read_image
from noisewright.verifiers.pixels import Brightness, Sharpness


def png_that_says(width, height):
    """A small PNG file whose header promises a large image."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def grey(path, value, size=(4, 4)):
    Image.new("RGB", size, (value,) * 3).save(path)
    return path


@pytest.fixture
def bad(tmp_path):
    """Files that cannot be scored, with what is said of each."""
    grey(tmp_path / "whole.png", 9, (50, 50))
    whole = (tmp_path / "whole.png").read_bytes()
    said = {}
    for name, data, says in (
        ("empty.png", b"", "it is empty (0 bytes)"),
        ("text.png", b"no image", "cannot identify"),
        ("cut.png", whole[: len(whole) // 2], "truncated"),
        ("large.png", png_that_says(9000, 8000), f"it has 9000x8000 pixels, at most {MOST_PIXELS} are read"),
        ("bomb.png", png_that_says(100_000, 100_000), f"at most {MOST_PIXELS} pixels are read"),
        ("cut.gif", b"GIF89a\x04\x00\x04\x00\x80\x00\x00", "got"),
    ):
        (tmp_path / name).write_bytes(data)
        said[tmp_path / name] = says
    (tmp_path / "whole.png").unlink()
    return said


def test_images_that_are_none_are_one_line_each(bad, recwarn):
    for path, says in bad.items():
        with pytest.raises(ValueError, match="expected a") as caught:
            read_image(path)
        assert says in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["gif", "tiff", "png", "jpeg", "webp"])
def test_a_damaged_file_is_an_image_or_one_line(tmp_path, kind, recwarn):
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).quantize(4) for _ in range(2)]
    frames = frames if kind == "gif" else [one.convert("RGB") for one in frames]
    more = {"save_all": True, "append_images": frames[1:]} if kind in ("gif", "tiff") else {}
    frames[0].save(tmp_path / f"whole.{kind}", **more)
    whole = np.frombuffer((tmp_path / f"whole.{kind}").read_bytes(), np.uint8)
    path = tmp_path / f"bad.{kind}"
    for _ in range(40):
        data = whole.copy()
        places = random.integers(0, min(len(data), 160), 2)  # headers break more than pixels do
        data[places] = random.integers(0, 256, 2)
        path.write_bytes(data.tobytes())
        said = str(path)
        try:
            found, _ = read_image(path)
        except ValueError as error:
            said = str(error)
        else:
            assert (found.dtype, found.ndim) == (np.uint8, 3)
        assert str(path) in said
        assert "\n" not in said
    assert not recwarn.list


@pytest.mark.parametrize("error", [IndexError("no"), TypeError("no"), struct.error("no"), KeyError(3), MemoryError()])
def test_whatever_a_decoder_raises_costs_only_its_own_image(tmp_path, capsys, monkeypatch, error):
    good, bad = grey(tmp_path / "good.png", 255), grey(tmp_path / "bad.gif", 1)

    def breaks(self):
        raise error

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.load", breaks)
    given = ["score", str(good), str(bad), "--prompt", "x", "--verifier", "brightness", "--json"]
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert [one["file"] for one in json.loads(out)["images"]] == [str(good)]
    assert str(bad) in err


def test_the_others_are_scored(bad, tmp_path, capsys):
    good = grey(tmp_path / "good.png", 255)
    given = ["score", *map(str, bad), str(good), "--prompt", "x", "--verifier", "brightness", "--json"]
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [one["file"] for one in found["images"]] == [str(good)]
    assert len(found["errors"]) == len(bad)
    assert err.count("\n") == len(bad)


def test_the_largest_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.images.reading.MOST_PIXELS", 20)
    assert read_image(grey(tmp_path / "a.png", 1, (5, 4)))[0].shape == (4, 5, 3)
    with pytest.raises(ValueError, match="it has 7x3 pixels, at most 20 are read"):
        read_image(grey(tmp_path / "b.png", 1, (7, 3)))


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_frame_is_scored_with_a_warning(tmp_path, kind, caplog):
    frames = [Image.new("RGB", (8, 8), (value,) * 3) for value in (255, 0, 120)]
    path = tmp_path / f"moving.{kind}"
    options = {"duration": 50, "lossless": True} if kind == "webp" else {"duration": 50}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    found, errors = score_files([path], "x", [Brightness()])
    assert found[0]["scores"]["brightness"] == pytest.approx(1, abs=0.01)
    assert not errors
    assert caplog.messages == [f"{path} is animated (3 frames): only the first is read"]


def test_still_images_are_read_without_a_warning(tmp_path, caplog):
    frames = [Image.new("RGB", (8, 8), (value,) * 3) for value in (255, 0)]
    frames[0].save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "photo.jpg").n_frames == 2
    read_image(tmp_path / "photo.jpg")
    for kind in ("gif", "png", "webp", "tiff", "jpg", "bmp"):
        read_image(grey(tmp_path / f"still.{kind}", 7))
    assert not caplog.messages


class Moody:
    """Fails on the images of one brightness, whoever comes with them."""

    name, fingerprint = "moody", "1"

    def __init__(self, *values):
        self.values = values

    def __call__(self, images, prompt):
        found = [round(255 * value) for value in images.mean((1, 2, 3)).tolist()]
        if set(found) & set(self.values):
            raise RuntimeError("not this one")
        return found


def test_a_verifier_that_fails_on_some_files(tmp_path, caplog):
    files = [grey(tmp_path / f"{n}.png", n, (4 + n // 3, 4)) for n in range(6)]  # two sizes, three files of each
    found, _ = score_files(files, "x", [Moody(0, 1, 2, 4), Brightness()], "zsum")
    scores = {int(one["file"][-5]): one["scores"] for one in found}
    assert [math.isnan(scores[n]["moody"]) for n in range(6)] == [True, True, True, False, True, False]
    assert [scores[n]["brightness"] * 255 for n in range(6)] == pytest.approx(range(6), abs=1e-4)
    assert [int(one["file"][-5]) for one in found[:2]] == [5, 3]
    assert len(caplog.messages) == 2
    assert "(NaN for 1 of 3 images)" in caplog.messages[0]
    assert "(NaN for 4 of 6 images)" in caplog.messages[1]


def test_a_verifier_that_fails_on_every_file_failed(tmp_path):
    files = [grey(tmp_path / f"{n}.png", n, (4 + n, 4)) for n in range(20)]
    asked = []

    def broken(images, prompt):
        asked.append(len(images))
        raise RuntimeError("no")

    from noisewright.verifiers.protocol import FunctionVerifier

    with pytest.raises(VerifierFailed, match="broken raised RuntimeError: no"):
        score_files(files, "x", [Brightness(), FunctionVerifier(broken)])
    assert len(asked) == scoring.FRUITLESS
    with pytest.raises(VerifierFailed, match="broken"):
        score_files(files[:2], "x", [Brightness(), FunctionVerifier(broken)])


def test_large_images_are_scored_a_few_at_a_time(tmp_path, monkeypatch):
    sizes = []

    class Counted(Brightness):
        def __call__(self, images, prompt):
            sizes.append(len(images))
            return super().__call__(images, prompt)

    files = [grey(tmp_path / f"{n:02}.png", n) for n in range(20)]
    found, _ = score_files(files, "x", [Counted()])
    assert sizes == [16, 4]
    monkeypatch.setattr(scoring, "PIXELS_AT_ONCE", 3 * 16)
    again, _ = score_files(files, "x", [Counted()])
    assert sizes[2:] == [3] * 6 + [2]
    assert again == found


def test_a_weighted_sum_on_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for n in range(4):
        array = np.clip(60 * n + rng.normal(0, 40 - 10 * n, (9, 9, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(array).save(tmp_path / f"{n}.png")
    given = ["score", str(tmp_path), "--prompt", "x", "--verifier", "brightness", "--verifier", "sharpness", "--json"]
    for weights in ("brightness=1,sharpness=0", "sharpness=1,brightness=0", "brightness=1,sharpness=-0.7"):
        assert cli.main([*given, "--ensemble", weights]) == 0
        found = json.loads(capsys.readouterr().out)["images"]
        factors = {name: float(value) for name, value in (one.split("=") for one in weights.split(","))}
        sums = [sum(factors[name] * value for name, value in one["scores"].items()) for one in found]
        assert set(found[0]["scores"]) == {"brightness", "sharpness"}
        assert sums == sorted(sums, reverse=True)
    for weights, says in (("brightness=1", "expected a weight for each"), ("brightness=x,sharpness=1", "a number")):
        assert cli.main([*given, "--ensemble", weights]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.slow
def test_weights_in_a_search(tmp_path):
    from noisewright.api import search
    from noisewright.samplers.mixture import MixtureSampler

    more = {"budget": "5 images", "verifier": ["brightness", "sharpness"]}
    weights = {"sharpness": -1.0, "brightness": 0.25}
    found = search(MixtureSampler(steps=3, prompt="x"), "x", ensemble=weights, out=tmp_path / "run", **more)
    sums = [sum(weights[name] * value for name, value in one.scores.items()) for one in found.candidates]
    assert found.best.id == found.candidates[int(torch.tensor(sums).argmax())].id
    spec = json.loads((tmp_path / "run" / "run.json").read_text())["spec"]
    assert spec["ensemble"] == "brightness=0.25,sharpness=-1.0"
    shown = overview(tmp_path / "run")
    assert shown["candidates"][0]["id"] == found.best.id
    assert shown["curve"][-1]["value"] == pytest.approx(max(sums))
    again = search(MixtureSampler(steps=3, prompt="x"), "x", ensemble=spec["ensemble"], out=tmp_path / "run", **more)
    assert again.best.id == found.best.id
    for bad in ({"brightness": 1}, "brightness=1,sharpnes=2", {"brightness": "high", "sharpness": 1}):
        with pytest.raises(ValueError, match="expected a"):
            search(MixtureSampler(steps=3, prompt="x"), "x", ensemble=bad, **more)
    assert Sharpness.name in found.best.scores
