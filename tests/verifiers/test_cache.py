import contextlib
import math
import os
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import noisewright
import warm
from loopback import Reply, serving
from noisewright import cli, registry
from noisewright.errors import VerifierFailed
from noisewright.images.metadata import read_image
from noisewright.verifiers import cache
from noisewright.verifiers.cache import FILE, Cached, JsonCache, all_cached, cached, image_hashes, key_of
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.pixels import Brightness, Sharpness
from noisewright.verifiers.protocol import DifferentiableVerifier, Verifier, as_verifier, score
from noisewright.verifiers.timeout import with_timeout

IMAGES = (torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
FLOAT = 1e-6


class Counted:
    """Brightness that remembers how many images it was asked for."""

    name = "counted"
    lasting = True

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

    said = r"^verifier counted raised RuntimeError: no \(test_cache\.py, line \d+\)$"
    with pytest.raises(VerifierFailed, match=said):
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
    shelves = [JsonCache(tmp_path) for _ in range(3)]

    def use(n):
        shelves[n % 3].put({f"key {n}": [n, {"text": "ü"}]})
        return shelves[(n + 1) % 3].get([f"key {n}", "other"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(40)))
    assert found == [{f"key {n}": [n, {"text": "ü"}]} for n in range(40)]


def test_what_is_no_place_for_scores_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / FILE).mkdir()
    for place in (tmp_path / "file", tmp_path):
        with pytest.raises(ValueError, match="expected a directory to keep scores in, got") as caught:
            JsonCache(place)
        assert "\n" not in str(caught.value)


def test_a_file_that_fails_later_costs_no_score(tmp_path, caplog):
    inner = Counted()
    one = Cached(inner, tmp_path)
    score(one, IMAGES[:2], "a")
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("DROP TABLE checked")
    assert score(one, IMAGES, "a") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert score(one, IMAGES, "b") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert inner.asked == [2, 2, 4]
    assert caplog.text.count("scores are not kept") == 1


@pytest.mark.slow
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


@pytest.mark.slow
def test_generate_keeps_scores_where_it_is_told(tmp_path, capsys):
    given = ["generate", "a red circle", "--budget", "2 images", "--steps", "1", "--verifier", "brightness"]
    assert cli.main([*given, "--score-cache", str(tmp_path / "kept"), "--out", str(tmp_path / "run")]) == 0
    assert cli.main(["resume", str(tmp_path / "run"), "--budget", "3 images", "--trust"]) == 0  # with the cache, too
    pictures = [read_image(file)[0] for file in (tmp_path / "run" / "images").glob("*.png")]
    images = torch.stack([torch.from_numpy(one.copy()).permute(2, 0, 1) / 255 for one in pictures])
    keys = [key_of(image, "a red circle", Brightness.fingerprint) for image in image_hashes(images)]
    assert len(JsonCache(tmp_path / "kept").get(keys)) == 3
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


# A file that is not to be believed, or not to be had

FUZZ = 120
"""Damaged copies of one file; each is opened and asked, without a model."""


@pytest.fixture
def filled(tmp_path):
    """A directory with the scores of IMAGES for 30 prompts."""
    shelf = JsonCache(tmp_path / "good")
    one = Cached(Counted(), shelf)
    for n in range(30):
        score(one, IMAGES, "x" * (n + 1))
    return tmp_path / "good"


def damaged(raw, rng):
    """A copy with a flipped bit, a zeroed block, a cut or a piece of itself elsewhere."""
    found, kind, at = bytearray(raw), rng.randrange(4), rng.randrange(len(raw))
    if kind == 0:
        for _ in range(rng.choice([1, 1, 20])):
            found[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        size = rng.choice([1, 64, 512, 4096])
        found[at : at + size] = bytes(len(found[at : at + size]))
    elif kind == 2:
        del found[at:]
    else:
        size = rng.choice([8, 64, 512])
        other = rng.randrange(len(raw))
        found[at : at + size] = found[other : other + size][: len(found) - at]
    return bytes(found)


@pytest.mark.slow
def test_a_damaged_file_never_gives_other_scores(filled, tmp_path, caplog):
    rng, raw = random.Random(12), (filled / FILE).read_bytes()
    place, wrong = tmp_path / "bad", 0
    place.mkdir()
    for number in range(FUZZ):
        (place / FILE).write_bytes(damaged(raw, rng))
        (place / f"{FILE}-journal").unlink(missing_ok=True)
        caplog.clear()
        inner = Counted()
        one = Cached(inner, place)
        for n in rng.sample(range(30), 6):
            wanted = [value * (n + 1) for value in Brightness()(IMAGES, "")]
            assert score(one, IMAGES, "x" * (n + 1)) == wanted, number
        assert len(caplog.messages) <= 2, caplog.messages  # damaged rows, and a file that is given up
        wrong += bool(inner.asked)
    assert 10 < wrong < FUZZ  # some of the damage was met, and some of the rest was still used


def test_a_row_under_another_key_is_not_believed(filled, caplog):
    with sqlite3.connect(filled / FILE) as database:
        database.execute("UPDATE checked SET value = (SELECT value FROM checked LIMIT 1)")
    assert score(Cached(Counted(), filled), IMAGES, "x") == Brightness()(IMAGES, "")
    assert caplog.text.count("what does not match its checksum is asked for again") == 1


def test_scores_of_an_earlier_version_are_not_believed_and_stay(tmp_path, caplog):
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TABLE shelf (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        keys = [key_of(image, "a", "1") for image in image_hashes(IMAGES)]
        database.executemany("INSERT INTO shelf VALUES (?, '7.0')", [(key,) for key in keys])
    for asked in (1, 0):
        inner = Counted()
        assert score(Cached(inner, tmp_path), IMAGES, "a") == Brightness()(IMAGES, "")
        assert len(inner.asked) == asked
    assert caplog.text.count("has scores of an earlier version, without checksums") == 1


def works_without(place, caplog):
    """Scores are right, and one line says that they are not kept."""
    inner = Counted()
    one = Cached(inner, place)
    for prompt in ("a", "a", "ab"):
        wanted = [value * len(prompt) for value in Brightness()(IMAGES, "")]
        assert score(one, IMAGES, prompt) == wanted
    assert inner.asked == [4, 4]
    assert caplog.text.count("scores are not kept") == 1


def test_a_locked_file_is_gone_without(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_SECONDS", 0.05)
    JsonCache(tmp_path).put({"x": 1})
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        works_without(tmp_path, caplog)  # and not after minutes of waiting
    caplog.clear()
    one = Cached(Counted(), tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as other:  # locked later
        other.execute("BEGIN IMMEDIATE")
        assert score(one, IMAGES, "a") == Brightness()(IMAGES, "")
        assert score(one, IMAGES, "b") == Brightness()(IMAGES, "")
    assert caplog.text.count("scores are not kept") == 1


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_no_database_is_gone_without(tmp_path, caplog, content):
    (tmp_path / FILE).write_bytes(content)
    works_without(tmp_path, caplog)
    assert (tmp_path / FILE).read_bytes() == content


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_gone_without(tmp_path, caplog):
    tmp_path.chmod(0o500)
    works_without(tmp_path, caplog)
    tmp_path.chmod(0o700)


def test_a_read_only_file_is_read_all_the_same(filled, caplog, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **given: real(f"file:{name}?mode=ro", uri=True, **given))
    inner = Counted()
    one = Cached(inner, filled)
    for prompt in ("x", "new", "newer", "xx"):
        assert score(one, IMAGES, prompt) == [value * len(prompt) for value in Brightness()(IMAGES, "")]
    assert inner.asked == [4, 4]  # what is there is there
    assert caplog.text.count("scores are not kept") == 1


def test_a_full_disk_is_gone_without(tmp_path, caplog, monkeypatch):
    shelf = JsonCache(tmp_path)
    real = sqlite3.connect

    def small(*args, **given):
        database = real(*args, **given)
        database.execute("PRAGMA max_page_count = 3")
        return database

    monkeypatch.setattr(sqlite3, "connect", small)
    for n in range(40):
        shelf.put({f"{n}": "x" * 500})
    assert shelf.get([f"{n}" for n in range(40)]) == {f"{n}": "x" * 500 for n in range(40)}
    assert caplog.text.count("scores are not kept") == 1


WRITER = """
import sys
from noisewright.verifiers.cache import JsonCache

shelf = JsonCache(sys.argv[1])
for n in range(60):
    shelf.put({f"{sys.argv[2]} {n}": n})
    shelf.get([f"{other} {n}" for other in "ab"])
"""


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    both = [warm.Popen([*command, name], stderr=subprocess.PIPE) for name in "ab"]
    for one in both:
        assert one.communicate()[1] == b""
        assert one.returncode == 0
    keys = {f"{name} {n}": n for name in "ab" for n in range(60)}
    assert JsonCache(tmp_path).get(keys) == keys


def test_several_verifiers_meet_a_bad_file_once(tmp_path, caplog):
    (tmp_path / FILE).write_bytes(b"x" * 5000)
    for one in all_cached([Counted(), Brightness(), Sharpness()], tmp_path):
        score(one, IMAGES, "a")
    assert caplog.text.count("scores are not kept") == 1


class Wrapping:
    """Somebody's wrapper, which says nothing of its own fingerprint."""

    def __init__(self, inner):
        self.inner, self.name, self.fingerprint = inner, inner.name, inner.fingerprint

    def __call__(self, images, prompt):
        return self.inner(images, prompt)


class Derived(Brightness):
    def __call__(self, images, prompt):
        return [-one for one in super().__call__(images, prompt)]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: as_verifier(lambda images, prompt: images.mean((1, 2, 3))), "nothing says when a function changes"),
        (lambda: with_timeout(lambda images, prompt: images.mean((1, 2, 3)), 60), "when a function changes"),
        (lambda: Cached(as_verifier(lambda images, prompt: images.mean((1, 2, 3)))), "when a function changes"),
        (lambda: HttpVerifier("http://localhost:1/x"), "nothing says when a server changes"),
        (lambda: Wrapping(Brightness()), "does not say that its fingerprint covers"),
        (Derived, "does not say that its fingerprint covers"),
    ],
)
def test_what_may_change_under_its_fingerprint_is_never_looked_up_on_disk(tmp_path, caplog, make, why):
    inner = make()
    one = all_cached([inner], tmp_path / "kept")[0]
    assert not (tmp_path / "kept").exists()
    assert caplog.text.count(f"scores of {inner.name} are not kept on disk: ") == 1
    assert why in caplog.text
    if isinstance(inner, HttpVerifier):
        return
    score(one, IMAGES, "a")
    keys = [key_of(image, "a", one.fingerprint) for image in image_hashes(IMAGES)]
    assert JsonCache(tmp_path / "kept").get(keys) == {}


def test_what_lasts_is_kept_through_its_wrappers(tmp_path):
    for make in (Counted, lambda: with_timeout(Counted(), 60), lambda: Cached(Counted())):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        score(cached(make(), place), IMAGES, "a")
        again = Counted()
        score(cached(again, place), IMAGES, "a")
        assert again.asked == []


def test_keys_are_of_the_images_as_they_were(tmp_path):
    class Careless(Counted):
        lasting = True

        def __call__(self, images, prompt):
            found = super().__call__(images, prompt)
            images.sub_(0.5).div_(0.5)
            return found

    one, images = Cached(Careless(), tmp_path), IMAGES.clone()
    first = score(one, images, "a")
    assert torch.equal(images, IMAGES)
    assert score(one, images, "a") == first
    assert one.verifier.asked == [4]


def test_the_quality_and_the_sign_of_a_jpeg_are_in_its_fingerprint():
    names = ["compressibility", "incompressibility"]
    made = [registry.make_verifier(f"{kind}:{q},name={name}") for kind in names for q in (50, 90) for name in names]
    assert len({one.fingerprint for one in made}) == 4  # the name counts for nothing
