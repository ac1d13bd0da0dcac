"""What a run directory says of itself, running or not: read from ``run.json`` and ``journal.jsonl`` alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noisewright.run.ledger import Ledger
from noisewright.run.locks import is_being_written
from noisewright.run.particle import ensemble_values
from noisewright.run.store import damaged_lines, is_intact, read_journal, read_run
from noisewright.schemas.files import check_shown
from noisewright.schemas.journal import check_record


def overview(root: str | Path) -> dict[str, Any]:
    """A JSON-ready summary of a finished, running, failed or interrupted run; a torn last line is left out.

    Returns:
        ``run, status, stopped, created, prompt, model, search, seed, budget, verifiers, judges, images, nfe, forwards,
        seconds, candidates`` (full renderings before drafts, best first, each ``id, seed, scores, file, steps``),
        ``curve`` (best so far), ``best`` (a candidate with its ``lineage``) and ``baseline``, both None where there is
        none yet, ``warnings``, what is damaged, and ``resume``, the command that continues it.

    Raises:
        ValueError: where the directory is no run.
    """
    root = Path(root)
    run = read_run(root)
    spec = check_shown(run, str(root / "run.json"))
    read = _read(root, read_journal(root))
    names = [one["name"] for one in spec["verifiers"]]
    drafts = spec.get("search_steps_taken", spec["search_steps"])
    full = [key for key in read.candidates if read.images[key].steps != drafts]
    short = [key for key in read.candidates if read.images[key].steps == drafts]
    # Scores of drafts and of full renderings do not compare: each kind is sorted by itself, as the run sorts them.
    ordered = [key for pool in (full, short) for key in _sorted(read, pool, names, spec["ensemble"])]
    baseline = _baseline(read, run)
    status = _status(root, run["status"])
    return {
        "run": str(root),
        "status": status,
        "stopped": run.get("stopped"),
        "created": run.get("created"),
        "prompt": spec["sampler"].get("prompt"),
        "model": spec["sampler"].get("model"),
        "search": spec["search"],
        "seed": spec["seed"],
        "budget": {unit: value for unit, value in spec["budget"].items() if value is not None},
        "ensemble": spec["ensemble"],
        "verifiers": names,
        "judges": [one["name"] for one in spec.get("judges", [])],
        "images": len(read.images),
        "nfe": read.spent.nfe,
        "forwards": read.spent.forwards,
        "seconds": _seconds(read, run),
        "candidates": [_candidate(read, key) for key in ordered],
        "curve": _curve(read, names, spec["ensemble"], drafts),
        "best": _with_lineage(read, ordered[0]) if ordered else None,
        "baseline": _candidate(read, baseline) if baseline else None,
        "warnings": _warnings(root),
        "resume": f"noisewright resume {root}" + (' --budget "..."' if status == "done" else ""),
    }


def _warnings(root: Path) -> list[str]:
    found = []
    bad = damaged_lines(root)
    if bad:
        found.append(f"{bad} damaged lines of {root / 'journal.jsonl'} are left out; resume makes what is missing")
    if not is_intact(root):
        found.append(f"{root / 'run.json'} was changed or damaged since it was written")
    return found


def _read(root: Path, records: Iterable[dict[str, Any]]) -> Ledger:
    read = Ledger()
    for number, record in enumerate(records, start=1):
        read.apply(check_record(record, f"line {number} of {root / 'journal.jsonl'}"))
    read.forget([*read.unknown])  # their line is damaged: they are made again when the run goes on
    return read


def _scores(read: Ledger, key: str) -> dict[str, float]:
    return {**read.candidates[key].scores, **read.judged.get(key, {})}


def _with_lineage(read: Ledger, key: str) -> dict[str, Any]:
    return {**_candidate(read, key), "lineage": read.particles[key].lineage()}


def _seconds(read: Ledger, run: dict[str, Any]) -> dict[str, float]:
    """By phase; the total of a finished run includes its pictures, which come after the journal's last line."""
    concluded = run.get("summary", {}).get("seconds", {}).get("total", 0.0) if run["status"] == "done" else 0.0
    found = {name: round(value, 4) for name, value in read.seconds.items()}
    return {**found, "total": max(round(read.spent.seconds, 4), concluded)}


def _values(read: Ledger, keys: list[str], names: list[str], ensemble: str) -> list[float]:
    return ensemble_values([[_scores(read, key).get(name, math.nan) for name in names] for key in keys], ensemble)


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _sorted(read: Ledger, keys: list[str], names: list[str], ensemble: str) -> list[str]:
    values = dict(zip(keys, _values(read, keys, names, ensemble), strict=True))
    return sorted(keys, key=lambda key: -_number(values[key]))  # stable: ties go to the earlier


def _curve(read: Ledger, names: list[str], ensemble: str, drafts: int) -> list[dict[str, Any]]:
    rows = [row for row in read.curve if read.images[row[0]].steps == drafts]
    points: list[dict[str, Any]] = []
    best, holder = -math.inf, ""
    for (key, images, nfe, seconds), value in zip(
        rows, _values(read, [row[0] for row in rows], names, ensemble), strict=True
    ):
        if _number(value) > best or not holder:
            best, holder = _number(value), key
        if best == -math.inf:
            continue  # nothing has a number yet
        points.append({"images": images, "nfe": nfe, "seconds": seconds, "value": best, "candidate": holder})
    return points


def _baseline(read: Ledger, run: dict[str, Any]) -> str | None:
    """Candidate 0: the first seed, untouched, at the final number of steps."""
    spec = run["spec"]
    known = run.get("summary", {}).get("baseline", {}).get("id")
    if known in read.candidates:
        return known
    short = spec["search_steps"] != spec["sampler"].get("num_inference_steps", spec["search_steps"])
    for key, one in read.candidates.items():
        is_draft = short and read.images[key].steps == spec.get("search_steps_taken", spec["search_steps"])
        untouched = one.particle.verb == "denoise" and one.particle.parent.verb == "noise"
        if untouched and one.seed == spec["seed"] and not is_draft:
            return key
    return None


def _candidate(read: Ledger, key: str) -> dict[str, Any]:
    made = read.images[key]
    return {"id": key, "seed": made.seed, "scores": _scores(read, key), "file": made.file, "steps": made.steps}


def _status(root: Path, recorded: str) -> str:
    """The recorded status; ``killed`` where it says running but no process is writing."""
    return "killed" if recorded == "running" and is_being_written(root) is False else recorded
