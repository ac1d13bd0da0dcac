"""A benchmark's directory: what is written, what a kill or a bad disk leaves, and what is refused."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grids import BUDGETS, SEARCHES, axis, spec
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.spec import SetPrompt
from noisewright.benchmark.store import Results, is_benchmark, open_results, opened, status_of
from noisewright.run.digests import sealed
from noisewright.schemas.reading import MOST_BYTES as MOST_BYTES_OF_JSON

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import grid

GRID = spec(SEARCHES, BUDGETS)


def filled(root, count=None, made=GRID, status="done"):
    """A benchmark with rows that nobody computed."""
    with opened(made, root) as store:
        for cell in list(cells_of(made))[:count]:
            store.add(*grid.row_of(cell, 7))
        store.conclude(status)
    return root


def lines(root, name="rows.jsonl"):
    return (root / name).read_bytes().splitlines(keepends=True)


def test_rows_are_read_back_in_the_order_of_the_grid(tmp_path):
    with opened(GRID, tmp_path / "out") as store:
        cells = list(cells_of(GRID))
        for cell in reversed(cells):
            store.add(*grid.row_of(cell, 7))
        store.conclude("done")
        known = store.results()
    found = open_results(tmp_path / "out")
    assert found == Results(tmp_path / "out", GRID, known.rows)
    assert [row["cell"] for row in found.rows] == [cell.digest for cell in cells]
    assert found.rows[0] == grid.row_of(cells[0], 7)[0]
    assert (len(found.done), found.failed) == (8, ())
    every = [row for cell in reversed(cells) for row in grid.row_of(cell, 7)[1]]
    assert list(found.candidates()) == every
    assert is_benchmark(tmp_path / "out")
    assert not is_benchmark(tmp_path)


def test_a_torn_last_line_is_dropped_and_cut_off(tmp_path):
    root = filled(tmp_path / "out", 3)
    with (root / "rows.jsonl").open("ab") as file:
        file.write(lines(root)[0][:100])
    assert len(open_results(root).rows) == 3
    assert open_results(root).warnings == ()
    with opened(GRID, root) as store:
        assert (len(store.rows), store.warnings) == (3, [])
    assert all(one.endswith(b"\n") for one in lines(root))


def test_damaged_lines_are_set_aside_and_said(tmp_path):
    root = filled(tmp_path / "out")
    good = lines(root)
    bad = good[2].replace(b'"nfe":70', b'"nfe":71')
    (root / "rows.jsonl").write_bytes(b"".join([*good[:2], bad, b"\n", *good[3:]]))
    found = open_results(root)
    assert len(found.rows) == 7
    assert "2 damaged lines" in found.warnings[0]
    with opened(GRID, root) as store:
        assert len(store.rows) == 7
        assert "2 damaged lines" in store.warnings[0]
    assert lines(root) == [*good[:2], *good[3:]]
    assert lines(root, "rows.jsonl.bad") == [bad, b"\n"]
    assert open_results(root).warnings == ()


@pytest.mark.parametrize(
    "change",
    [
        {"run": "cells/../.."}, {"status": "perhaps"}, {"seconds": {}}, {"cell": "xyz"}, {"number": 0},
        {"best": {"id": "0" * 16, "seed": 1, "scores": {}, "file": "../best.png"}}, {"diversity": "much"},
        {"curve": [[1, 2, 3]]}, {"coordinates": None}, {"prompt": 5},
    ],
)  # fmt: skip
def test_a_row_that_no_driver_writes_counts_as_damaged(tmp_path, change):
    root = filled(tmp_path / "out", 1)
    row = {**open_results(root).rows[0], **change}
    with opened(GRID, root) as store:
        store.add(row)
    found = open_results(root)
    assert len(found.rows) == 1
    assert found.rows[0]["status"] == "done"
    assert len(found.warnings) == 1


def test_a_later_line_of_a_cell_counts(tmp_path):
    cell = next(iter(cells_of(GRID)))
    row, candidates = grid.row_of(cell, 3)
    head = {key: row[key] for key in ("cell", "coordinates", "prompt", "number", "category", "seed", "repeat")}
    with opened(GRID, tmp_path / "out") as store:
        store.add({**head, "status": "failed", "error": "no"})
        assert open_results(tmp_path / "out").failed[0]["error"] == "no"
        store.add(row, candidates)
    found = open_results(tmp_path / "out")
    assert (found.rows, found.failed) == ((row,), ())
    assert len(list(found.candidates())) == 3


def test_candidates_without_a_row_are_let_go_of(tmp_path):
    """After a kill between the two files."""
    root = filled(tmp_path / "out", 2)
    (root / "rows.jsonl").write_bytes(lines(root)[0])
    assert len(list(open_results(root).candidates())) == 7
    with opened(GRID, root) as store:
        assert len(lines(root, "candidates.jsonl")) == 7
        store.add(*grid.row_of(list(cells_of(GRID))[1], 7))
    assert len(list(open_results(root).candidates())) == 14


def test_candidates_that_were_told_twice_count_once(tmp_path):
    root = filled(tmp_path / "out", 3)
    with opened(GRID, root) as store:
        store.add(*grid.row_of(next(iter(cells_of(GRID))), 7))
    assert len(list(open_results(root).candidates())) == 21


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    root = filled(tmp_path / "out", 2)
    before = lines(root), lines(root, "candidates.jsonl")
    cell = list(cells_of(GRID))[3]

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(GRID, root) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RuntimeError, match=r"could not write to .*out: No space left .* goes on"):
                store.add(*grid.row_of(cell, 7))
        assert (lines(root), lines(root, "candidates.jsonl")) == before
        store.add(*grid.row_of(cell, 7))
    assert len(open_results(root).rows) == 3


# What is refused


def changed(root, **changes):
    path = root / "benchmark.json"
    held = {**json.loads(path.read_text()), **changes}
    held.pop("check", None)
    path.write_bytes(sealed(held))


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_version_is_refused_in_one_line(tmp_path, version):
    root = filled(tmp_path / "out", 1)
    changed(root, version=version)
    with pytest.raises(ValueError, match=re.escape("expected a benchmark of version 1, got ")) as error:
        open_results(root)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"version 1"), opened(GRID, root):
        pass


@pytest.mark.parametrize("change", [{"status": "fine"}, {"spec": []}, {"created": 5}, {"versions": {"a": 1}}])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change):
    root = filled(tmp_path / "out", 1)
    changed(root, **change)
    with pytest.raises(ValueError, match=r"expected .* in .*benchmark.json, got ") as error:
        open_results(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"seeds": 0}, {"axes": [{"name": "a"}]}, {"prompts": [1]}, {"more": 1}, {"notes": 5}]
)
def test_a_damaged_spec_is_refused_in_one_line(tmp_path, change):
    root = filled(tmp_path / "out", 1)
    changed(root, spec={**json.loads((root / "benchmark.json").read_text())["spec"], **change})
    with pytest.raises(ValueError, match=r"expected .* in .*benchmark.json, got ") as error:
        open_results(root)
    assert "\n" not in str(error.value)


def test_a_file_that_was_changed_is_said(tmp_path):
    root = filled(tmp_path / "out", 1)
    path = root / "benchmark.json"
    path.write_text(path.read_text().replace('"A grid"', '"Another"'))
    assert open_results(root).warnings == (f"{path} was changed or damaged since it was written",)


def test_a_directory_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a benchmark's directory \(with benchmark.json\), got"):
        open_results(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"expected an empty directory or a benchmark .* with other files"):
        filled(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["rows.jsonl", "candidates.jsonl", "benchmark.json", "cells", "rows.jsonl.bad"])
def test_a_link_that_leads_out_is_refused(tmp_path, name):
    root = filled(tmp_path / "out", 1)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    if (root / name).is_dir():
        (root / name).rmdir()
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(outside)
    with pytest.raises(ValueError, match=r"expected a file inside"), opened(GRID, root):
        pass
    assert outside.read_text() == "mine"


def test_one_driver_at_a_time(tmp_path):
    with opened(GRID, tmp_path / "out"):
        assert status_of(tmp_path / "out") == "running"
        with pytest.raises(ValueError, match=r"expected a benchmark that nobody works on, got "), opened(
            GRID, tmp_path / "out"
        ):
            pass
        assert open_results(tmp_path / "out").rows == ()
    assert status_of(tmp_path / "out") == "killed"  # it did not say how it ended


# Going on


MORE = {
    "prompts": spec(SEARCHES, BUDGETS, prompts=3),
    "seeds": replace(GRID, seeds=2),
    "values": spec(SEARCHES, axis("budget", ("1", ["1 images"]), ("2", ["2 images"]), ("3", ["3 images"]))),
    "words": replace(GRID, title="Another", notes=("new",), reference={"search": "random"}, across="budget"),
}


@pytest.mark.parametrize("what", MORE)
def test_a_grid_may_grow(tmp_path, what):
    root = filled(tmp_path / "out")
    with opened(MORE[what], root) as store:
        assert len(store.rows) == 8
    assert open_results(root).spec == MORE[what]
    if what != "words":
        with pytest.raises(ValueError, match=r"holds another benchmark: expected "), opened(GRID, root):
            pass


OTHERS = [
    (replace(GRID, seed=5), "expected seed 0, got 5"),
    (replace(GRID, name="b"), 'expected name "grid", got "b"'),
    (spec(SEARCHES, BUDGETS, num_inference_steps=3), "expected base.num_inference_steps 2, got 3"),
    (spec(SEARCHES, BUDGETS, eta=0.5), "expected base.eta null, got 0.5"),
    (spec(BUDGETS, SEARCHES), 'expected axes ["search", "budget"], got ["budget", "search"]'),
    (spec(SEARCHES, BUDGETS, prompts=1), 'expected {"text": "two blue squares"'),
    (spec(axis("search", "random", ("zero-order", "paths")), BUDGETS), "as a value of axis search, got none such"),
]


@pytest.mark.parametrize(("other", "said"), OTHERS)
def test_another_benchmark_is_refused_by_its_first_difference(tmp_path, other, said):
    root = filled(tmp_path / "out")
    before = (root / "benchmark.json").read_bytes()
    with pytest.raises(ValueError, match=r"out holds another benchmark: ") as error, opened(other, root):
        pass
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert (root / "benchmark.json").read_bytes() == before


# Large ones


@pytest.mark.slow
def test_thousands_of_cells_take_little_memory(tmp_path):
    """A fifth of what ``benchmarks/grid.py large`` measures, within a fifth of its memory and that of the libraries."""
    for part, said in (("fill", "2000 cells made"), ("resume", " 0 cells made"), ("read", "128000 candidates")):
        more = ["--cells", "2000", "--candidates", "64"]
        command = [sys.executable, grid.__file__, "--only", part, "--out", str(tmp_path / "out"), *more]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert said in printed
        assert float(re.search(r"([\d.]+) GiB", printed)[1]) < 0.5


def test_a_verifier_that_changed_between_two_calls_is_said(tmp_path):
    cells = list(cells_of(GRID))
    with opened(GRID, tmp_path / "out") as store:
        for place, cell in enumerate(cells):
            row, candidates = grid.row_of(cell, 7)
            after = "after" if place >= 6 else "before"
            store.add({**row, "fingerprints": {"clip": after, "oracle": "the same"}}, candidates)
        known = store.results()
    found = open_results(tmp_path / "out")
    assert found.warnings == known.warnings
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("clip is not the same in all cells (6 and 2 of them)")


def long_prompts(count):
    text = "[猫]" * 1600
    return replace(GRID, prompts=tuple(SetPrompt(f"{text} {n}", n) for n in range(1, count + 1)))


def test_many_long_prompts_are_read_again(tmp_path):
    made = long_prompts(1400)
    with opened(made, tmp_path / "out") as store:
        store.conclude("done")
    assert (tmp_path / "out" / "benchmark.json").stat().st_size > MOST_BYTES_OF_JSON
    assert open_results(tmp_path / "out").spec == made


def test_what_would_not_be_read_again_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.benchmark.store.MOST_BYTES", 2**16)
    with pytest.raises(ValueError, match="expected prompts that fit"), opened(
        long_prompts(10), tmp_path / "out"
    ):
        pass
    assert not is_benchmark(tmp_path / "out")


def test_a_cell_that_a_later_version_made_anew_counts_once(tmp_path):
    cells = list(cells_of(GRID))
    with opened(GRID, tmp_path / "out") as store:
        for cell in cells:
            row, candidates = grid.row_of(cell, 7)
            if cell is cells[0]:
                store.add({**row, "cell": "0" * 16, "images": 1})
            store.add(row, candidates)
        known = store.results()
    found = open_results(tmp_path / "out")
    assert found.rows == known.rows
    assert [row["cell"] for row in found.rows] == [grid.row_of(cell, 7)[0]["cell"] for cell in cells]
    said = "1 cells were made again, since noisewright changed between two calls: the later count"
    assert found.warnings == known.warnings == (said,)
