"""A benchmark, driven in one process: its rows, what it does not do again, how it ends."""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from grids import BUDGETS, SEARCHES, axis, spec
from noisewright.benchmark import drive
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.display import Display
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.sharing import tasks_of
from noisewright.benchmark.store import open_results, opened, status_of
from noisewright.images.reading import read_image
from noisewright.run.reading import read_run

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import grid

SMALL = spec(SEARCHES, BUDGETS, prompts=1, judge=["shapes-oracle"])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run_benchmark(SMALL, tmp_path_factory.mktemp("small") / "out")


@pytest.fixture
def stand_in(monkeypatch):
    """A workshop that computes nothing."""
    shop = grid.StandIn(3)
    monkeypatch.setattr(drive, "Workshop", shop)
    return shop


def without_time(row):
    """A row but for what the clock says."""
    curve = [[*point[:2], point[3]] for point in row["curve"]]
    return {**row, "seconds": sorted(row["seconds"]), "curve": curve}


def test_a_row_says_what_the_run_says(results):
    assert not results.failed
    assert not results.interrupted
    row = results.rows[3]
    assert row["coordinates"] == {"search": "zero-order", "budget": "3"}
    assert (row["prompt"], row["number"], row["category"], row["seed"]) == ("a red circle", 1, None, 0)
    summary = read_run(results.root / row["run"])["summary"]
    assert row["run"] == f"cells/{row['cell']}"
    assert (row["images"], row["nfe"], row["forwards"]) == (3, 6, summary["forwards"])
    assert {**row["seconds"], "total": 0} == {**summary["seconds"], "total": 0}
    assert row["seconds"]["total"] >= summary["seconds"]["total"]  # as if no other run had made some of its images
    assert (row["verifiers"], row["judges"], row["shared"]) == (["sharpness"], ["shapes-oracle"], False)
    for name in ("best", "baseline"):
        assert {**row[name], "file": None} == {**{key: summary[name][key] for key in row[name]}, "file": None}
        assert set(row[name]["scores"]) == {"sharpness", "shapes-oracle"}
        assert read_image(results.root / row[name]["file"])[0].shape == (64, 64, 3)
    assert row["curve"][-1][3] == row["best"]["scores"]["sharpness"]
    assert 0 < row["diversity"] < 1
    assert results.rows[1]["curve"][0][:2] == [1, 4]
    assert not list((results.root / row["run"]).glob("c*.png"))  # no pictures of each run


def test_the_candidates_of_a_run_are_told(results):
    by_cell = {}
    for one in results.candidates():
        by_cell.setdefault(one["cell"], []).append(one)
    own = by_cell[results.rows[3]["cell"]]
    assert [one["order"] for one in own] == [0, 1, 2]
    assert (own[0]["seed"], own[0]["steps"]) == (0, 2)
    assert [one["nfe"] for one in own] == [2, 6, 6]
    best = max(own, key=lambda one: one["scores"]["sharpness"])
    assert best["id"] == results.rows[3]["best"]["id"]
    assert all((results.root / one["file"]).is_file() for one in own)


def test_what_is_done_is_not_made_again(results, stand_in):
    told = []
    again = run_benchmark(SMALL, results.root, on_row=told.append)
    assert (stand_in.made, told) == (0, [])
    assert again.rows == results.rows
    assert open_results(results.root).rows == results.rows
    assert status_of(results.root) == "done"


def test_rows_that_are_lost_are_read_from_the_runs(results, monkeypatch):
    (results.root / "rows.jsonl").write_bytes(b"")
    monkeypatch.setattr("noisewright.benchmark.work.execute", lambda *given, **more: pytest.fail("a run was made"))
    again = run_benchmark(SMALL, results.root)
    assert [without_time(row) for row in again.rows] == [without_time(row) for row in results.rows]


def test_a_grown_grid_makes_what_is_new(tmp_path, stand_in):
    run_benchmark(spec(SEARCHES, BUDGETS, prompts=1), tmp_path / "out")
    grown = run_benchmark(spec(SEARCHES, BUDGETS, prompts=3, seeds=2), tmp_path / "out")
    assert stand_in.made == 4 + 20
    assert len(grown.done) == 24


def test_a_failed_cell_is_recorded_and_tried_again(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def moody(images, prompt):\n    raise OSError('not today\\nnor tomorrow')\n")
    asked = axis("verifier", ("moody", [f"{file}:moody"]), ("fine", ["sharpness"]))
    made = spec(asked, prompts=1, budget="1 images", search="zero-order", num_inference_steps=1)
    first = run_benchmark(made, tmp_path / "out")
    (failed,) = first.failed
    assert "not today" in failed["error"]
    assert "\n" not in failed["error"]
    assert len(first.done) == 1
    assert status_of(tmp_path / "out") == "failed"
    file.write_text("def moody(images, prompt):\n    return [1.0 for _ in images]\n")
    told = []
    assert run_benchmark(made, tmp_path / "out", retry_failed=False, on_row=told.append).failed == first.failed
    assert told == []
    second = run_benchmark(made, tmp_path / "out", on_row=told.append)
    assert ([row["status"] for row in second.rows], len(told)) == (["done", "done"], 1)
    assert status_of(tmp_path / "out") == "done"


def test_a_model_that_cannot_be_loaded_fails_its_cells_alone(tmp_path, monkeypatch):
    tried = []

    def load(request):
        tried.append(request.model)
        raise ValueError(f"expected a model, got {request.model}")

    monkeypatch.setattr("noisewright.benchmark.work.load_requested", load)
    models = axis("model", ("a", str(tmp_path / "a")), ("b", str(tmp_path / "b")))
    found = run_benchmark(spec(models, SEARCHES, prompts=2, budget="2 images"), tmp_path / "out")
    assert len(found.failed) == 8
    assert len(tried) == 2  # each once, however many cells it has
    assert {row["error"] for row in found.rows} == {f"expected a model, got {name}" for name in tried}


def test_a_model_whose_weights_changed_between_two_calls_is_said(saved, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(saved, folder)
    settings = {"model": str(folder), "budget": "1 images", "num_inference_steps": 1, "verifier": ["sharpness"]}
    first = run_benchmark(spec(SEARCHES, prompts=1, **settings), tmp_path / "out")
    assert first.warnings == ()
    weights = next((folder / "unet").glob("*.safetensors"))
    changed = {name: one + 0.01 for name, one in load_file(weights).items()}
    save_file(changed, weights, {"format": "pt"})
    grown = run_benchmark(spec(SEARCHES, prompts=2, **settings), tmp_path / "out")
    said = "the model mine float32 is not the same in all cells"
    assert [line.partition(" (")[0] for line in grown.warnings] == [said]


# Ended


def test_ctrl_c_ends_after_the_micro_batch_in_flight(tmp_path):
    made = spec(SEARCHES, prompts=1, budget="6 images")
    said = []

    def show(done, left, text):
        said.append(text)
        if "4 images" in text and len([one for one in said if "4 images" in one]) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    first = run_benchmark(made, tmp_path / "out", show=show)
    assert signal.getsignal(signal.SIGINT) is before
    assert (first.interrupted, first.rows) == (True, ())
    assert status_of(tmp_path / "out") == "interrupted"
    assert open_results(tmp_path / "out").interrupted
    (run,) = (tmp_path / "out" / "cells").iterdir()
    assert len(list((run / "images").iterdir())) == 4
    second = run_benchmark(made, tmp_path / "out")
    assert (second.interrupted, len(second.done)) == (False, 2)
    whole = run_benchmark(made, tmp_path / "other")
    assert [without_time(row) for row in second.rows] == [without_time(row) for row in whole.rows]


def test_between_two_cells_it_ends_at_once(tmp_path, stand_in):
    rows = []

    def on_row(row):
        rows.append(row)
        if len(rows) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    made = spec(SEARCHES, prompts=3, budget="2 images")
    assert run_benchmark(made, tmp_path / "out", on_row=on_row).interrupted
    assert len(open_results(tmp_path / "out").rows) == 3
    assert not run_benchmark(made, tmp_path / "out").interrupted
    assert stand_in.made == 6


def test_ctrl_c_twice_ends_at_once(tmp_path, stand_in):
    def on_row(row):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    made = spec(SEARCHES, prompts=2, budget="2 images")
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(made, tmp_path / "out", on_row=on_row)
    assert len(open_results(tmp_path / "out").rows) == 1
    assert status_of(tmp_path / "out") == "interrupted"


def test_it_works_outside_of_the_main_thread(tmp_path, stand_in):
    found = []
    thread = threading.Thread(target=lambda: found.append(run_benchmark(SMALL, tmp_path / "out")))
    thread.start()
    thread.join()
    assert len(found[0].done) == 4


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", 10_000])
def test_workers_are_a_number(tmp_path, workers):
    with pytest.raises(ValueError, match=r"expected workers in \[1, 1024\], got"):
        run_benchmark(SMALL, tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_wrong_use_leaves_nothing(tmp_path):
    with pytest.raises((ValueError, TypeError), match=r"expected a verifier as its name") as error:
        run_benchmark(spec(SEARCHES, verifier=[len]), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


# How far it is


def test_the_time_left_is_by_what_such_tasks_took():
    now, said = [0.0], []
    cells = list(cells_of(spec(SEARCHES, prompts=3, budget="2 images")))
    tasks = tasks_of(cells)
    display = Display(lambda *given: said.append(given), tasks, 10, 1, lambda: now[0])

    def go(task, seconds, failed=False):
        display.begin(0, task)
        now[0] += seconds / 2
        display.tell(0, 0.5, "1 image")
        now[0] += seconds / 2
        display.concluded(failed)
        display.end(0)

    assert display.left() is None
    go(tasks[0], 2.0)
    assert display.left() == pytest.approx(10.0)  # those of the other search are taken for as long
    go(tasks[1], 4.0, failed=True)
    assert display.left() == pytest.approx(2 * (2.0 + 4.0))
    display.begin(0, tasks[2])
    display.tell(0, 0.5, "1 image")
    assert display.left() == pytest.approx(1.0 + 4.0 + 6.0)
    assert said[-1][0] == pytest.approx(2.5 / 6)
    assert said[-1][2] == "6 of 10 cells, 1 failed | prompt 2: random, 1 image"


def test_a_task_that_is_done_again_is_waited_for_again():
    cells = list(cells_of(spec(SEARCHES, prompts=1, budget="2 images")))
    display = Display(None, tasks_of(cells), 2, 2, lambda: 0.0)
    display.begin(0, tasks_of(cells)[0])
    display.again(0)
    display.end(0)
    assert display.left() is None


def test_benchmark_json_says_what_was_asked_for(results):
    held = json.loads((results.root / "benchmark.json").read_text())
    assert (held["version"], held["status"], held["spec"]["prompts"][0]["text"]) == (1, "done", "a red circle")
    assert {"noisewright", "torch"} <= set(held["versions"])


def test_a_benchmark_that_is_worked_on_is_refused(tmp_path, stand_in):
    with opened(SMALL, tmp_path / "out"), pytest.raises(ValueError, match=r"that nobody works on"):
        run_benchmark(SMALL, tmp_path / "out")
    assert stand_in.made == 0
