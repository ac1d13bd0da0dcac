"""The tables of a benchmark, read by pandas and DuckDB and compared with the rows."""

import csv
import sys
import tracemalloc
from dataclasses import replace

import duckdb
import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.made import failed_row, made_results, made_row, made_spec
from noisewright.benchmark import tables
from noisewright.benchmark.spec import SetPrompt
from noisewright.benchmark.tables import CANDIDATE_COLUMNS, CELL_COLUMNS, described, harmless, write_tables

KINDS = {"text": "VARCHAR", "whole": "BIGINT", "real": "DOUBLE", "flag": "BOOLEAN"}


@pytest.fixture
def results(tmp_path):
    spec = made_spec({"search": ["random", "zero-order"]}, prompts=4, seeds=2, categories=["colour", None])
    found = made_results(tmp_path, spec, candidates=3)
    odd = SetPrompt('a "quoted", text\nof two lines, ünï ✓', 5)
    rows = [
        made_row({"search": "random"}, odd, 0, {"clip": None, "oracle": 1.5}, {"clip": 0.1, "oracle": float("nan")},
                 diversity=None, warnings=["one", "two"], shared=True),
        failed_row({"search": "zero-order"}, odd, 0, "out of memory"),
    ]  # fmt: skip
    return replace(found, rows=(*found.rows, *rows))


def read(path, suffix, how):
    file = path.with_suffix(suffix)
    if how == "duckdb":
        call = "read_csv" if suffix == ".csv" else "read_parquet"
        return duckdb.sql(f"select * from {call}('{file}')").df()
    return pandas.read_csv(file) if suffix == ".csv" else pandas.read_parquet(file)


def flat(row):
    """A row of a cell, as the columns say."""
    best, baseline = row.get("best", {}), row.get("baseline", {})
    joined = {name: "; ".join(row[name]) for name in ("verifiers", "judges", "warnings") if name in row}
    plain = ("cell", "prompt", "number", "category", "seed", "repeat", "status", "error", "run", "shared", "stopped",
             "images", "nfe", "forwards", "diversity")  # fmt: skip
    return {
        **{name: row.get(name) for name in plain}, **joined,
        **{f"axis:{name}": label for name, label in row["coordinates"].items()},
        **{f"seconds_{name}": value for name, value in row.get("seconds", {}).items()},
        **{f"{name}_{key}": one[key] for name, one in (("best", best), ("baseline", baseline)) if one
           for key in ("id", "seed", "file")},
        **{f"{name}:{score}": value for name, one in (("best", best), ("baseline", baseline)) if one
           for score, value in one["scores"].items()},
    }  # fmt: skip


def same_as(frame, rows):
    assert len(frame) == len(rows)
    for (_, found), wanted in zip(frame.iterrows(), rows, strict=True):
        for name in frame.columns:
            value, expected = found[name], wanted.get(name)
            if expected in (None, "") or expected != expected:
                assert pandas.isna(value) or value == "", name
            elif isinstance(expected, float):
                assert value == pytest.approx(expected, abs=1e-15), name
            else:
                assert value == expected, name


@pytest.mark.parametrize("how", ["pandas", "duckdb"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cells_are_the_rows(results, suffix, how):
    write_tables(results)
    frame = read(results.root / "cells", suffix, how)
    same_as(frame, [flat(row) for row in results.rows])
    assert list(frame.columns)[:3] == ["cell", "axis:search", "prompt"]
    known = {*frame.columns}
    assert {"best:clip", "best:oracle", "baseline:clip", "baseline:oracle", "seconds_total"} <= known
    assert len(frame.columns) == len(CELL_COLUMNS) + 2


@pytest.mark.parametrize("how", ["pandas", "duckdb"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_candidates_are_the_rows(results, suffix, how):
    write_tables(results)
    cells = {row["cell"]: row for row in results.rows}
    wanted = [
        {
            **{name: one[name] for name in ("cell", "id", "seed", "order", "steps", "nfe", "seconds", "file")},
            "axis:search": cells[one["cell"]]["coordinates"]["search"],
            **{name: cells[one["cell"]][name] for name in ("number", "repeat")},
            **{f"score:{name}": value for name, value in one["scores"].items()},
        }
        for one in results.candidates()
    ]
    assert len(wanted) == 48
    frame = read(results.root / "candidates", suffix, how)
    frame["id"] = [f"{int(one):016x}" if not isinstance(one, str) else one for one in frame["id"]]
    same_as(frame, wanted)


def test_parquet_has_the_kinds_that_are_documented(results):
    write_tables(results)
    for name, columns in (("cells", CELL_COLUMNS), ("candidates", CANDIDATE_COLUMNS)):
        found = duckdb.sql(f"describe select * from '{results.root / name}.parquet'").fetchall()
        kinds = {header: KINDS[one.kind] for header, one, _ in tables.headers(columns, ["search"], ["clip", "oracle"])}
        assert {row[0]: row[1] for row in found} == kinds


def test_a_question_in_sql(results):
    """What such tables are for."""
    write_tables(results)
    answer = duckdb.sql(
        f"""select "axis:search", avg("best:oracle" - "baseline:oracle") from '{results.root}/cells.parquet'
        where number < 5 group by 1 order by 1"""
    ).fetchall()
    for label, mean in answer:
        gains = [
            row["best"]["scores"]["oracle"] - row["baseline"]["scores"]["oracle"] for row in results.done
            if row["coordinates"]["search"] == label and row["number"] < 5
        ]  # fmt: skip
        assert mean == pytest.approx(np.mean(gains))


def test_a_prompt_is_no_formula(tmp_path):
    prompts = ["=HYPERLINK(1)", "+1 cat", "-5", "@home", "\tx", "'tis", "a = b", "＝1", "-a"]
    rows = [
        made_row({"search": "random"}, SetPrompt(text, number), 0, {"clip": -1.0}, {"clip": 0.0})
        for number, text in enumerate(prompts, 1)
    ]
    found = replace(made_results(tmp_path, made_spec({"search": ["random"]}, prompts=1)), rows=tuple(rows))
    write_tables(found)
    with (tmp_path / "cells.csv").open(encoding="utf-8", newline="") as file:
        read_back = list(csv.DictReader(file))
    shown = [row["prompt"] for row in read_back]
    assert shown == [
        "'=HYPERLINK(1)", "'+1 cat", "-5", "'@home", "'\tx", "''tis", "a = b", "'＝1", "'-a",
    ]  # fmt: skip
    assert [row["best:clip"] for row in read_back] == ["-1.0"] * len(prompts)
    assert list(pandas.read_parquet(tmp_path / "cells.parquet")["prompt"]) == prompts


@given(st.text(max_size=6) | st.text("'=+-@1a\t", max_size=4))
def test_what_was_there_comes_back(text):
    shown = harmless(text)
    assert shown.removeprefix("'") == text
    assert not shown.startswith(("=", "@", "\t", "\r"))


def test_without_pyarrow_there_is_csv_and_a_line_that_says_why(results, monkeypatch):
    assert len(write_tables(results).files) == 4
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = write_tables(results)
    assert [one.name for one in found.files] == ["cells.csv", "candidates.csv"]
    assert found.notes == ("no .parquet files are written without pyarrow: pip install 'noisewright[data]'",)
    assert not list(results.root.glob("*.parquet")), "an old one would say something else"


def test_no_rows_are_tables_without_rows(tmp_path):
    found = replace(made_results(tmp_path, made_spec({"search": ["random"]})), rows=())
    write_tables(found)
    assert len(pandas.read_csv(tmp_path / "cells.csv")) == 0
    assert list(pandas.read_parquet(tmp_path / "candidates.parquet").columns)[:2] == ["cell", "axis:search"]


def test_names_of_axes_and_scores_are_taken_as_they_are(tmp_path):
    spec = made_spec({"MY SCORE": ["a"]}, prompts=1)
    row = made_row({"MY SCORE": "a"}, spec.prompts[0], 0, {"AXIS:SCORE": 1.0}, {"AXIS:SCORE": 0.0}, verifiers=[])
    write_tables(replace(made_results(tmp_path, spec), rows=(row,)))
    frame = pandas.read_csv(tmp_path / "cells.csv")
    assert frame["axis:MY SCORE"][0] == "a"
    assert frame["best:AXIS:SCORE"][0] == 1.0


def test_candidates_go_through_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 7)
    spec = made_spec({"search": ["random"]}, prompts=5)
    results = made_results(tmp_path, spec, candidates=4)
    write_tables(results)
    held = f"parquet_metadata('{tmp_path}/candidates.parquet')"
    groups = duckdb.sql(f"select distinct row_group_id, row_group_num_rows from {held} order by 1").fetchall()
    assert [rows for _, rows in groups] == [7, 7, 6]
    assert len(pandas.read_csv(tmp_path / "candidates.csv")) == 20


@pytest.mark.slow
def test_memory_does_not_grow_with_candidates(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 500)
    peaks = []
    for count in (50, 500):
        results = made_results(tmp_path / str(count), made_spec({"search": ["random"]}, prompts=20), candidates=count)
        tracemalloc.start()
        try:
            write_tables(results)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_failure_leaves_the_table_that_was_there(results, monkeypatch):
    write_tables(results)
    before = (results.root / "cells.csv").read_bytes()

    def broken(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(tables, "harmless", broken)
    with pytest.raises(OSError, match="no space left"):
        write_tables(replace(results, rows=results.rows[:3]))
    assert (results.root / "cells.csv").read_bytes() == before
    assert not list(results.root.glob(".cells*"))


def test_columns_are_described():
    page = described(CELL_COLUMNS)
    assert page.splitlines()[2] == "| `cell` | text | digest of the cell's request; names it in `candidates` too |"
    assert len(page.splitlines()) == len(CELL_COLUMNS) + 2
    for columns in (CELL_COLUMNS, CANDIDATE_COLUMNS):
        assert len({one.name for one in columns}) == len(columns)
        assert {one.kind for one in columns} == set(KINDS) - ({"flag"} if columns is CANDIDATE_COLUMNS else set())
