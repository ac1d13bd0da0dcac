import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import noisewright
from loopback import Reply, serving
from noisewright import cli
from noisewright.errors import VerifierFailed
from noisewright.metadata import read_image
from noisewright.verifier import DifferentiableVerifier, Verifier, score
from noisewright.verifiers.cache import FILE, Cached, Shelf, cached, image_hashes, key_of
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.pixels import Brightness, Sharpness

IMAGES = (torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
FLOAT = 1e-6


class Counted:
    """Brightness that remembers how many images it was asked for."""

    name = "counted"

    def __init__(self, fingerprint="1"):
        self.fingerprint = fingerprint
        self.asked = []

    def __call__(self, images, prompt):
        self.asked.append(len(images))
        return [one * len(prompt) for one in Brightness()(images, prompt)]


@pytest.mark.parametrize("kept", [False, True])
def test_each_image_and_prompt_is_asked_for_once(tmp_path, kept):
    inner = Counted()
    one = Cached(inner, tmp_path / "scores" if kept else None)
    assert isinstance(one, Verifier)
    assert (one.name, one.fingerprint) == ("counted", "1")
    twice = torch.cat([IMAGES, IMAGES.flip(0)])
    wanted = Brightness()(twice, "")
    assert score(one, twice, "a") == pytest.approx(wanted, abs=FLOAT)
    assert score(one, IMAGES[1:3], "a") == pytest.approx(wanted[1:3], abs=FLOAT)
    assert score(one, IMAGES[:1], "ab") == pytest.approx([2 * wanted[0]], abs=FLOAT)
    assert inner.asked == [4, 1]
    again = Counted()
    score(Cached(again, tmp_path / "scores" if kept else None), IMAGES, "a")
    assert again.asked == ([] if kept else [4])
    other = Counted(fingerprint="2")
    score(Cached(other, tmp_path / "scores" if kept else None), IMAGES, "a")
    assert other.asked == [4]


def test_the_same_bytes_in_another_shape_are_another_image():
    tall = torch.zeros(1, 3, 4, 9)
    assert image_hashes(tall) != image_hashes(torch.zeros(1, 3, 9, 4))
    assert image_hashes(tall) == image_hashes(tall + 1e-4)  # equal once they are saved
    assert key_of("a", "bc") != key_of("ab", "c")


def test_failures_are_not_kept(tmp_path):
    class Moody(Counted):
        def __call__(self, images, prompt):
            found = super().__call__(images, prompt)
            return [math.nan if len(self.asked) == 1 and n == 2 else one for n, one in enumerate(found)]

    inner = Moody()
    one = Cached(inner, tmp_path)
    assert [math.isnan(value) for value in score(one, IMAGES, "a")] == [False, False, True, False]
    assert score(one, IMAGES, "a") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert inner.asked == [4, 1]


def test_a_broken_verifier_is_broken_in_a_cache_too():
    class Broken(Counted):
        def __call__(self, images, prompt):
            raise RuntimeError("no")

    with pytest.raises(VerifierFailed, match=r"^verifier counted raised RuntimeError: no$"):
        score(Cached(Broken()), IMAGES, "a")


def test_the_gradient_stays_where_there_is_one():
    assert isinstance(cached(Brightness()), DifferentiableVerifier)
    assert torch.equal(cached(Brightness()).gradient_scores(IMAGES, ""), Brightness().gradient_scores(IMAGES, ""))
    assert not isinstance(cached(Sharpness()), DifferentiableVerifier)


def test_what_a_score_depends_on_beside_the_image_is_respected():
    class Drifting(Counted):
        def keep_in(self, directory):
            self.told = directory

    class Previewing(Counted):
        preview_sigma = 0.4

    one = Drifting()
    assert cached(one, "here") is one
    assert one.told == "here"
    other = Previewing()
    assert cached(other) is other
    inner = Counted()
    kept = Cached(inner)
    score(kept, IMAGES, "a")
    inner.fingerprint = "2"
    assert kept.fingerprint == "2"
    score(kept, IMAGES, "a")
    assert inner.asked == [4, 4]


def test_a_server_s_scores_are_kept_in_memory_alone(tmp_path):
    with serving(lambda seen, number: Reply({"scores": [number] * len(seen.body["images"])})) as server:
        one = cached(HttpVerifier(server.url), tmp_path)
        assert score(one, IMAGES[:1], "a") == score(one, IMAGES[:1], "a") == [0]
        assert score(cached(HttpVerifier(server.url), tmp_path), IMAGES[:1], "a") == [1]
    assert not (tmp_path / FILE).exists()


def test_many_threads_and_connections(tmp_path):
    shelves = [Shelf(tmp_path) for _ in range(3)]

    def use(n):
        shelves[n % 3].put({f"key {n}": [n, {"text": "ü"}]})
        return shelves[(n + 1) % 3].get([f"key {n}", "other"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(40)))
    assert found == [{f"key {n}": [n, {"text": "ü"}]} for n in range(40)]


def test_what_is_no_place_for_scores_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / FILE).write_text("no database" * 1000)
    for place in (tmp_path / "file", tmp_path):
        with pytest.raises(ValueError, match="expected a directory to keep scores in, got") as caught:
            Shelf(place)
        assert "\n" not in str(caught.value)


def test_a_file_that_fails_later_costs_no_score(tmp_path, caplog):
    inner = Counted()
    one = Cached(inner, tmp_path)
    score(one, IMAGES[:2], "a")
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("DROP TABLE shelf")
    assert score(one, IMAGES, "a") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert score(one, IMAGES, "b") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert inner.asked == [2, 2, 4]
    assert caplog.text.count("scores are not kept") == 1


def test_a_search_asks_for_no_image_that_an_earlier_one_asked_for(tmp_path):
    given = {"budget": "3 images", "num_inference_steps": 1, "score_cache": tmp_path / "scores", "pictures": False}
    asked, best = [], []
    for images in (3, 3, 5):  # the same, then two more
        verifier, judge = Counted(), Sharpness()
        found = noisewright.search(
            "noisewright/shapes", "a red circle", verifier=verifier, judge=judge, **{**given, "budget": images}
        )
        asked.append(sum(verifier.asked))
        best.append((found.best.id, found.best.scores))
    assert asked == [3, 0, 2]
    assert best[0] == best[1]
    assert set(best[0][1]) == {"counted", "sharpness"}


def test_generate_keeps_scores_where_it_is_told(tmp_path, capsys):
    given = ["generate", "a red circle", "--budget", "2 images", "--steps", "1", "--verifier", "brightness"]
    assert cli.main([*given, "--score-cache", str(tmp_path / "kept"), "--out", str(tmp_path / "run")]) == 0
    assert cli.main(["resume", str(tmp_path / "run"), "--budget", "3 images", "--trust"]) == 0  # with the cache, too
    pictures = [read_image(file)[0] for file in (tmp_path / "run" / "images").glob("*.png")]
    images = torch.stack([torch.from_numpy(one.copy()).permute(2, 0, 1) / 255 for one in pictures])
    keys = [key_of(image, "a red circle", Brightness.fingerprint) for image in image_hashes(images)]
    assert len(Shelf(tmp_path / "kept").get(keys)) == 3
    (tmp_path / "file").touch()
    assert cli.main([*given, "--score-cache", str(tmp_path / "file"), "--out", str(tmp_path / "other")]) == 2
    assert "expected a directory as --score-cache" in capsys.readouterr().err


def test_the_command_line_asks_once(tmp_path, capsys, monkeypatch):
    from PIL import Image

    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "b.png")
    (tmp_path / "count.py").write_text(
        "from pathlib import Path\n"
        "def count(images, prompt):\n"
        "    with open(Path(__file__).with_name('log'), 'a') as log:\n"
        "        log.write('x' * len(images))\n"
        "    return images.mean((1, 2, 3))\n"
    )
    given = ["score", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--prompt", "x"]
    given += ["--verifier", f"{tmp_path}/count.py:count", "--score-cache", str(tmp_path / "cache")]
    for runs in (1, 2):  # nothing says when what a function calls changes, so it is asked anew in each run
        assert cli.main(given) == 0
        out, err = capsys.readouterr()
        assert "a.png" in out
        assert err.endswith("scores of count are not kept on disk: nothing says when a function changes\n")
        assert (tmp_path / "log").read_text() == "x" * runs
    assert not (tmp_path / "cache").exists()
