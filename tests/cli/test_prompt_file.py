"""Many prompts from a file: a run each in one process, gone on with, not stopped by one that fails."""

import json
import signal
import subprocess
import sys
import time

import pytest

import noisewright as nw
import tiny
import warm
from noisewright import cli
from noisewright.outside.prompts import read_prompts
from noisewright.run.reading import read_run

LINES = "a cat\n\n  # not this one\n  a red dog, sitting \n\\#hashtag\n"
PROMPTS = ["a cat", "a red dog, sitting", "#hashtag"]
NAMES = ["0001-a-cat", "0002-a-red-dog-sitting", "0003-hashtag"]
PICKY = """
def picky(images, prompt):
    if "dog" in prompt:
        raise RuntimeError("no dogs")
    return images.mean((1, 2, 3))
def never(images, prompt):
    raise RuntimeError("never")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(LINES)
    return tmp_path


def words(model, *more, verifier="brightness", budget="2 images", steps=2):
    given = ["generate", "--prompt-file", "prompts.txt", "--model", model, "--verifier", verifier, "--steps", steps]
    return [str(one) for one in (*given, "--budget", budget, *more)]


def done(capsys, argv, code=0):
    capsys.readouterr()
    assert cli.main(argv) == code
    return capsys.readouterr()


def refused(capsys, argv, *parts):
    out, err = done(capsys, argv, 2)
    assert out == ""
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.slow
def test_a_run_for_each_prompt_as_by_itself(model, here, capsys):
    found = json.loads(done(capsys, words(model, "--out", "all", "--json")).out)
    assert (found["out"], found["prompts"]) == ("all", 3)
    assert [one["prompt"] for one in found["runs"]] == PROMPTS
    assert [one["status"] for one in found["runs"]] == ["done"] * 3
    assert [one["run"] for one in found["runs"]] == [f"all/{name}" for name in NAMES]
    assert sorted(path.name for path in (here / "all").iterdir()) == NAMES
    for one in found["runs"]:
        assert (here / one["best"]["file"]).is_file()
        given = ["generate", one["prompt"], *words(model)[3:], "--out", f"alone-{one['number']}", "--json"]
        alone = json.loads(done(capsys, given).out)
        assert alone["best"] == {**one["best"], "file": alone["best"]["file"]}
        assert (alone["nfe"], alone["images"]) == (one["nfe"], one["images"])
        requests = [read_run(run)["request"] for run in (one["run"], f"alone-{one['number']}")]
        assert requests[0] == requests[1]


@pytest.mark.slow
def test_the_same_command_goes_on_and_makes_nothing_twice(model, here, capsys):
    done(capsys, words(model, "--out", "all"))
    times = {path: path.stat().st_mtime_ns for path in (here / "all").rglob("*") if path.is_file()}
    again = done(capsys, words(model, "--out", "all"))
    assert "found" in again.out
    assert {path: path.stat().st_mtime_ns for path in (here / "all").rglob("*") if path.is_file()} == times
    more = json.loads(done(capsys, words(model, "--out", "all", "--json", budget="3 images")).out)
    assert [(one["status"], one["images"]) for one in more["runs"]] == [("done", 3)] * 3
    less = json.loads(done(capsys, words(model, "--out", "all", "--json", budget="2 images"), 1).out)
    assert all("has spent already" in one["error"] for one in less["runs"])


@pytest.mark.slow
def test_one_that_fails_takes_no_other_away(model, here, capsys):
    (here / "mine.py").write_text(PICKY)
    out, err = done(capsys, words(model, "--out", "all", "--json", verifier="mine.py:picky"), 1)
    found = json.loads(out)
    assert [one["status"] for one in found["runs"]] == ["done", "failed", "done"]
    assert "no dogs" in found["runs"][1]["error"]
    assert str(here) not in found["runs"][1]["error"]
    assert "1 of 3 prompts failed" in err.splitlines()[-1]
    assert "a red dog" in err.splitlines()[-1]
    out, _ = done(capsys, words(model, "--out", "all", verifier="mine.py:picky"), 1)
    assert out.count("found") == 2


@pytest.mark.slow
def test_what_is_wrong_for_all_is_refused_before_anything_is_spent(model, here, capsys):
    refused(capsys, words(model, "--out", "all", "--verifier", "brightnes"), "did you mean brightness?")
    refused(capsys, words(model, "--out", "all", "--search-arg", "n=0"), "n of at least 1")
    refused(capsys, words(model, "--out", "all", "--height", "32"), "height and width together")
    refused(capsys, words(model, "--out", "all", "--pipeline-arg", "clip_skp=1"), "did you mean clip_skip?")
    assert not (here / "all").exists()
    refused(capsys, words(model, "--search-arg", "n=0"), "n of at least 1")
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "says"),
    [(["--seed", "2"], "expected seed 0, got 2"), (["--steps", "1"], "num_inference_steps 2, got 1"),
     (["--guidance-scale", "3"], "guidance_scale"), (["--verifier", "sharpness"], "verifiers")],
)  # fmt: skip
def test_a_directory_of_runs_with_other_settings_is_refused_before_anything_is_spent(model, here, capsys, more, says):
    (here / "prompts.txt").write_text("a cat\n")
    done(capsys, words(model, "--out", "all"))
    (here / "prompts.txt").write_text("a cat\na dog\n")
    before = (here / "all" / NAMES[0] / "run.json").read_bytes()
    refused(capsys, [*words(model, "--out", "all"), *more], "all/0001-a-cat holds another run", says)
    assert [one.name for one in (here / "all").iterdir()] == NAMES[:1]
    assert (here / "all" / NAMES[0] / "run.json").read_bytes() == before
    found = json.loads(done(capsys, words(model, "--out", "all", "--json", "--keep", "1", "--batch-size", "1")).out)
    assert [one["status"] for one in found["runs"]] == ["done", "done"]


@pytest.mark.slow
def test_another_model_in_its_place_is_no_run_found(model, tmp_path, here, capsys):
    place = here / "model"
    tiny.sd().save_pretrained(place, safe_serialization=True)
    done(capsys, words(place, "--out", "all"))
    tiny.sd(seed=1).save_pretrained(place, safe_serialization=True)
    refused(capsys, words(place, "--out", "all"), "holds another run", "fingerprint")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["prompts.txt", "empty"]),
        ("\n  \n# only this\n", ["prompts.txt", "empty"]),
        ("a cat\n\na dog\na cat\n", ["'a cat'", "lines 1 and 4"]),
        ("a cat\n" + "x" * 6000, ["5000", "line 2"]),
        ("a\0b", ["UTF-8"]),
        ("\n".join(map(str, range(100_001))), ["at most 100000"]),
    ],
    ids=range(6),
)
def test_files_that_are_refused(model, here, capsys, text, parts):
    (here / "prompts.txt").write_text(text)
    refused(capsys, words(model, "--out", "all"), *parts)
    assert not (here / "all").exists()


def test_what_cannot_be_asked_together(model, here, capsys):
    argv = words(model, "--out", "all")
    refused(capsys, ["generate", "a cat", *argv[1:]], "--prompt-file or PROMPT")
    refused(capsys, [*argv, "--class-label", "cat"], "--prompt-file or --class-label")
    argv[2] = "nowhere.txt"
    refused(capsys, argv, "nowhere.txt")
    done(capsys, ["generate", "a cat", *words(model)[3:], "--out", "run"])
    refused(capsys, words(model, "--out", "run"), "which is a run")
    (here / "file").touch()
    refused(capsys, words(model, "--out", "file"), "file")


@pytest.mark.slow
def test_a_dry_run_says_what_all_cost(model, here, capsys):
    found = json.loads(done(capsys, words(model, "--dry-run", "--json")).out)
    assert (found["images"], found["prompts"], found["all"]["images"], found["all"]["nfe"]) == (2, 3, 6, 12)
    assert "3 prompts" in done(capsys, words(model, "--dry-run")).out
    assert sorted(path.name for path in here.iterdir()) == ["prompts.txt"]


@pytest.mark.slow
def test_ctrl_c_ends_all_and_the_same_command_goes_on(model, here, capsys):
    argv = words(model, "--out", "all", "--batch-size", "1", budget="20 images", steps=4)
    command = [sys.executable, "-m", "noisewright", *argv]
    process = warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((here / "all").glob("0002*/images/*.png")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted after 1 of 3 prompts" in err.splitlines()[-1]
    assert not list((here / "all").glob("0003*"))
    (second,) = (here / "all").glob("0002*")
    assert read_run(second)["status"] == "interrupted"
    more = json.loads(done(capsys, [*argv, "--json"]).out)
    assert [one["status"] for one in more["runs"]] == ["found", "done", "done"]
    assert {one["images"] for one in more["runs"]} == {20}


# From Python


def test_search_many_gives_results_one_by_one(model, tmp_path):
    pipe = nw.load(str(model), device="cpu")
    settings = {"verifier": "brightness", "budget": "2 images", "num_inference_steps": 2, "pictures": False}
    found = nw.search_many(pipe, PROMPTS, out=tmp_path / "all", **settings)
    first = next(found)
    assert not (tmp_path / "all" / NAMES[1]).exists()
    every = [first, *found]
    assert [one.run.name for one in every] == NAMES
    for one in every:
        alone = nw.search(pipe, one.prompt, **settings)
        assert one.result.best.id == alone.best.id
        assert one.result.best.scores == alone.best.scores
    again = list(nw.search_many(pipe, PROMPTS, out=tmp_path / "all", **settings))
    assert [one.status for one in again] == ["found"] * 3
    assert [one.summary["best"]["id"] for one in again] == [one.result.best.id for one in every]


def test_verifiers_are_made_once(model, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nwith open(Path(__file__).with_name('log'), 'a') as log:\n    log.write('x')\n"
        "def score(images, prompt):\n    return images.mean((1, 2, 3))\n"
    )
    given = {"verifier": f"{tmp_path}/mine.py:score", "budget": "1 image", "num_inference_steps": 1, "pictures": False}
    assert len(list(nw.search_many(str(model), PROMPTS, **given))) == 3
    assert (tmp_path / "log").read_text() == "x"


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([], "at least one prompt"), ("a cat", "a list of texts"), (3, "a list of texts"), (["a", 3], "as prompt 2"),
        (["a", " "], "as prompt 2"), (["a", "b", "a"], "number 1 and 3"),
    ],
)  # fmt: skip
def test_search_many_refuses(model, prompts, says):
    with pytest.raises((ValueError, TypeError), match="expected") as caught:
        nw.search_many(str(model), prompts)
    assert says in str(caught.value)


def test_files_with_a_prompt_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("# one\ncat\n cat \n", encoding="utf-8-sig")
    assert read_prompts(tmp_path / "a.txt") == ["# one", "cat", "cat"]
    assert read_prompts(tmp_path / "a.txt", comments=True) == ["cat", "cat"]
    with pytest.raises(ValueError, match="lines 2 and 3"):
        read_prompts(tmp_path / "a.txt", distinct=True)


@pytest.mark.slow
def test_the_table_has_as_many_decimals_as_the_scores_deserve(here, model, capsys):
    (here / "prompts.txt").write_text("a cat\na dog\n")
    (here / "counted.py").write_text(
        "def counted(images, prompt):\n    return [10.0 + 30 * (prompt == 'a dog')] * len(images)\n"
    )
    out, _ = done(capsys, words(model, "--judge", "none", "--out", "list", verifier="counted.py:counted"))
    rows = [line.split() for line in out.splitlines() if " done " in line]
    assert [row[2:4] for row in rows] == [["10.0", "(+0.0)"], ["40.0", "(+0.0)"]]
