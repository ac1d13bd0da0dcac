"""``noisewright benchmark``: what it prints and writes, how it ends, what it refuses."""

import csv
import json

import pytest

from commands import done, refused, run

PICKY = """
def picky(images, prompt):
    if "dog" in prompt:
        raise RuntimeError("no dogs")
    return images.mean((1, 2, 3))
"""
IMPATIENT = """
import os, signal
seen = []
def impatient(images, prompt):
    seen.append(prompt)
    if len(set(seen)) == 2 and not os.path.exists("patient"):
        os.kill(os.getpid(), signal.SIGINT)
    return images.mean((1, 2, 3))
"""


def words(model, *more, prompts=("a cat", "a red dog"), verifier="brightness"):
    given = ["benchmark", "--model", model, "--x", "search=random,zero-order", "--set", f"verifier={verifier}"]
    given += ["--set", "judge=sharpness", "--set", "steps=1", "--set", "no_check=true", "--set", "budget=2 images"]
    return [*given, *(part for one in prompts for part in ("--prompt", one)), *more]


@pytest.fixture(scope="module")
def finished(saved, tmp_path_factory):
    """A benchmark of two prompts and two searches, and what --json printed of it."""
    import contextlib
    import io

    from noisewright import cli

    root = tmp_path_factory.mktemp("benchmark") / "grid"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main([str(one) for one in words(saved, "--out", root, "--json")]) == 0
    return root, json.loads(out.getvalue())


def test_one_object_says_what_came_of_the_grid(finished):
    root, found = finished
    assert (found["directory"], found["cells"], found["done"], found["failed"]) == (str(root), 4, 4, 0)
    assert [one["label"] for one in found["points"]] == ["random", "zero-order"]
    for one in found["points"]:
        assert set(one["scores"]) == {"brightness", "sharpness"}
        assert one["scores"]["sharpness"]["role"] == "judge"
        assert one["scores"]["brightness"]["gain"]["mean"] >= 0
        assert one["costs"]["images"]["best"]["mean"] == 2
    assert found["deciding"] == "sharpness"
    assert len(found["verdicts"]) == 2
    assert f"{root}/report.html" in found["files"]
    for file in found["files"]:
        with open(file, "rb") as opened:
            assert opened.read(1)
    with open(root / "cells.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_the_same_command_makes_nothing_twice_and_prints_a_table(finished, saved, capsys):
    root, _ = finished
    rows, images = (root / "rows.jsonl").read_bytes(), sorted(root.glob("cells/*/images/*.png"))
    times = [one.stat().st_mtime_ns for one in images]
    out = done(capsys, words(saved, "--out", root))
    assert (root / "rows.jsonl").read_bytes() == rows
    assert [one.stat().st_mtime_ns for one in images] == times
    for part in ("random", "zero-order", "sharpness (judge)", "brightness", "NFE", "95 % intervals"):
        assert part in out
    assert out.splitlines()[-1] == f"{root}/report.html"


def test_a_report_is_written_anew_from_rows_alone(finished, no_model, capsys):
    root, before = finished
    (root / "report.html").unlink()
    (root / "cells.csv").unlink()
    found = json.loads(done(capsys, ["benchmark", "--report", root, "--json"]))
    assert found["points"] == before["points"]
    assert (root / "report.html").is_file()
    assert (root / "cells.csv").is_file()


def test_the_grid_may_grow(finished, saved, capsys):
    root, _ = finished
    found = json.loads(done(capsys, words(saved, "--out", root, "--json", prompts=("a cat", "a red dog", "a fish"))))
    assert (found["cells"], found["done"], found["pairs"]) == (6, 6, 3)
    refused(capsys, words(saved, "--out", root, "--seed", 3), "holds another benchmark", "seed 0, got 3")


def test_a_cell_that_fails_is_said_and_takes_no_other_away(saved, here, capsys):
    (here / "mine.py").write_text(PICKY)
    ended = run(capsys, words(saved, "--out", "grid", "--json", verifier="mine.py:picky"))
    found = json.loads(ended.out)
    assert ended.code == 1
    assert (found["done"], found["failed"]) == (2, 2)
    assert "no dogs" in found["failures"][0]["error"]
    assert "2 of 4 cells failed; the same command with --out grid goes on" in ended.err.splitlines()[-1]
    assert "2 cells of 4 failed" in (here / "grid" / "report.md").read_text()
    ended = run(capsys, ["benchmark", "--report", "grid"])
    assert ended.code == 1
    assert ended.out.splitlines()[-1] == "grid/report.html"


def test_ctrl_c_says_what_there_is_and_the_same_command_goes_on(saved, here, capsys):
    (here / "mine.py").write_text(IMPATIENT)
    given = words(saved, "--out", "grid", "--json", verifier="mine.py:impatient")
    ended = run(capsys, given)
    assert ended.code == 130
    found = json.loads(ended.out)
    assert found["interrupted"]
    assert 2 <= found["done"] < 4
    assert ended.err.splitlines()[-1] == (
        f"noisewright: interrupted after {found['done']} of 4 cells; the same command with --out grid goes on"
    )
    assert (here / "grid" / "report.html").is_file()
    (here / "patient").touch()
    found = json.loads(done(capsys, given))
    assert (found["done"], found["interrupted"]) == (4, False)


def test_a_new_directory_is_made_in_runs(saved, here, capsys):
    out = done(capsys, words(saved, prompts=["a cat"]))
    (made,) = (here / "runs").iterdir()
    assert made.name.endswith("-grid")
    assert out.splitlines()[-1] == f"runs/{made.name}/report.html"
    assert (made / "grid.png").is_file()


def test_a_dry_run_counts_and_makes_nothing(finished, saved, here, capsys):
    found = json.loads(done(capsys, words(saved, "--dry-run", "--json")))
    assert (found["dry_run"], found["cells"], found["runs"], found["images"], found["nfe"]) == (True, 4, 4, 8, 8)
    assert found["seconds"] > 0
    root, _ = finished
    out = done(capsys, words(saved, "--dry-run", "--out", root, "--seeds", 2))
    assert "made already" in out
    assert out.splitlines()[-1] == "dry run: nothing was generated"
    assert not (here / "runs").exists()


def test_built_in_specs_are_listed(capsys):
    assert "quick" in done(capsys, ["benchmark", "--list"])
    found = json.loads(done(capsys, ["benchmark", "--list", "--json"]))
    assert {"name", "title"} == set(found[0])
    assert "quick" in [one["name"] for one in found]


PROMPT = ["--prompt", "a cat"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], ["expected one of SPEC, --x and --report, got none"]),
        (["quick", "--x", "steps=1,2"], ["got SPEC and --x"]),
        (["quik"], ["did you mean quick?", "or a spec as FILE.toml"]),
        (["none.toml"], ["none.toml", "does not exist"]),
        (["--x", "steps=1,2"], ["expected --prompt, --prompt-file or --prompts with --x"]),
        ([*PROMPT, "--x", "steps"], ["expected an axis as FIELD=VALUE,VALUE, got 'steps'"]),
        ([*PROMPT, "--x", "stesp=1"], ["did you mean steps?"]),
        ([*PROMPT, "--x", "steps=1,,2"], ["between any two commas"]),
        ([*PROMPT, "--x", "steps=0"], ["num_inference_steps of at least 1"]),
        ([*PROMPT, "--x", "steps=1,1"], ["each label", "once"]),
        ([*PROMPT, "--x", "search=random,zero-oder"], ["did you mean zero-order?"]),
        ([*PROMPT, "--x", "steps=1,2", "--y", "steps=3,4"], ["each axis once"]),
        ([*PROMPT, "--x", "steps=1,2", "--set", "solvr=ddim"], ["did you mean solver?"]),
        ([*PROMPT, "--x", "steps=1,2", "--set", "solver"], ["expected --set FIELD=VALUE"]),
        ([*PROMPT, "--x", "steps=1,2", "--set", "eta=1", "--set", "eta=0"], ["expected eta once"]),
        ([*PROMPT, "--x", "steps=1,2", "--log", "wanb"], ["did you mean wandb?"]),
        ([*PROMPT, "--prompts", "x.txt", "--x", "steps=1,2"], ["got --prompt and --prompts"]),
        ([*PROMPT, "--x", "steps=1,2", "--category", "Colors"], ["expected --category with --prompts"]),
        (["--prompts", "none.csv", "--x", "steps=1,2"], ["none.csv", "does not exist"]),
        (["quick", "--sample", "3"], ["expected --sample with --prompts"]),
        (["--report", "none"], ["expected a benchmark's directory"]),
    ],
    ids=lambda one: " ".join(one)[:40] or "nothing",
)
def test_wrong_use_is_one_line_before_anything_is_spent(no_model, capsys, given, says):
    refused(capsys, ["benchmark", *given], *says)


def test_all_that_is_wrong_with_a_spec_is_said_at_once(no_model, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(
        'titel = "x"\n[base]\nsteps = 3\n[prompts]\ntexts = ["a cat"]\n[axes]\nsearch = ["randm"]\n'
    )
    ended = run(capsys, ["benchmark", "mine.toml"])
    lines = ended.err.splitlines()
    assert (ended.code, ended.out, len(lines)) == (2, "", 3)
    for line, part in zip(lines, ("line 1 of mine.toml", "line 3 of mine.toml", "line 7 of mine.toml"), strict=True):
        assert line.startswith("noisewright: ")
        assert part in line
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_what_holds_something_else_is_refused_and_a_claimed_directory_removed(saved, here, capsys):
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    refused(capsys, words(saved, "--out", "full"), "expected an empty directory or a benchmark to go on with, got full")
    refused(capsys, words(saved, "--seed", 2**63), "seed")
    assert not list((here / "runs").iterdir())
