"""What a run directory says of itself, running or not: read from ``run.json`` and ``journal.jsonl`` alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisewright.budget import PHASES
from noisewright.particle import ensemble_values, number_or_nan
from noisewright.schemas.files import check_shown
from noisewright.schemas.journal import check_journal
from noisewright.store import read_journal, read_run


@dataclass
class _Read:
    """The journal, added up."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    curve: list[tuple[str, int, int, float]] = field(default_factory=list)
    nfe: int = 0
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*PHASES, "total"), 0.0))


def overview(root: str | Path) -> dict[str, Any]:
    """A JSON-ready summary of a finished, running, failed or interrupted run; a torn last line is left out.

    Returns:
        ``run, status, stopped, created, prompt, model, search, seed, budget, verifiers, judges, images, nfe, forwards,
        seconds, candidates`` (full renderings before drafts, best first, each ``id, seed, scores, file, steps``),
        ``curve`` (best so far), ``best`` (a candidate with its ``lineage``) and ``baseline``, both None where there is
        none yet, and ``resume``, the command that continues it.

    Raises:
        ValueError: where the directory is no run, or a line inside its journal is damaged.
    """
    root = Path(root)
    run = read_run(root)
    spec = check_shown(run, str(root / "run.json"))
    read = _read(check_journal(read_journal(root), str(root / "journal.jsonl")))
    names = [one["name"] for one in spec["verifiers"]]
    drafts = spec.get("search_steps_taken", spec["search_steps"])
    full = [key for key in read.scored if read.made[key]["steps"] != drafts]
    short = [key for key in read.scored if read.made[key]["steps"] == drafts]
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
        "images": len(read.made),
        "nfe": read.nfe,
        "forwards": read.forwards,
        "seconds": _seconds(read, run),
        "candidates": [_candidate(read, key) for key in ordered],
        "curve": _curve(read, names, spec["ensemble"], drafts),
        "best": {**_candidate(read, ordered[0]), "lineage": read.made[ordered[0]]["lineage"]} if ordered else None,
        "baseline": _candidate(read, baseline) if baseline else None,
        "resume": f"noisewright resume {root}" + (' --budget "..."' if status == "done" else ""),
    }


def _read(records: list[dict[str, Any]]) -> _Read:
    read = _Read()
    for record in records:
        for phase, value in record.get("seconds", {}).items():
            read.seconds[phase] = read.seconds.get(phase, 0.0) + value
        read.nfe += record.get("nfe", 0)
        read.forwards += record.get("forwards", 0)
        read.seconds["total"] = record.get("elapsed", read.seconds["total"])
        if record["verb"] == "finish":
            for row, key in enumerate(record["ids"]):
                read.made[key] = {
                    "seed": record["seeds"][row], "file": record["files"][row], "steps": record["steps"],
                    "lineage": record["lineages"][row], "scores": {},
                }  # fmt: skip
        elif record["verb"] == "score":
            for row, key in enumerate(record["ids"]):
                scores = {name: number_or_nan(values[row]) for name, values in record["scores"].items()}
                read.made[key]["scores"] = scores
                read.scored.append(key)
                read.curve.append((key, len(read.scored), read.nfe, read.seconds["total"]))
        elif record["verb"] == "judge":
            for key, value in zip(record["ids"], record["scores"], strict=True):
                read.made[key]["scores"][record["judge"]] = number_or_nan(value)
    read.scored = list(dict.fromkeys(read.scored))
    return read


def _seconds(read: _Read, run: dict[str, Any]) -> dict[str, float]:
    """By phase; the total of a finished run includes its pictures, which come after the journal's last line."""
    concluded = run.get("summary", {}).get("seconds", {}).get("total", 0.0) if run["status"] == "done" else 0.0
    found = {name: round(value, 4) for name, value in read.seconds.items()}
    return {**found, "total": max(found["total"], concluded)}


def _values(read: _Read, keys: list[str], names: list[str], ensemble: str) -> list[float]:
    return ensemble_values([[read.made[key]["scores"].get(name, math.nan) for name in names] for key in keys], ensemble)


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _sorted(read: _Read, keys: list[str], names: list[str], ensemble: str) -> list[str]:
    values = dict(zip(keys, _values(read, keys, names, ensemble), strict=True))
    return sorted(keys, key=lambda key: -_number(values[key]))  # stable: ties go to the earlier


def _curve(read: _Read, names: list[str], ensemble: str, drafts: int) -> list[dict[str, Any]]:
    rows = [row for row in read.curve if read.made[row[0]]["steps"] == drafts]
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


def _baseline(read: _Read, run: dict[str, Any]) -> str | None:
    """Candidate 0: the first seed, untouched, at the final number of steps."""
    spec = run["spec"]
    known = run.get("summary", {}).get("baseline", {}).get("id")
    if known in read.made:
        return known
    short = spec["search_steps"] != spec["sampler"].get("num_inference_steps", spec["search_steps"])
    for key in read.scored:
        made = read.made[key]
        verbs = [step["verb"] for step in made["lineage"]]
        is_draft = short and made["steps"] == spec.get("search_steps_taken", spec["search_steps"])
        if verbs == ["noise", "denoise"] and made["seed"] == spec["seed"] and not is_draft:
            return key
    return None


def _candidate(read: _Read, key: str) -> dict[str, Any]:
    made = read.made[key]
    return {"id": key, **{name: made[name] for name in ("seed", "scores", "file", "steps")}}


def _status(root: Path, recorded: str) -> str:
    """The recorded status; ``killed`` where it says running but no process holds the journal."""
    if recorded != "running":
        return recorded
    try:
        import fcntl

        with (root / "journal.jsonl").open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return recorded
    return "killed"
