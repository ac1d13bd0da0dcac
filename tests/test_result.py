"""How a result shows itself: as text, and in a notebook."""

import base64
import html
import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import noisewright as nw
import warm
from noisewright.samplers.mixture import MixtureSampler
from noisewright.verifiers.pixels import Sharpness

MIME = {"text/html": "_repr_html_", "image/png": "_repr_png_"}


def shown(value):
    """What a notebook gets of a value, by type: the methods that IPython calls."""
    found = {mime: getattr(value, name)() for mime, name in MIME.items() if hasattr(value, name)}
    return {mime: data for mime, data in found.items() if data is not None}


def pictures(card):
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]*)"', card)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return nw.search(
        MixtureSampler(steps=3), "a mixture", verifier=["brightness", Sharpness()], judge="compressibility",
        budget="20 images", out=tmp_path_factory.mktemp("result") / "run",
    )  # fmt: skip


def noisy(run, result, prompt="a prompt", side=1024):
    """The result with pictures of noise, which compress worst."""
    files = {}
    for name, size in (("best", side), ("baseline", side), ("contact-sheet", 1664)):
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        files[name] = run / f"{name}.png"
        Image.fromarray(pixels).save(files[name])
    return replace(
        result, run=run, prompt=prompt,
        best=replace(result.best, file=files["best"]), baseline=replace(result.baseline, file=files["baseline"]),
    )  # fmt: skip


def test_a_notebook_shows_baseline_and_best_their_scores_the_cost_and_the_sheet_folded_in(result):
    card = shown(result)["text/html"]
    assert len(pictures(card)) == 3
    assert card.index("baseline") < card.index("contact sheet")
    for name in ("brightness", "sharpness", "compressibility"):
        assert f"<td>{name}</td>" in card
    assert card.count("<td>judge</td>") == 1
    assert f"{result.images} images, {result.nfe} NFE" in card
    assert "stopped: budget: 20 images" in card
    assert card.index("<details>") < card.rindex("<img") < card.index("</details>")
    assert not re.search(r'(?:src|href)="(?!data:)', card)


def test_the_pictures_in_a_card_are_those_of_the_run(result):
    baseline, best, _ = pictures(shown(result)["text/html"])
    for found, one in ((baseline, result.baseline), (best, result.best)):
        assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(one.image))


@pytest.mark.slow
def test_a_card_of_large_noisy_pictures_stays_below_a_megabyte(result, tmp_path):
    card = shown(noisy(tmp_path, result))["text/html"]
    assert len(pictures(card)) == 3
    assert len(json.dumps(card)) < 1_000_000


def test_texts_from_outside_are_no_markup(result):
    evil = "<script>alert(1)</script>\x1b[31m"
    found = replace(result, prompt=evil, stopped=evil, warnings=(evil,), judges=(evil,))
    found = replace(found, best=replace(result.best, scores={**result.best.scores, evil: 1.0}))
    card = shown(found)["text/html"]
    assert "<script" not in card
    assert "\x1b" not in card
    assert html.escape("<script>") in card


def test_warnings_are_in_the_card(result):
    assert "look at this" in shown(replace(result, warnings=("look at this",)))["text/html"]


def test_a_card_without_its_files_says_so(result, tmp_path):
    gone = replace(result, run=tmp_path, best=replace(result.best, file=tmp_path / "best.png"))
    card = shown(gone)["text/html"]
    assert "its file is gone" in card
    assert "contact sheet" not in card
    assert shown(gone.best) == {}


@pytest.mark.slow
def test_a_candidate_is_its_picture(result, tmp_path):
    found = Image.open(io.BytesIO(shown(result.best)["image/png"]))
    assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(result.best.image))
    large = noisy(tmp_path, result, side=2048).best
    assert max(Image.open(io.BytesIO(shown(large)["image/png"])).size) == 768
    assert large.image.size == (2048, 2048)


def test_texts_are_short_and_say_what_one_asks(result):
    many = replace(result, candidates=result.candidates * 50, curve=result.curve * 50)
    assert len(repr(many)) < 400 + len(str(result.run))
    assert "\n" not in repr(many)
    assert "20 images" in repr(many)
    lines = str(many).splitlines()
    assert len(lines) < 10
    assert lines[0].split() == ["baseline", "best", "change"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["brightness", "verifier"], ["sharpness", "verifier"], ["compressibility", "judge"]
    ]  # fmt: skip
    assert "warning: look" in str(replace(result, warnings=("look",)))
    assert f"seed {result.best.seed}" in repr(result.best)
    assert "Candidate(" not in repr(result) + str(result) + repr(result.best)


def test_scores_that_are_no_numbers_are_shown_as_such(result):
    found = replace(result, best=replace(result.best, scores={"brightness": float("nan")}))
    for text in (repr(found), str(found), repr(found.best), shown(found)["text/html"]):
        assert "nan" in text


@pytest.mark.slow
def test_a_plot_is_seen_once_without_pyplot_and_with_it(result, tmp_path):
    program = f"""
import sys
import noisewright as nw
from noisewright.samplers.mixture import MixtureSampler
found = nw.search(MixtureSampler(steps=2), "a mixture", verifier="brightness", budget=2, out={str(tmp_path / "run")!r})
figure = found.plot()
assert "matplotlib.pyplot" not in sys.modules
assert figure._repr_png_().startswith(b"\\x89PNG")
assert figure._repr_html_() is None
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
assert isinstance(found.plot(), Figure)
assert plt.get_fignums() == []  # what pyplot knows it shows again at the end of a cell
"""
    done = warm.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plot_can_be_kept(result):
    import pickle

    figure = pickle.loads(pickle.dumps(result.plot()))
    assert figure._repr_png_().startswith(b"\x89PNG")
