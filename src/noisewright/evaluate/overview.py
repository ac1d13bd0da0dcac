"""What a run directory says of itself, running or not: read from ``run.json`` and ``journal.jsonl`` alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright.run.explain import explain
from noisewright.run.follow import Watch
from noisewright.run.ledger import Ledger
from noisewright.run.particle import Candidate
from noisewright.run.ranking import Ranking
from noisewright.schemas.files import check_shown


def overview(root: str | Path) -> dict[str, Any]:
    """A JSON-ready summary of a finished, running, failed or interrupted run; a torn last line is left out.

    Returns:
        ``run, status, stopped, created, prompt, model, search, seed, settings, budget, verifiers, judges, images, nfe,
        forwards, seconds, value_name`` (what candidates are sorted by), ``candidates`` (full renderings before drafts,
        best first, each ``id, seed, scores, value, file, steps`` and of a draft ``draft``), ``why`` (the first against
        the second, see :func:`noisewright.run.explain.explain`), ``curve`` (best so far), ``best`` (a candidate with
        its ``lineage``) and ``baseline``, both None where there is none yet, ``warnings``, what is damaged, and
        ``resume``, the command that continues it.

    Raises:
        ValueError: where the directory is no run.
    """
    watch = Watch(root)
    watch.look()
    return overview_of(watch)


def overview_of(watch: Watch) -> dict[str, Any]:
    """As :func:`overview`, of a run as of the last look.

    Raises:
        ValueError: where its ``run.json`` does not say enough.
    """
    root, run, ledger = watch.root, watch.run, watch.ledger
    spec = check_shown(run, str(root / "run.json"))
    ranking = Ranking(tuple(one["name"] for one in spec["verifiers"]), spec["ensemble"])
    drafts = drafts_of(spec)
    pool = list(ledger.candidates.values())
    full = [one for one in pool if one.particle.kind != drafts]
    short = [one for one in pool if one.particle.kind == drafts]
    # Scores of drafts and of full renderings do not compare: each kind is sorted by itself, as the run sorts them.
    ranked = [_candidate(ledger, one, value) for some in (full, short) for one, value in ranking.best_first(some)]
    status = watch.status
    return {
        "run": str(root),
        "status": status,
        "stopped": run.get("stopped"),
        "created": run.get("created"),
        "prompt": spec["sampler"].get("prompt"),
        "model": spec["sampler"].get("model"),
        "search": spec["search"],
        "seed": spec["seed"],
        "settings": {**spec["sampler"], "search_args": spec.get("search_args", {}), "target": spec.get("target", {})},
        "budget": {unit: value for unit, value in spec["budget"].items() if value is not None},
        "ensemble": spec["ensemble"],
        "verifiers": list(ranking.names),
        "judges": [one["name"] for one in spec.get("judges", [])],
        "images": len(ledger.images),
        "nfe": ledger.spent.nfe,
        "forwards": ledger.spent.forwards,
        "seconds": _seconds(ledger, run),
        "value_name": ranking.name,
        "candidates": ranked,
        "why": explain(full or short, ranking),
        "curve": [{"images": one.images, "nfe": one.nfe, "seconds": one.seconds, "value": one.value,
                   "candidate": one.candidate} for one in ranking.curve(ledger.scored(drafts))],
        "best": {**ranked[0], "lineage": ledger.particles[ranked[0]["id"]].lineage()} if ranked else None,
        "baseline": _baseline(ranked, ledger, run),
        "warnings": watch.warnings,
        "resume": f"noisewright resume {root}" + (' --budget "..."' if status == "done" else ""),
    }  # fmt: skip


def drafts_of(spec: Mapping[str, Any]) -> tuple[int, str | None]:
    """What the particles of a run's search are (:attr:`noisewright.run.particle.Particle.kind`)."""
    return spec.get("search_steps_taken", spec["search_steps"]), spec.get("draft")


def has_drafts(spec: Mapping[str, Any]) -> bool:
    """Whether a run's search was to make cheaper images than its result."""
    steps = spec["sampler"].get("num_inference_steps", spec["search_steps"])
    return "draft" in spec or bool(spec["search_steps"] != steps)


def _candidate(ledger: Ledger, one: Candidate, value: float) -> dict[str, Any]:
    made = ledger.images[one.id]
    scores = {**one.scores, **ledger.judged.get(one.id, {})}
    shown = value if math.isfinite(value) else None
    draft = {} if one.particle.draft is None else {"draft": one.particle.draft}
    found = {"id": one.id, "seed": made.seed, "scores": scores, "value": shown, "file": made.file, "steps": made.steps}
    return found | draft


def _seconds(ledger: Ledger, run: dict[str, Any]) -> dict[str, float]:
    """By phase; the total of a finished run includes its pictures, which come after the journal's last line."""
    concluded = run.get("summary", {}).get("seconds", {}).get("total", 0.0) if run["status"] == "done" else 0.0
    found = {name: round(value, 4) for name, value in ledger.seconds.items()}
    return {**found, "total": max(round(ledger.spent.seconds, 4), concluded)}


def _baseline(ranked: list[dict[str, Any]], ledger: Ledger, run: dict[str, Any]) -> dict[str, Any] | None:
    """Candidate 0: the first seed, untouched, at the final number of steps; else what the result calls so."""
    spec = run["spec"]
    drafts = drafts_of(spec) if has_drafts(spec) else None
    for one in ranked:
        particle = ledger.particles[one["id"]]
        untouched = particle.verb == "denoise" and particle.parent.verb == "noise"
        if untouched and one["seed"] == spec["seed"] and particle.kind != drafts:
            return one
    known = run.get("summary", {}).get("baseline", {}).get("id")
    return next((one for one in ranked if one["id"] == known), None)
