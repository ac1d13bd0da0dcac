"""Rows from a run: what the journal of a concluded one says of its cell, and of its candidates."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.benchmark.axes import label_of
from noisewright.benchmark.cells import Cell
from noisewright.benchmark.rows import CandidateRow, CellRow, ShownCandidate
from noisewright.benchmark.sharing import budget_of
from noisewright.evaluate.overview import drafts_of
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.outside.texts import clean
from noisewright.run.digests import digest_of
from noisewright.run.ledger import Ledger, recovery
from noisewright.run.particle import Candidate
from noisewright.run.ranking import Ranking
from noisewright.run.reading import read_journal, read_run
from noisewright.run.scores import failures_in
from noisewright.schemas.files import check_shown
from noisewright.schemas.journal import check_record

FINALISTS = 8
"""How many of the best are compared for the diversity."""

MOST_ERROR = 1000

Scored = tuple[Candidate, int, int, float]
"""A candidate, how many there were by then, NFE and seconds."""


@dataclass(frozen=True)
class Run:
    """A concluded run as its directory tells it, with the seconds that it was spared added: as it is by itself.

    Attributes:
        root: the directory.
        name: ``cells/DIGEST``.
        run: ``run.json``.
        records: the lines of its journal.
        ledger: their sum.
        ranking: how it sorts.
        drafts: the kind of the search's own images (:attr:`~noisewright.run.particle.Particle.kind`).
    """

    root: Path
    name: str
    run: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    ledger: Ledger
    ranking: Ranking
    drafts: tuple[int, str | None]

    @property
    def summary(self) -> Mapping[str, Any]:
        """What ``run.json`` says came of it."""
        found: Mapping[str, Any] = self.run["summary"]
        return found


def read_run_of(benchmark: Path, name: str) -> Run:
    """A concluded run of a benchmark, read once.

    Raises:
        ValueError: in one line, where it cannot be read.
    """
    root = benchmark / name
    run, ledger = read_run(root), Ledger(recovery(root))
    spec = check_shown(run, str(root / "run.json"))
    where = str(root / "journal.jsonl")
    records = [check_record(one, f"line {n} of {where}") for n, one in enumerate(read_journal(root), start=1)]
    run, records = _by_itself(run, records)
    for record in records:
        ledger.apply(record)
    ledger.forget([key for key in ledger.unknown if key in ledger.images])
    ranking = Ranking(tuple(one["name"] for one in spec["verifiers"]), spec["ensemble"])
    return Run(root, name, run, records, ledger, ranking, drafts_of(spec))


def _by_itself(run: dict[str, Any], records: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run and its lines with the time that work would have taken which was not done again (``spared``)."""
    spared, found = 0.0, []
    for record in records:
        spared += record.get("spared", 0.0)
        found.append({**record, "elapsed": round(record["elapsed"] + spared, 4)} if "elapsed" in record else record)
    summary = run["summary"]
    seconds = {**summary["seconds"], "total": round(summary["seconds"]["total"] + spared, 4)}
    return {**run, "summary": {**summary, "seconds": seconds}}, found


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


def rows_of(cell: Cell, run: Run) -> tuple[CellRow, list[CandidateRow]]:
    """The rows of a cell that is a run of its own."""
    ledger, summary = run.ledger, run.summary
    pool = list(ledger.candidates.values())
    full = [one for one in pool if one.particle.kind != run.drafts]
    short = [one for one in pool if one.particle.kind == run.drafts]
    best = [one for some in (full, short) for one, _ in run.ranking.best_first(some)]
    row: Any = {
        **head_of(cell), "status": "done", "run": run.name, "shared": False, "images": summary["images"],
        "nfe": summary["nfe"], "forwards": summary["forwards"], "seconds": dict(summary["seconds"]),
        "stopped": str(summary["stopped"]), "verifiers": list(run.ranking.names), "judges": list(summary["judges"]),
        "best": _shown(run, summary["best"]), "baseline": _shown(run, summary["baseline"]),
        "curve": curve(run.ranking, ledger.scored(run.drafts)),
        "diversity": diversity([run.root / one.file for one in best]), "warnings": list(summary["warnings"]),
        "fingerprints": _fingerprints(run),
    }  # fmt: skip
    every = [(ledger.candidates[key], images, nfe, seconds) for key, images, nfe, seconds in ledger.curve]
    return row, [candidate_row(cell, run, one) for one in every]


def rows_read_off(
    cell: Cell, run: Run, ledger: Ledger, ranking: Ranking, judges: Sequence[str], more: Sequence[str],
    fingerprints: Mapping[str, str],
) -> tuple[CellRow, list[CandidateRow]]:  # fmt: skip
    """The rows of a cell that was read off a run.

    Args:
        cell: the cell.
        run: of which the cell is a part.
        ledger: what the cell's own journal would say, its judges' scores included.
        ranking: how the cell sorts.
        judges: their names.
        more: what else the person should know.
        fingerprints: of its verifiers and judges, by name.
    """
    every = ledger.scored(run.drafts)
    best = [one for one, _ in ranking.best_first([row[0] for row in every])]
    closing = max(0.0, run.summary["seconds"]["total"] - run.ledger.spent.seconds)  # what came after the last line
    seconds = {**{name: round(value, 4) for name, value in ledger.seconds.items()},
               "total": round(ledger.spent.seconds + closing, 4)}  # fmt: skip
    others = set(failures_in(run.ledger, run.ranking.names))
    warnings = [one for one in run.summary["warnings"] if one not in others]
    row: Any = {
        **head_of(cell), "status": "done", "run": run.name, "shared": True, "images": ledger.spent.images,
        "nfe": ledger.spent.nfe, "forwards": ledger.spent.forwards, "seconds": seconds,
        "stopped": f"budget: {budget_of(cell.request)}", "verifiers": list(ranking.names), "judges": list(judges),
        "best": _of(run, ledger, best[0]), "baseline": _of(run, ledger, every[0][0]), "curve": curve(ranking, every),
        "diversity": diversity([run.root / one.file for one in best]),
        "warnings": [*warnings, *failures_in(ledger, ranking.names), *more],
        "fingerprints": {**fingerprints, **_model(run)},
    }  # fmt: skip
    return row, [candidate_row(cell, run, one) for one in every]


def _fingerprints(run: Run) -> dict[str, str]:
    """Of a run's verifiers, judges and model, by name."""
    spec = run.run["spec"]
    scorers = {one["name"]: one["fingerprint"] for one in (*spec["verifiers"], *spec.get("judges", ()))}
    return {**scorers, **_model(run)}


def _model(run: Run) -> dict[str, str]:
    """The fingerprint of what made a run's images, which is of one precision and of the LoRAs on it."""
    sampler = run.run["spec"]["sampler"]
    named = [f"the model {label_of(sampler.get('model'))}", str(sampler.get("dtype"))]
    loras = [_short(sampler["loras"])] if sampler.get("loras") else []
    return {" ".join([*named, *loras]): _short(sampler.get("fingerprint"))}


def _short(value: Any) -> str:
    return digest_of(json.dumps(value, sort_keys=True).encode())[:16]


def _of(run: Run, ledger: Ledger, one: Candidate) -> ShownCandidate:
    scores = numbers({**one.scores, **ledger.judged.get(one.id, {})})
    return {"id": one.id, "seed": ledger.images[one.id].seed, "scores": scores, "file": f"{run.name}/{one.file}"}


def candidate_row(cell: Cell, run: Run, scored: Scored) -> CandidateRow:
    """The row of a candidate."""
    one, _, nfe, seconds = scored
    made = run.ledger.images[one.id]
    row: CandidateRow = {
        "cell": cell.digest, "id": one.id, "seed": made.seed, "order": one.order, "steps": made.steps, "nfe": nfe,
        "seconds": seconds, "scores": numbers(one.scores), "file": f"{run.name}/{one.file}",
    }  # fmt: skip
    if one.particle.draft is not None:
        row["draft"] = one.particle.draft
    return row


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
