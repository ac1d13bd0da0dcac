"""Grids, comparisons and audits of runs that search by drafts."""

import csv

import pytest

import noisewright as nw
from grids import PROMPTS, axis, spec
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.prompt_sets import numbered
from noisewright.benchmark.store import open_results
from noisewright.benchmark.tables import write_tables
from noisewright.benchmark.typed_axes import grid_spec, typed_axis
from noisewright.images.metadata import read_recipe
from noisewright.run.reading import read_journal

DRAFT = "truncate,at=0.5,best=2,pilot=0"
TEXT = "truncate,at=0.5"
SHORT_NFE = 3
"""Of such a draft at four steps: two, and the clean estimate."""


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Drafts and none, at two budgets."""
    drafts = axis("draft", ("none", "none"), ("half", DRAFT))
    budgets = axis("budget", ("5", ["5 images"]), ("8", ["8 images"]))
    out = tmp_path_factory.mktemp("grid") / "out"
    return run_benchmark(spec(drafts, budgets, prompts=1, num_inference_steps=4), out)


def row_of(results, *labels):
    (row,) = [one for one in results.rows if tuple(one["coordinates"].values()) == labels]
    assert row["status"] == "done", row
    return row


def test_cells_of_drafts_are_runs_of_their_own(grid):
    assert {labels: row_of(grid, *labels)["shared"] for labels in (("none", "5"), ("half", "5"), ("half", "8"))} == {
        ("none", "5"): True, ("half", "5"): False, ("half", "8"): False,
    }  # fmt: skip


@pytest.mark.parametrize("budget", ["5", "8"])
def test_what_is_shown_of_a_cell_of_drafts_is_in_full(grid, budget):
    row = row_of(grid, "half", budget)
    for name in ("best", "baseline"):
        assert "draft" not in read_recipe(grid.root / row[name]["file"])[1]["sampler"]
    assert row["baseline"]["id"] == row_of(grid, "none", budget)["baseline"]["id"]
    candidates = [one for one in grid.candidates() if one["cell"] == row["cell"]]
    drafts = [one for one in candidates if "draft" in one]
    assert {one["draft"] for one in drafts} == {TEXT}
    assert len(drafts) == int(budget) - 3  # two and the plain one are kept back, which may be one of the two
    assert row["images"] == len(candidates) in (int(budget) - 1, int(budget))
    full = [one for one in candidates if "draft" not in one]
    assert row["best"]["id"] == max(full, key=lambda one: one["scores"]["sharpness"])["id"]
    assert row["nfe"] == len(drafts) * SHORT_NFE + len(full) * 4
    assert row["curve"][-1][0] <= len(drafts) + 1  # it is that of the search's own images, after the plain one


def test_a_row_of_drafts_is_what_a_run_of_its_own_gives(grid, tmp_path):
    row = row_of(grid, "half", "8")
    (cell,) = [one for one in cells_of(grid.spec) if one.digest == row["cell"]]
    own = nw.search(
        nw.load("noisewright/shapes"), cell.request.prompt, draft=DRAFT, verifier="sharpness", judge=[],
        budget="8 images", seed=cell.request.seed, num_inference_steps=4, batch_size=2, out=tmp_path / "own",
        pictures=False, progress=False,
    )  # fmt: skip
    assert (row["images"], row["nfe"], row["forwards"]) == (own.images, own.nfe, own.forwards)
    assert (row["best"]["id"], row["baseline"]["id"]) == (own.best.id, own.baseline.id)
    assert row["best"]["scores"]["sharpness"] == pytest.approx(own.best.scores["sharpness"], rel=1e-4)
    assert [one["verb"] for one in read_journal(grid.root / row["run"])] == [
        one["verb"] for one in read_journal(tmp_path / "own")
    ]


def test_tables_tell_drafts_from_full_images(grid):
    write_tables(grid)
    with (grid.root / "candidates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {(one["axis:draft"], one["draft"]) for one in rows}
    assert kinds == {("none", ""), ("half", ""), ("half", TEXT)}


def test_a_pilot_in_a_cell_is_told(tmp_path):
    proved = axis("draft", ("proved", "truncate,at=0.5,pilot=4"))
    results = run_benchmark(spec(proved, prompts=1, num_inference_steps=4, budget="16 images"), tmp_path / "out")
    (row,) = results.rows
    assert row["status"] == "done", row
    assert any(text.startswith(f"draft {TEXT} is ") for text in row["warnings"])
    assert "draft" not in read_recipe(results.root / row["best"]["file"])[1]["sampler"]
    (again,) = open_results(results.root).rows
    assert again == row


def test_drafts_are_typed_as_an_axis():
    found = typed_axis(f'draft=none,"{DRAFT}"')
    assert [one.changes for one in found.values] == [{"draft": "none"}, {"draft": DRAFT}]
    with pytest.raises(ValueError, match="did you mean truncate"):
        typed_axis("draft=truncat")
    with pytest.raises(ValueError, match="search_steps or a draft"):
        grid_spec({"--x": "draft=none,truncate"}, {"search_steps": 2}, numbered(["a cat"]))


# Compared, audited


def compared(model, out, *searches, **settings):
    settings = {"verifier": "brightness", "judge": "none", "num_inference_steps": 6, "no_check": True, **settings}
    return nw.compare(list(PROMPTS[:2]), list(searches), model=str(model), out=out, budget="8 images", **settings)


def test_searches_with_drafts_are_compared_at_equal_nfe(model, tmp_path):
    compared(model, tmp_path / "out", "zero-order", "halving", draft=DRAFT)
    rows = open_results(tmp_path / "out").done
    assert len(rows) == 2 * 3
    for row in rows:
        assert 24 < row["nfe"] <= 8 * 6, row["coordinates"]
        assert "draft" not in read_recipe(tmp_path / "out" / row["best"]["file"])[1]["sampler"]
    by_search = {row["coordinates"]["search"]: row["images"] for row in rows}
    assert by_search["random"] > 8  # the same NFE are more images


def test_a_search_without_such_drafts_is_refused_before_anything_is_spent(model, tmp_path):
    with pytest.raises(ValueError, match="expected no draft steps with evolution"):
        compared(model, tmp_path / "out", "evolution", draft="steps,n=2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"draft": TEXT}, {"search_steps": 2}])
def test_an_audit_is_of_images_in_full(model, tmp_path, settings):
    with pytest.raises(ValueError, match="expected images in full to audit by"):
        nw.audit(list(PROMPTS), ["brightness", "sharpness"], model=str(model), out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
