"""Images that are made once for all runs of a prompt and seed, whose rows are as if each had made its own."""

import os
import signal
from collections import deque
from functools import partial

import pytest

from grids import axis, spec
from noisewright.benchmark import drive, work
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.sharing import tasks_of
from noisewright.benchmark.spared import Memory
from noisewright.benchmark.workers import taken
from noisewright.images.metadata import read_recipe
from noisewright.replay import replay
from noisewright.run.reading import read_journal, read_run

LEVELS = 1 / 255 + 1e-6
"""What another size of the micro-batch may change of a pixel."""

PAIR = spec(axis("search", "random", "zero-order"), prompts=1, budget="4 images", batch_size=1)


@pytest.fixture
def calls(monkeypatch):
    """How many images the network was asked about, so far; no pipeline is compared with its plain call."""
    counted, load = [0], work.load_requested

    def loaded(request):
        pipe = load(request)
        network = pipe.components.get("unet") or pipe.components["transformer"]
        network.register_forward_pre_hook(lambda module, given: counted.__setitem__(0, counted[0] + len(given[0])))
        return pipe

    monkeypatch.setattr(work, "load_requested", loaded)
    monkeypatch.setattr(drive, "Workshop", partial(work.Workshop, proving=False))
    return counted


def made(spec, out, calls, **more):
    """The results of a benchmark, and what each cell really asked of the network."""
    before, each = [calls[0]], []

    def on_row(row):
        each.append(calls[0] - before[0])
        before[0] = calls[0]

    results = drive.run_benchmark(spec, out, on_row=on_row, **more)
    assert not results.failed
    return results, dict(zip([row["cell"] for row in results.rows], each, strict=True))


def by_itself(results, tmp_path, monkeypatch):
    """The rows of each cell where nothing is kept."""
    monkeypatch.setattr(Memory, "has_room", lambda self, size: False)
    return drive.run_benchmark(results.spec, tmp_path / "alone").rows


def test_the_second_search_is_given_what_the_first_made(tmp_path, calls, monkeypatch):
    results, asked = made(PAIR, tmp_path / "out", calls)
    random, zero = results.rows
    assert asked[zero["cell"]] < asked[random["cell"]]
    assert asked[zero["cell"]] == zero["forwards"] * 3 // 4  # candidate 0 was there
    for row, alone in zip(results.rows, by_itself(results, tmp_path, monkeypatch), strict=True):
        for name in ("images", "nfe", "forwards", "best", "baseline", "diversity", "stopped", "warnings", "shared"):
            assert row[name] == alone[name], name
        assert [[*point[:2], point[3]] for point in row["curve"]] == [[*p[:2], p[3]] for p in alone["curve"]]
        for one in (results.root / row["run"] / "images").iterdir():
            own, other = read_recipe(one), read_recipe(tmp_path / "alone" / row["run"] / "images" / one.name)
            assert (own[0] == other[0]).all()
            assert own[1] == other[1]
        line, other = (read_journal(root / row["run"])[0] for root in (results.root, tmp_path / "alone"))
        assert {name: line[name] for name in ("nfe", "forwards", "decodes", "digests")} == {
            name: other[name] for name in ("nfe", "forwards", "decodes", "digests")
        }
    assert read_recipe(results.root / zero["baseline"]["file"])[1]["search"] == "zero-order"
    assert replay(results.root / zero["baseline"]["file"]).identical


def test_seconds_are_those_of_a_run_by_itself(tmp_path, calls):
    results, _ = made(PAIR, tmp_path / "out", calls)
    zero = results.rows[1]
    line, *others = read_journal(results.root / zero["run"])
    summary = read_run(results.root / zero["run"])["summary"]
    assert line["spared"] > 0
    assert not any("spared" in one for one in others)
    assert line["seconds"]["denoise"] > 0
    assert zero["seconds"] == {
        **summary["seconds"], "total": pytest.approx(summary["seconds"]["total"] + line["spared"], abs=1e-3)
    }  # fmt: skip
    assert zero["seconds"]["total"] >= zero["seconds"]["denoise"] + zero["seconds"]["decode"]
    scored = next(one for one in others if one["verb"] == "score")
    assert zero["curve"][0][2] == pytest.approx(scored["elapsed"] + line["spared"], abs=1e-3)
    own = [one for one in results.candidates() if one["cell"] == zero["cell"]]
    assert own[-1]["seconds"] <= zero["seconds"]["total"]
    assert own[0]["seconds"] >= line["spared"]


def test_two_budgets_begin_alike_and_a_part_of_a_micro_batch_is_made(tmp_path, calls, monkeypatch):
    budgets = axis("budget", ("4", ["4 images"]), ("7", ["7 images"]))
    searches = axis("search", ("refine", "refine"))
    grid = spec(searches, budgets, prompts=3, batch_size=6, search_args={"population": 6, "elites": 2})
    results, asked = made(grid, tmp_path / "out", calls)
    small, large = results.rows[4:]  # of the third prompt, when two micro-batches of six were timed
    assert [asked[row["cell"]] == row["forwards"] for row in results.rows] == [True, True, True, False, True, False]
    assert asked[small["cell"]] == small["forwards"]
    assert asked[large["cell"]] == large["forwards"] * 3 // 7
    sizes = {read_recipe(one)[1]["micro_batch"]["size"] for one in (results.root / large["run"] / "images").iterdir()}
    assert sizes == {1, 3}
    for row, alone in zip(results.rows, by_itself(results, tmp_path, monkeypatch), strict=True):
        assert (row["nfe"], row["images"], row["best"]["id"]) == (alone["nfe"], alone["images"], alone["best"]["id"])
        for name, score in row["best"]["scores"].items():
            assert score == pytest.approx(alone["best"]["scores"][name], rel=1e-4, abs=1e-3)
        for one in (results.root / row["run"] / "images").iterdir():
            own, other = (read_recipe(root / row["run"] / "images" / one.name)[0] for root in (
                results.root, tmp_path / "alone"
            ))  # fmt: skip
            assert abs(own / 255 - other / 255).max() <= LEVELS
    last = sorted((results.root / large["run"] / "images").iterdir(), key=lambda one: one.stat().st_mtime_ns)
    assert replay(last[1]).identical  # which another run had made, among three
    assert replay(results.root / large["best"]["file"]).identical


def test_a_run_that_was_spared_something_goes_on_after_its_end(tmp_path, monkeypatch):
    def show(done, left, text):
        if "zero-order" in text and "1 image," in text:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "out"
    assert drive.run_benchmark(PAIR, out, show=show).interrupted
    results = drive.run_benchmark(PAIR, out)
    zero = results.rows[1]
    lines = [one for one in read_journal(out / zero["run"]) if one["verb"] == "finish"]
    assert [("spared" in one, len(one["ids"])) for one in lines] == [(True, 1), *[(False, 1)] * 3]
    total = read_run(out / zero["run"])["summary"]["seconds"]["total"]
    assert zero["seconds"]["total"] == pytest.approx(total + lines[0]["spared"], abs=1e-3)
    alone = by_itself(results, tmp_path, monkeypatch)[1]
    for name in ("images", "nfe", "forwards", "best", "baseline"):
        assert zero[name] == alone[name]


def asked_for_itself(results, asked):
    return [asked[row["cell"]] == row["forwards"] for row in results.rows]


@pytest.mark.parametrize(
    "values",
    [
        axis("budget", ("images", ["3 images"]), ("seconds", ["3 images", "1000 s"])),
        axis("num_inference_steps", 2, 3),
        axis("solver", "ddim", "euler"),
        axis("guidance_scale", 2.0, 3.0),
    ],
    ids=lambda axis: axis.name,
)
def test_what_differs_or_is_timed_is_made(tmp_path, calls, values):
    more = {} if values.name == "budget" else {"budget": "3 images"}
    grid = spec(values, prompts=1, search="zero-order", batch_size=1, **more)
    assert asked_for_itself(*made(grid, tmp_path / "out", calls)) == [True, True]


def test_another_model_prompt_or_seed_is_made(tmp_path, calls):
    dtypes = axis("dtype", "float32", "bfloat16")
    grid = spec(dtypes, prompts=2, seeds=2, search="zero-order", budget="2 images")
    assert asked_for_itself(*made(grid, tmp_path / "out", calls)) == [True] * 8


def test_another_verifier_is_shown_the_same_images(tmp_path, calls):
    asked = axis("verifier", ("sharp", ["sharpness"]), ("bright", ["brightness"]))
    grid = spec(asked, prompts=1, search="zero-order", search_args={"rounds": 1}, budget="5 images", batch_size=1)
    results, asked = made(grid, tmp_path / "out", calls)
    assert [asked[row["cell"]] for row in results.rows] == [results.rows[0]["forwards"], 0]
    assert results.rows[1]["forwards"] == results.rows[0]["forwards"]
    assert results.rows[1]["seconds"]["encode"] > 0
    scores = [list(one["scores"]) for one in results.candidates()]
    assert scores == [["sharpness"]] * 5 + [["brightness"]] * 5


def test_nothing_is_kept_that_does_not_fit(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(work, "Memory", lambda: Memory(most_bytes=64 * 64 * 3 - 1))
    assert asked_for_itself(*made(PAIR, tmp_path / "out", calls)) == [True, True]


def test_a_worker_stays_with_what_it_has_the_images_of():
    tasks = tasks_of(cells_of(spec(axis("search", "random", "zero-order", "refine"), prompts=2, budget="2 images")))
    line, (first, second) = deque(tasks), dict.fromkeys(task.begins for task in tasks)
    order = [taken(line, "", ""), taken(line, "", [first]), taken(line, first, [second]), taken(line, second, [first])]
    assert order == [tasks[0], tasks[3], tasks[1], tasks[4]]
    assert [taken(line, second, [first]), taken(line, second, [first])] == [tasks[5], tasks[2]]  # and helps at the end
    assert not line
