"""Rows from a run: what the journal of a concluded one says of its cell, and of its candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.benchmark.cells import Cell
from noisewright.benchmark.rows import CandidateRow, CellRow, ShownCandidate
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.outside.texts import clean
from noisewright.run.follow import Watch
from noisewright.run.particle import Candidate
from noisewright.run.ranking import Ranking

FINALISTS = 8
"""How many of the best are compared for the diversity."""

MOST_ERROR = 1000

Scored = tuple[Candidate, int, int, float]
"""A candidate, how many there were by then, NFE and seconds."""


@dataclass(frozen=True)
class Run:
    """A concluded run as its directory tells it.

    Attributes:
        root: the directory.
        name: ``cells/DIGEST``.
        watch: its journal, added up.
        ranking: how it sorts.
        drafts: steps of the search's own renderings.
    """

    root: Path
    name: str
    watch: Watch
    ranking: Ranking
    drafts: int

    @property
    def summary(self) -> Mapping[str, Any]:
        """What ``run.json`` says came of it."""
        found: Mapping[str, Any] = self.watch.run["summary"]
        return found


def read_run_of(benchmark: Path, name: str) -> Run:
    """A concluded run of a benchmark, read once.

    Raises:
        ValueError: in one line, where it cannot be read.
    """
    watch = Watch(benchmark / name)
    watch.look()
    spec = watch.run["spec"]
    ranking = Ranking(tuple(one["name"] for one in spec["verifiers"]), spec["ensemble"])
    return Run(benchmark / name, name, watch, ranking, spec.get("search_steps_taken", spec["search_steps"]))


def head_of(cell: Cell) -> dict[str, Any]:
    """What every row says of its cell."""
    return {
        "cell": cell.digest, "coordinates": dict(cell.coordinates), "prompt": cell.prompt.text,
        "number": cell.prompt.number, "category": cell.prompt.category, "seed": cell.request.seed,
        "repeat": cell.repeat,
    }  # fmt: skip


def failed(cell: Cell, error: BaseException | str) -> CellRow:
    """The row of a cell that failed."""
    said = str(error) if isinstance(error, str) else str(error) or type(error).__name__
    return {**head_of(cell), "status": "failed", "error": clean(said, MOST_ERROR)}  # type: ignore[typeddict-item]


def told(cell: Cell, run: Run) -> tuple[CellRow, list[CandidateRow]]:
    """The rows of a cell that is a run of its own."""
    ledger, summary = run.watch.ledger, run.summary
    pool = list(ledger.candidates.values())
    full = [one for one in pool if one.particle.steps != run.drafts]
    short = [one for one in pool if one.particle.steps == run.drafts]
    best = [one for some in (full, short) for one, _ in run.ranking.best_first(some)]
    row: Any = {
        **head_of(cell), "status": "done", "run": run.name, "shared": False, "images": summary["images"],
        "nfe": summary["nfe"], "forwards": summary["forwards"], "seconds": dict(summary["seconds"]),
        "stopped": str(summary["stopped"]), "verifiers": list(run.ranking.names), "judges": list(summary["judges"]),
        "best": _shown(run, summary["best"]), "baseline": _shown(run, summary["baseline"]),
        "curve": curve(run.ranking, ledger.scored(run.drafts)),
        "diversity": diversity([run.root / one.file for one in best]), "warnings": list(summary["warnings"]),
    }  # fmt: skip
    every = [(ledger.candidates[key], images, nfe, seconds) for key, images, nfe, seconds in ledger.curve]
    return row, [candidate_row(cell, run, one) for one in every]


def candidate_row(cell: Cell, run: Run, scored: Scored) -> CandidateRow:
    """The row of a candidate."""
    one, _, nfe, seconds = scored
    made = run.watch.ledger.images[one.id]
    return {
        "cell": cell.digest, "id": one.id, "seed": made.seed, "order": one.order, "steps": made.steps, "nfe": nfe,
        "seconds": seconds, "scores": numbers(one.scores), "file": f"{run.name}/{one.file}",
    }  # fmt: skip


def _shown(run: Run, one: Mapping[str, Any]) -> ShownCandidate:
    return {"id": one["id"], "seed": one["seed"], "scores": dict(one["scores"]), "file": f"{run.name}/{one['file']}"}


def curve(ranking: Ranking, rows: Sequence[Scored]) -> list[list[float | None]]:
    """The best so far, a point where it rose: images, NFE, seconds, value."""
    points: list[list[float | None]] = []
    for one in ranking.curve(rows):
        if not points or one.value != points[-1][3]:
            points.append([one.images, one.nfe, one.seconds, one.value])
    return points


def numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores as JSON has them: None where there is no number."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def diversity(best_first: Sequence[Path]) -> float | None:
    """Mean distance between the images of the best eight, root mean square per channel in [0, 1]; None of one."""
    arrays = [read_image(inside(path.parent, path.name))[0].astype(np.float32) / 255 for path in best_first[:FINALISTS]]
    pairs = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in itertools.combinations(arrays, 2)]
    return float(np.mean(pairs)) if pairs else None
