"""Runs, schedules and tables that version 0.1.0 made (schema 1) are shown, resumed and replayed to the same pixels.

``golden/runs-1.tar.gz`` holds small runs of that version on the bundled models: finished ones, and ones cut off in the
middle (``*-cut``, as after a kill), with what the whole runs had made (``expected``).
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from noisewright import cli
from noisewright.images.metadata import read_image
from noisewright.replay import replay
from noisewright.run.reading import read_journal, read_run

ARCHIVE = Path(__file__).parents[1] / "golden" / "runs-1.tar.gz"
WHOLE = ("random", "zero-order", "refine", "gradient", "classes", "scheduled")
CUT = ("fk-cut", "paths-cut", "halving-cut", "refine-cut", "gradient-cut")
CLOSE = 2
"""In steps of 1/255: another processor may round a few pixels differently."""


@pytest.fixture
def old(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def assert_same_images(old, name):
    there, made = old / "expected" / name, old / "runs" / name / "images"
    assert {file.name for file in made.iterdir()} == {file.name for file in there.iterdir()}
    for file in there.iterdir():
        apart = np.abs(read_image(file)[0].astype(int) - read_image(made / file.name)[0])
        assert apart.max() <= CLOSE


@pytest.mark.parametrize("name", [*WHOLE, *CUT])
def test_they_are_shown(old, name, capsys):
    run = old / "runs" / name
    assert cli.main(["show", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    finished = [line for line in read_journal(run) if line["verb"] == "finish"]
    assert found["images"] == sum(len(line["ids"]) for line in finished)
    if name in WHOLE:
        summary = read_run(run)["summary"]
        assert found["best"]["id"] == summary["best"]["id"]
        assert found["baseline"]["id"] == summary["baseline"]["id"]
        assert found["nfe"] == summary["nfe"]
        assert found["best"]["scores"] == summary["best"]["scores"]
        assert found["best"]["lineage"][0]["verb"] == "noise"


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT)
def test_they_go_on_to_the_same_pixels(old, name, capsys):
    expected = json.loads((old / "expected.json").read_text())[name]
    run = old / "runs" / name
    before = len(read_journal(run))
    assert cli.main(["resume", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["id"] == expected["best"]
    assert found["images"] == expected["images"]
    assert found["nfe"] == expected["nfe"]
    assert_same_images(old, name)
    assert len(read_journal(run)) > before
    known = ("step noise", "the smallest that does not")  # what is said of such a plan today
    assert all(any(part in one for part in known) for one in found["warnings"])
    assert cli.main(["show", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["id"] == expected["best"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WHOLE if name != "gradient"])
def test_their_images_are_replayed(old, name):
    found = replay(f"{old / 'runs' / name}:best")
    assert found.max_difference <= CLOSE
    assert found.id == read_run(old / "runs" / name)["summary"]["best"]["id"]


def test_a_finished_one_is_told_again(old, capsys):
    run = old / "runs" / "random"
    assert cli.main(["resume", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["id"] == read_run(run)["summary"]["best"]["id"]


@pytest.mark.slow
def test_one_with_more_budget_goes_on(old, capsys):
    run = old / "runs" / "random"
    assert cli.main(["resume", str(run), "--budget", "6 images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    kinds = [("lineages" in line, "particles" in line) for line in read_journal(run) if line["verb"] == "finish"]
    assert kinds == [(True, False), (False, True)]  # its old lines stay as they are


@pytest.mark.slow
def test_its_states_are_believed_only_where_they_hold(old, capsys):
    run = old / "runs" / "fk-cut"
    for file in sorted((run / "states").iterdir()):
        data = bytearray(file.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 2048] = bytes(2048)
        file.write_bytes(bytes(data))
    assert cli.main(["resume", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert_same_images(old, "fk-cut")
    assert any("made again" in one for one in found["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize("file", ["sched-dmn.json", "sched-vrg.json"])
def test_its_schedules_are_used(old, file, capsys, tmp_path):
    assert cli.main(["schedule", "show", str(old / file), "--json"]) == 0
    argv = ["generate", "a red circle", "--schedule", str(old / file), "--budget", "1 images", "--json"]
    assert cli.main([*argv, "--out", str(tmp_path / "new")]) == 0
    assert json.loads(capsys.readouterr().out.split("\n}\n", 1)[1])["images"] == 1
    assert read_image(tmp_path / "new" / "best.png")[0].shape == (64, 64, 3)


@pytest.mark.slow
def test_its_error_tables_are_used(old, capsys):
    out = old / "again.json"
    argv = ["schedule", "fit", "--method", "vrg", "--steps", "6", "--errors", str(old / "errors.json")]
    assert cli.main([*argv, "--out", str(out)]) == 0
    before, after = (json.loads((old / "sched-vrg.json").read_text()), json.loads(out.read_text()))
    assert after["sigma"] == pytest.approx(before["sigma"])
