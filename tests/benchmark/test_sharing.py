"""Cells that share work: each row is what a run of its own would have given."""

import math

import pytest

import noisewright as nw
from grids import BUDGETS, axis, spec
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.pooled import Pool, Scorers
from noisewright.benchmark.sharing import alike, checked_cells, host_of, images_in, pool_of, tasks_of
from noisewright.benchmark.spec import Axis, Value
from noisewright.benchmark.telling import read_run_of
from noisewright.request import Request
from noisewright.run.budget import parse_budget
from noisewright.verifiers.pixels import Sharpness

SOME_NAN = """
import math

def some(images, prompt):
    '''A number for most images, NaN for the others, by what is in them.'''
    means = [float(image.mean()) for image in images]
    return [math.nan if int(mean * 10_000) % 3 == 0 else mean for mean in means]
"""

# What is shared


@pytest.fixture(scope="module")
def shapes():
    return nw.load("noisewright/shapes")


@pytest.fixture(scope="module")
def some_nan(tmp_path_factory):
    file = tmp_path_factory.mktemp("verifier") / "some_nan.py"
    file.write_text(SOME_NAN)
    return f"{file}:some"


BOTH = ["sharpness", "shapes-clip"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, some_nan):
    """All the cases in one benchmark, whose cells are one pool."""
    asked = Axis("asked", (
        Value("sharpness", {"verifier": ["sharpness"]}),
        Value("clip", {"verifier": ["shapes-clip"], "judge": ["shapes-oracle", "sharpness"]}),
        Value("nan", {"verifier": [some_nan]}),
        Value("rank", {"verifier": BOTH}),
        Value("zsum", {"verifier": BOTH, "ensemble": "zsum"}),
        Value("weights", {"verifier": BOTH, "ensemble": {"sharpness": 20.0, "shapes-clip": 0.1}}),
        Value("nan and clip", {"verifier": [some_nan, "shapes-clip"], "judge": ["sharpness"]}),
    ))  # fmt: skip
    budgets = axis("budget", ("1", ["1 images"]), ("3", ["3 images"]), ("5", ["11 nfe"]), ("8", ["8 images"]))
    out = tmp_path_factory.mktemp("shared") / "out"
    return run_benchmark(spec(asked, budgets, prompts=1), out)


def row_of(results, *labels):
    (row,) = [one for one in results.rows if tuple(one["coordinates"].values()) == labels]
    assert row["status"] == "done", row
    return row


def test_a_pool_is_one_run(shared):
    assert len(list((shared.root / "cells").iterdir())) == 1
    assert [row["shared"] for row in shared.rows].count(False) == 1
    assert {row["run"] for row in shared.rows} == {f"cells/{row_of(shared, 'sharpness', '8')['cell']}"}


CASES = [
    ("sharpness", "1"), ("sharpness", "5"), ("clip", "3"), ("clip", "8"), ("nan", "5"), ("nan", "8"), ("rank", "3"),
    ("rank", "8"), ("zsum", "5"), ("weights", "5"), ("nan and clip", "8"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "budget"), CASES)
def test_a_row_is_what_a_run_of_its_own_gives(shared, shapes, tmp_path, asked, budget):
    row = row_of(shared, asked, budget)
    cell = next(one for one in cells_of(shared.spec) if one.digest == row["cell"])
    settings = {name: getattr(cell.request, name) for name in ("verifier", "judge", "ensemble", "budget", "seed")}
    settings["judge"] = [one for one in settings["judge"] if one != "none"]
    own = nw.search(
        shapes, cell.request.prompt, **settings, num_inference_steps=2, batch_size=2, out=tmp_path / "own",
        pictures=False, progress=False,
    )  # fmt: skip
    assert (row["images"], row["nfe"], row["forwards"]) == (own.images, own.nfe, own.forwards)
    assert (row["stopped"], row["verifiers"], row["judges"]) == (own.stopped, list(own.verifiers), list(own.judges))
    assert row["warnings"] == list(own.warnings)
    for name in ("best", "baseline"):
        made = getattr(own, name)
        assert (row[name]["id"], row[name]["seed"]) == (made.id, made.seed)
        assert list(row[name]["scores"]) == list(made.scores)
        for verifier, score in made.scores.items():
            found = row[name]["scores"][verifier]
            assert (found is None) == math.isnan(score)
            assert found is None or found == pytest.approx(score, rel=1e-4, abs=1e-3)
        assert (shared.root / row[name]["file"]).is_file()
    rises = [one for n, one in enumerate(own.curve) if not n or one.value != own.curve[n - 1].value]
    assert [point[:2] for point in row["curve"]] == [[one.images, one.nfe] for one in rises]
    assert [point[3] for point in row["curve"]] == pytest.approx([one.value for one in rises], rel=1e-4, abs=1e-3)
    assert set(row["seconds"]) == set(own.seconds)


def test_seconds_are_those_of_the_images_and_verifiers_of_a_cell(shared):
    small, large = (row_of(shared, "sharpness", budget)["seconds"] for budget in ("3", "8"))
    assert small["denoise"] < large["denoise"]
    assert small["total"] < large["total"]
    assert small["encode"] == large["encode"] > 0
    alone, other, both = (row_of(shared, name, "8")["seconds"] for name in ("sharpness", "clip", "rank"))
    assert alone["denoise"] == pytest.approx(both["denoise"], abs=1e-3)
    assert both["verify"] > alone["verify"]
    assert other["total"] >= other["denoise"] + other["decode"] + other["verify"]
    for row in shared.rows:
        assert all(point[2] <= row["seconds"]["total"] for point in row["curve"])


def test_each_score_is_in_one_row_of_a_candidate_per_set_of_verifiers(shared):
    found = list(shared.candidates())
    by_cell = {row["cell"]: row for row in shared.rows}
    told = {tuple(by_cell[one["cell"]]["coordinates"].values()) for one in found}
    assert told == {(name, "8") for name in ("sharpness", "clip", "nan", "rank", "nan and clip")}
    assert len(found) == 5 * 8
    odd = [one["scores"]["some"] for one in found if by_cell[one["cell"]]["coordinates"]["asked"] == "nan"]
    assert None in odd and any(odd)  # noqa: PT018 - the verifier is one that gives both
    assert {tuple(one["scores"]) for one in found if by_cell[one["cell"]]["coordinates"]["asked"] == "rank"} == {
        tuple(BOTH)
    }
    assert all((shared.root / one["file"]).is_file() for one in found)


def test_what_was_scored_is_not_scored_again(shared, monkeypatch):
    """After a kill between the scores and the rows."""
    asked = []
    monkeypatch.setattr("noisewright.benchmark.pooled.ask_all", lambda *given: asked.append(given))
    rows = {row["cell"]: row for row in shared.rows}
    (shared.root / "rows.jsonl").write_bytes(b"")
    again = run_benchmark(shared.spec, shared.root)
    assert not asked
    assert not again.failed
    for row in again.rows:
        before = rows[row["cell"]]
        assert {**row, "seconds": None, "curve": None} == {**before, "seconds": None, "curve": None}
        assert row["seconds"]["denoise"] == before["seconds"]["denoise"]
    assert len(list(again.candidates())) == 5 * 8


# Which cells share


def request(**more):
    return Request(prompt="a red circle", model="noisewright/shapes", **{"budget": "8 images", **more})


@pytest.mark.parametrize(
    "more",
    [
        {"search": "zero-order"}, {"search_args": {"n": 4}}, {"target": 3.0}, {"search_steps": 2}, {"keep": 2},
        {"draft": "truncate"}, {"profile": "profile.json"},
        {"budget": "3 s"}, {"budget": ["8 images", "3 s"]}, {"score_cache": "cache"},
        {"verifier": [{"name": "mine", "what": "a function"}]},
    ],
)  # fmt: skip
def test_what_depends_on_more_than_its_own_images_is_a_run_of_its_own(more):
    assert pool_of(request(**more)) is None


def test_what_else_differs_is_another_pool():
    first = pool_of(request())
    assert first == pool_of(request(budget="9 nfe", verifier="clip", judge="aesthetic", ensemble="zsum"))
    others = [{"seed": 1}, {"num_inference_steps": 3}, {"guidance_scale": 2.0}, {"batch_size": 2}, {"dtype": "float32"}]
    assert first not in [pool_of(request(**one)) for one in others]
    assert len({pool_of(request(**one)) for one in others}) == len(others)
    assert pool_of(request(draft="none")) is not None
    assert alike(request(seed=3)) == alike(request(verifier="clip")) != alike(request(num_inference_steps=3))


def test_tasks_keep_models_together_and_leave_out_what_is_made():
    models = axis("model", ("a", "noisewright/shapes"), ("b", "noisewright/cifar10"))
    cells = checked_cells(cells_of(spec(models, BUDGETS)))
    tasks = tasks_of(cells)
    assert [task.cells[0].coordinates["model"] for task in tasks] == ["a", "a", "b", "b"]
    assert [task.number for task in tasks] == [0, 1, 2, 3]
    assert all(task.cells == task.pool for task in tasks)
    left = tasks_of(cells, {cells[0].digest, cells[2].digest, cells[3].digest})
    assert [(len(task.cells), len(task.pool)) for task in left] == [(1, 2), (2, 2), (2, 2)]
    assert left[0].without({left[0].cells[0].digest}) is None


def test_the_host_has_one_verifier_and_the_most_images():
    asked = axis("verifier", ("two", BOTH), ("one", ["sharpness"]))
    (task,) = tasks_of(cells_of(spec(asked, BUDGETS, prompts=1)))
    count = {cell.digest: images_in(parse_budget(cell.request.budget), lambda: 2) for cell in task.pool}
    assert host_of(task.pool, lambda cell: count[cell.digest]) == task.pool[3].request
    made = host_of(task.pool[:2], lambda cell: count[cell.digest])
    assert made == task.pool[1].request  # all the same verifiers: no time of a single one is needed
    other = host_of([task.pool[1], task.pool[2]], lambda cell: count[cell.digest])
    assert (other.verifier, other.judge, other.budget) == (["sharpness"], ["none"], ["3 images"])


def test_images_of_a_budget():
    assert images_in(parse_budget("8 images"), lambda: pytest.fail("it was asked")) == 8
    assert images_in(parse_budget(["8 images", "11 nfe"]), lambda: 2) == 5


def test_two_cells_that_ask_for_the_same_are_refused():
    twice = axis("budget", ("2", ["2 images"]), ("two", ["2 images"]))
    with pytest.raises(ValueError, match=r"budget=2 and prompt 1 with budget=two, which ask for the same"):
        checked_cells(cells_of(spec(twice)))


def test_a_cell_whose_verifier_fails_says_so_alone(tmp_path):
    file = tmp_path / "fails.py"
    file.write_text("def broken(images, prompt):\n    raise RuntimeError('no idea')\n")
    asked = axis("verifier", ("fine", ["sharpness"]), ("broken", [f"{file}:broken"]), ("none", ["no-such"]))
    results = run_benchmark(spec(asked, prompts=1, budget="2 images", num_inference_steps=1), tmp_path / "out")
    rows = {row["coordinates"]["verifier"]: row for row in results.rows}
    assert rows["fine"]["status"] == "done"
    assert "no idea" in rows["broken"]["error"]
    assert "no-such" in rows["none"]["error"]


def test_rows_say_what_verifiers_and_judges_were(shared):
    read = row_of(shared, "clip", "1")["fingerprints"]
    *scorers, model = read
    assert sorted(scorers) == ["shapes-clip", "shapes-oracle", "sharpness"]
    assert model.startswith("the model noisewright/shapes float32")
    assert read == row_of(shared, "clip", "8")["fingerprints"]
    assert read["shapes-clip"] == row_of(shared, "rank", "8")["fingerprints"]["shapes-clip"]
    assert shared.warnings == ()


def test_a_pool_that_cannot_be_planned_is_cells_that_failed(tmp_path):
    (tmp_path / "empty").mkdir()
    budgets = axis("budget", ("2", ["4 nfe"]), ("3", ["6 nfe"]))
    found = run_benchmark(spec(budgets, prompts=2, model=str(tmp_path / "empty")), tmp_path / "out")
    assert (len(found.failed), found.done, found.interrupted) == (4, (), False)
    assert all("empty" in row["error"] for row in found.failed)


def test_scores_of_other_weights_are_not_taken_for_those_of_the_verifier_of_now(shared):
    row = row_of(shared, "sharpness", "3")
    cell = next(one for one in cells_of(shared.spec) if one.digest == row["cell"])
    pool = Pool(shared.root, read_run_of(shared.root, row["run"]), lambda: 2, 1, lambda: None)
    before, _ = pool.tell(cell, Scorers([Sharpness()], []))
    assert before["best"] == row["best"]

    class Trained(Sharpness):
        fingerprint = "sharpness, trained further"

        def __call__(self, images, prompt):
            return [-score for score in super().__call__(images, prompt)]

    after, _ = pool.tell(cell, Scorers([Trained()], []))
    assert after["fingerprints"] == {**before["fingerprints"], "sharpness": Trained.fingerprint}
    assert any(name.startswith("the model ") for name in after["fingerprints"])
    assert after["baseline"]["scores"]["sharpness"] == pytest.approx(-row["baseline"]["scores"]["sharpness"], rel=1e-4)
