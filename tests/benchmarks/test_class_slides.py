"""The class slides' table, end to end: the built-in spec, bundled verifiers of its classes, a grader over HTTP."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from noisewright.benchmark.compared import Compared
from noisewright.benchmark.comparisons import compared
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.report import write_report
from noisewright.benchmark.spec import Axis, Spec
from noisewright.benchmark.spec_files import read_spec
from noisewright.benchmark.tables import write_tables

pytest.importorskip("openai", reason="the grader is asked through the openai package")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _evidence.grader import serving

STEPS, NFE = 2, 16
SCORES = ["shapes-aesthetic", "shapes-clip", "shapes-reward", "grade"]


def small(spec: Spec) -> Spec:
    """The same at a cost that a test can pay: the slides' 960 NFE as 16, searches as large as these allow."""
    arguments = {
        "paths": {"width": 1, "children": 2, "rounds": 1},
        "zero-order": {"neighbours": 2},
        "zero-order+paths": {"neighbours": 2, "rounds": 1, "width": 1, "children": 2, "path_rounds": 1},
    }
    values = []
    for one in spec.axes[0].values:
        changes = dict(one.changes)
        if changes["budget"] == "960 nfe":
            changes["budget"] = f"{NFE} nfe"
        if changes["search"] in arguments:
            changes["search_args"] = arguments[changes["search"]]
        values.append(replace(one, changes=changes))
    return replace(spec, axes=(Axis(spec.axes[0].name, tuple(values)),))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[Compared, Path]:
    out = tmp_path_factory.mktemp("slides")
    with serving() as url:
        judge = f"vlm:{url}#shapes-oracle,name=grade"
        fields = {"num_inference_steps": STEPS, "judge": [judge], "no_check": True}
        spec = read_spec("deng-table1", model="noisewright/shapes", seeds=1, limit=2, overrides=fields)
        results = run_benchmark(small(spec), out)
    assert not results.failed
    found = compared(results)
    write_tables(results)
    write_report(results, found, out)
    return found, out


def test_it_has_the_rows_and_columns_of_the_slides(table):
    found, _ = table
    rows = [next(iter(point.labels.values())) for point in found.points]
    searched = [f"Ensemble + {one}" for one in ("zero-order", "paths", "both", "best of N")]
    assert rows == ["Random noise", *searched]
    for point in found.points:
        for name in SCORES:
            measured = point.scores[name]
            assert measured.n == 2
            assert measured.best.low <= measured.best.mean <= measured.best.high


def test_no_search_spent_more_and_random_noise_is_the_plain_image(table):
    _, out = table
    with (out / "cells.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    nfe = {row["axis:row"]: int(row["nfe"]) for row in cells}
    assert nfe.pop("Random noise") == STEPS
    assert all(STEPS < spent <= NFE for spent in nfe.values()), nfe
    assert nfe["Ensemble + zero-order"] == nfe["Ensemble + best of N"] == NFE  # which go on until the budget ends
    for row in cells:
        if row["axis:row"] == "Random noise":
            assert row["best:shapes-clip"] == row["baseline:shapes-clip"]


def test_the_grades_came_from_the_server_and_lie_on_its_scale(table):
    _, out = table
    with (out / "cells.csv").open(newline="") as file:
        grades = [float(row["best:grade"]) for row in csv.DictReader(file)]
    assert all(0 <= one <= 10 for one in grades)
    assert len(set(grades)) > 1


def test_the_report_holds_the_table_and_the_slides_own_figures(table):
    _, out = table
    page = (out / "report.html").read_text(encoding="utf-8")
    for name in (*SCORES, "Ensemble + both", "6.31 / 0.82 / 1.22 / 89"):
        assert name in page
