"""A benchmark's directory: ``benchmark.json``, and a row for each cell and each candidate, which no run is read for.

One driver writes at a time: it holds ``.lock``. The candidates of a cell are on the disk before the row that says that
the cell is done, so a row speaks for all that it counts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from noisewright.benchmark.changes import check_grown
from noisewright.benchmark.lines import Rows
from noisewright.benchmark.plain_spec import spec_from_json, spec_to_json
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.spec import SPEC_VERSION, Spec
from noisewright.errors import RunMismatch
from noisewright.execute import versions
from noisewright.outside.files import check_directory, write_atomically
from noisewright.outside.inside import inside
from noisewright.outside.messages import short
from noisewright.run.digests import check_of, sealed
from noisewright.run.directory import writable
from noisewright.run.locks import LOCK, is_being_written, let_go, locked
from noisewright.schemas.benchmarks import CANDIDATE_ROW, CELL_ROW, check_benchmark
from noisewright.schemas.reading import most_containers, read_json

BENCHMARK = "benchmark.json"
ROWS, CANDIDATES, CELLS = "rows.jsonl", "candidates.jsonl", "cells"
MOST_BYTES = 2**27
"""Of ``benchmark.json``: what would not be read again is not begun. A hundred thousand prompts take a fifth of it."""


@dataclass(frozen=True)
class Results:
    """What a benchmark has come to.

    Attributes:
        root: its directory.
        spec: what was asked for.
        rows: of the cells that are done or failed, in the order of the grid.
        interrupted: whether the call that gave this was ended before all cells were made.
        warnings: what is damaged in the directory, a line each.
    """

    root: Path
    spec: Spec
    rows: tuple[CellRow, ...]
    interrupted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def done(self) -> tuple[CellRow, ...]:
        """The rows of cells that are done."""
        return tuple(row for row in self.rows if row["status"] == "done")

    @property
    def failed(self) -> tuple[CellRow, ...]:
        """The rows of cells that failed."""
        return tuple(row for row in self.rows if row["status"] != "done")

    def candidates(self) -> Iterator[CandidateRow]:
        """The candidates of the cells that are done, cell by cell, read from the disk one by one."""
        done = {row["cell"] for row in self.done}
        seen: set[str] = set()
        now = ""
        for row in Rows(self.root, CANDIDATES, CANDIDATE_ROW).read():
            if row["cell"] != now:
                seen.add(now)
                now = row["cell"]
            if now in done and now not in seen:  # made twice, where a row was damaged in between
                yield row


def is_benchmark(root: str | Path) -> bool:
    """Whether a directory holds a benchmark, by its ``benchmark.json``."""
    return os.path.isfile(Path(root) / BENCHMARK)


def read_benchmark(root: str | Path) -> tuple[dict[str, Any], Spec]:
    """``benchmark.json``, and its spec.

    Raises:
        ValueError: in one line, where there is none, it is damaged or of another version.
    """
    path = Path(root) / BENCHMARK
    try:
        found = read_json(inside(root, BENCHMARK), f"a benchmark's directory (with {BENCHMARK})", most=MOST_BYTES)
    except FileNotFoundError:
        raise ValueError(f"expected a benchmark's directory (with {BENCHMARK}), got {root}") from None
    version = found.get("version") if isinstance(found, dict) else None
    if type(version) is not int or version != SPEC_VERSION:
        raise ValueError(f"expected a benchmark of version {SPEC_VERSION}, got {short(version)} in {path}")
    check_benchmark(found, str(path))
    return found, spec_from_json(found["spec"], str(path))


def status_of(root: str | Path) -> str:
    """``done``, ``failed`` (of a cell at least), ``interrupted``, ``running``, or ``killed``: where nobody works on it.

    Raises:
        ValueError: as :func:`read_benchmark`.
    """
    recorded = str(read_benchmark(root)[0]["status"])
    return "killed" if recorded == "running" and is_being_written(root) is False else recorded


def open_results(root: str | Path) -> Results:
    """What a benchmark has come to, from its rows alone; whoever looks keeps no driver out.

    Raises:
        ValueError: in one line, where the directory holds none, or one of another version.
    """
    root = Path(root)
    held, spec = read_benchmark(root)
    rows = Rows(root, ROWS, CELL_ROW)
    found = {row["cell"]: row for row in rows.read()}
    warnings = [] if _is_intact(held) else [f"{root / BENCHMARK} was changed or damaged since it was written"]
    if rows.damaged:
        warnings.append(f"{rows.damaged} damaged lines of {rows.path} are left out; the next run makes what is missing")
    return _results(root, spec, tuple(found.values()), status_of(root) == "interrupted", warnings)


def _results(root: Path, spec: Spec, rows: Sequence[CellRow], interrupted: bool, warnings: Sequence[str]) -> Results:
    """What rows, in the order in which they were written, come to.

    A cell's name is its request's digest. Where a later version has another digest for the same request, the same
    command made the cell anew: it counts once, as the later version made it.
    """
    latest = {(row["prompt"], row["number"], row["repeat"], *sorted(row["coordinates"].items())): row for row in rows}
    made, twice = in_order(spec, latest.values()), len(rows) - len(latest)
    anew = [f"{twice} cells were made again, since noisewright changed between two calls: the later count"]
    return Results(root, spec, made, interrupted, (*warnings, *anew[: bool(twice)], *changed_between(made)))


def changed_between(rows: Sequence[CellRow]) -> list[str]:
    """A line for each verifier, judge and model that is not the same in all cells: they are not to be compared then.

    Weights may be trained anew, or a function mended, between two calls that make one benchmark: what was done before
    stays as it was.
    """
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for name, fingerprint in row.get("fingerprints", {}).items():
            found.setdefault(name, Counter())[fingerprint] += 1
    return [
        f"{name} is not the same in all cells ({' and '.join(str(count) for _, count in counts.most_common())} of "
        "them): it was changed, or one name stands for several, so what it gave is not to be compared"
        for name, counts in found.items() if len(counts) > 1
    ]  # fmt: skip


def in_order(spec: Spec, rows: Any) -> tuple[CellRow, ...]:
    """Rows in the order of the grid."""
    places = [{value.label: n for n, value in enumerate(axis.values)} for axis in spec.axes]

    def key(row: CellRow) -> tuple[int, ...]:
        labels = (row["coordinates"].get(axis.name, "") for axis in spec.axes)
        return (row["number"], row["repeat"], *(at.get(one, -1) for at, one in zip(places, labels, strict=True)))

    return tuple(sorted(rows, key=key))


def _is_intact(held: Mapping[str, Any]) -> bool:
    return held.get("check") == check_of({key: value for key, value in held.items() if key != "check"})


class Store:
    """A benchmark's directory, open for writing. See :func:`opened`.

    Attributes:
        root: the directory.
        spec: the benchmark.
        rows: by cell.
        warnings: what was damaged.
    """

    def __init__(self, root: Path, spec: Spec, held: dict[str, Any]) -> None:
        self.root = root
        self.spec = spec
        self.rows: dict[str, CellRow] = {}
        self.warnings: list[str] = []
        self._held = {**held, "status": "running", "versions": versions(), "spec": spec_to_json(spec)}
        self._held.pop("check", None)
        self._rows = Rows(root, ROWS, CELL_ROW)
        self._candidates = Rows(root, CANDIDATES, CANDIDATE_ROW)
        (root / CELLS).mkdir(exist_ok=True)
        inside(root, CELLS)
        self._write()
        damaged = self._rows.open()
        self.rows = {row["cell"]: row for row in self._rows.read()}
        self._say_damaged(self._rows, damaged + self._rows.damaged, "their cells are made again")
        # Of a cell whose row was never written, which is told again: a row counts no candidate twice.
        damaged = self._candidates.open({key for key in self.rows if self.is_done(key)})
        self._say_damaged(self._candidates, damaged, "they are missing from now on")

    def _say_damaged(self, rows: Rows, count: int, what: str) -> None:
        if count:
            self.warnings.append(f"{count} damaged lines of {rows.path} were set aside; {what}")

    def is_done(self, cell: str) -> bool:
        """Whether a cell, by its digest, is done."""
        return cell in self.rows and self.rows[cell]["status"] == "done"

    def add(self, row: CellRow, candidates: Sequence[CandidateRow] = ()) -> None:
        """Write down what came of a cell.

        Raises:
            RuntimeError: in one line, where it cannot be written.
        """
        try:
            if candidates:
                self._candidates.add(cast("Sequence[Mapping[str, Any]]", candidates))
            self._rows.add([cast("Mapping[str, Any]", row)])
        except OSError as error:
            raise RuntimeError(
                f"could not write to {self.root}: {error.strerror or error}; nothing finished is lost, the same "
                "command goes on"
            ) from error
        self.rows[row["cell"]] = row

    def conclude(self, status: str) -> None:
        """Say how it ended."""
        self._held["status"] = status
        self._write()

    def results(self, interrupted: bool = False) -> Results:
        """What it has come to."""
        return _results(self.root, self.spec, tuple(self.rows.values()), interrupted, self.warnings)

    def close(self) -> None:
        self._rows.close()
        self._candidates.close()

    def _write(self) -> None:
        data = sealed(self._held)
        if len(data) > MOST_BYTES or data.count(b"[") + data.count(b"{") > most_containers(MOST_BYTES):
            said = f"expected prompts that fit {BENCHMARK} of at most {MOST_BYTES} bytes, got {len(data)}: take fewer"
            raise ValueError(said)
        write_atomically(self.root / BENCHMARK, data)


@contextmanager
def opened(spec: Spec, out: str | Path) -> Iterator[Store]:
    """A benchmark's directory, made or gone on with, held against every other driver.

    Raises:
        ValueError: in one line, where it holds something else, another benchmark, or one that is being worked on.
    """
    root = check_directory(out, "out")
    for name in (BENCHMARK, ROWS, CANDIDATES, CELLS, LOCK):
        inside(root, name)
    with writable(root):
        root.mkdir(parents=True, exist_ok=True)
        strange = [one.name for one in root.iterdir() if one.name not in (LOCK, CELLS)]
        if strange and not is_benchmark(root):
            raise ValueError(f"expected an empty directory or a benchmark to go on with, got {root} with other files")
        lock = _locked(root)
    try:
        held: dict[str, Any] = {"version": SPEC_VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        if is_benchmark(root):
            held, before = read_benchmark(root)
            check_grown(root, spec_to_json(before), spec_to_json(spec))
        with writable(root):
            store = Store(root, spec, held)
        try:
            yield store
        finally:
            store.close()
    finally:
        let_go(lock)


def _locked(root: Path) -> Any:
    try:
        return locked(root)
    except RunMismatch:
        raise ValueError(f"expected a benchmark that nobody works on, got {root}: another process does") from None
