"""What is written when a benchmark ends, or anew from its rows alone: tables, the report, entries of loggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.benchmark.comparisons import compared
from noisewright.benchmark.loggers import log_results
from noisewright.benchmark.report.write import write_report
from noisewright.benchmark.tables import write_tables
from noisewright.benchmark.verdicts import over_optimised_sentence, verdicts, warnings_of

if TYPE_CHECKING:
    from noisewright.benchmark.compared import Compared, Point
    from noisewright.benchmark.store import Results


@dataclass(frozen=True)
class Concluded:
    """What a benchmark has come to.

    Attributes:
        results: the rows.
        compared: what may be said of them.
        files: what was written: tables, then the report.
        notes: a line each on what was not.
    """

    results: Results
    compared: Compared
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The benchmark's directory."""
        return self.results.root

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What was found, a sentence for each point, and where a verifier rose while a judge fell."""
        marked = (over_optimised_sentence(one, self.compared) for one in self.compared.over_optimised)
        return (*verdicts(self.compared), *(one for one in marked if one is not None))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the numbers."""
        return (*warnings_of(self.compared), *self.results.warnings, *self.notes)

    @property
    def points(self) -> list[dict[str, Any]]:
        """A row for each point: its labels, and of each score and cost the mean, its interval, gains and tests."""
        return [point_row(one) for one in self.compared.points]

    def to_json(self) -> dict[str, Any]:
        """What ``noisewright benchmark --json`` prints, but for NaN, which JSON has not."""
        found = self.compared
        return {
            "directory": str(self.root), "name": found.name, "title": found.title, "cells": found.cells,
            "done": found.done, "failed": found.failed, "waiting": found.waiting,
            "shared": sum(one.shared for one in found.points), "interrupted": self.results.interrupted,
            "pairs": found.pairs, "deciding": found.deciding, "judges": list(found.judges), "points": self.points,
            "verdicts": list(self.verdicts), "warnings": list(self.warnings),
            "failures": [asdict(one) for one in found.failures], "files": [str(one) for one in self.files],
        }  # fmt: skip


def point_row(point: Point) -> dict[str, Any]:
    """A point as ``--json`` has it."""
    return {
        "label": point.label, "labels": dict(point.labels), "done": point.done, "failed": point.failed,
        "shared": point.shared, "compared": point.compared, "reference": point.reference,
        "scores": {name: _row(one) for name, one in point.scores.items()},
        "costs": {name: _row(one) for name, one in point.costs.items()},
    }  # fmt: skip


def _row(measured: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


def concluded(results: Results, *, logs: Sequence[str] = ()) -> Concluded:
    """Compare what there is, and write it down.

    Args:
        results: of a benchmark, whole or not.
        logs: names of loggers (``wandb``, ``trackio``, ``tensorboard``) that are told.

    Raises:
        ValueError: in one line, on a logger that is unknown or not installed.
        RuntimeError: in one line, where the directory cannot be written.
    """
    found = compared(results)
    try:
        tables = write_tables(results)
        files = [*tables.files, *write_report(results, found, results.root)]
    except OSError as error:
        said = f"could not write to {results.root}: {error.strerror or error}; no row is lost"
        raise RuntimeError(f"{said}: noisewright benchmark --report {results.root} writes what is missing") from error
    failed = log_results(results, found, logs) if logs else ()
    return Concluded(results, found, tuple(files), (*tables.notes, *failed))
