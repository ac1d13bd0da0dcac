"""What a benchmark will cost: counted as the runs count it, after what is shared; nothing is written."""

import json

import pytest

from grids import BUDGETS, SEARCHES, axis, spec
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.estimate import estimate

BOTH = axis("verifier", ("one", ["sharpness"]), ("two", ["sharpness", "brightness"]))
MADE = spec(SEARCHES, BUDGETS, BOTH)


@pytest.fixture(scope="module")
def found():
    return estimate(MADE, workers=2)


def test_runs_are_counted_after_sharing(found):
    assert (found.cells, found.made, found.workers) == (16, 0, 2)
    assert found.runs == 2 * (1 + 4)  # a pool, and four cells of the other search
    assert found.images == 2 * (3 + 2 * (2 + 3))
    assert found.nfe == 2 * found.images
    assert found.forwards == 2 * found.nfe
    assert found.seconds > found.loading > 0
    assert sum(one.cells for one in found.kinds) == 16
    assert [one.error for one in found.kinds] == [None] * len(found.kinds)


def test_it_is_json_and_lines(found):
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["dry_run"] is True
    assert said["kinds"][0]["coordinates"] == {"search": "random", "budget": "2", "verifier": "one"}
    lines = dict(found.lines)
    assert lines["cells"] == "16"
    assert lines["runs"].startswith("10, since cells that share")
    assert lines["time"].endswith("with 2 workers")


def test_the_counts_are_those_of_the_runs(tmp_path):
    made = spec(SEARCHES, BUDGETS, prompts=1)
    found = estimate(made, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    results = run_benchmark(made, tmp_path / "out")
    assert found.nfe == sum(row["nfe"] for row in results.rows if not row["shared"])
    assert found.images == sum(row["images"] for row in results.rows if not row["shared"])
    more = estimate(spec(SEARCHES, BUDGETS, prompts=2), out=tmp_path / "out")
    assert (more.cells, more.made, more.images) == (8, 4, found.images)


def test_what_will_fail_is_said():
    models = axis("model", ("here", "noisewright/shapes"), ("nowhere", "no/such-model-anywhere"))
    found = estimate(spec(models, prompts=1, budget="2 images"))
    assert [one.error is None for one in found.kinds] == [True, False]
    assert "no/such-model-anywhere" in dict(found.lines)["failing"]
    assert found.images == 2
