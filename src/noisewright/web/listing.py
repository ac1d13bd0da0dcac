"""The list of runs and benchmarks: read once each, and again where one changed."""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisewright.benchmark.store import read_benchmark, status_of
from noisewright.outside.texts import clean
from noisewright.run.reading import read_run
from noisewright.schemas.files import check_shown
from noisewright.web.live import Live, Lives, used
from noisewright.web.places import FIGURES, found_in
from noisewright.web.settings import Settings

SCAN_SECONDS = 1.0
"""Between two looks through the directories."""

FILES = {"run": ("run.json", "journal.jsonl", ".lock"), "benchmark": ("benchmark.json", "rows.jsonl", ".lock")}

Stamp = tuple[tuple[int, int, int] | None, ...]


class Listing:
    """The runs and benchmarks of a server's directory. All methods may be called from any thread.

    Args:
        settings: of the server.
        lives: the runs that are followed.
    """

    def __init__(self, settings: Settings, lives: Lives) -> None:
        self._settings = settings
        self._lives = lives
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Stamp, dict[str, Any]]] = {}
        self._looked = -math.inf
        self._found: list[dict[str, Any]] = []
        self._version = secrets.randbits(32)  # another server of the same directory has said other numbers

    def all(self) -> tuple[int, list[dict[str, Any]]]:
        """All of them, the newest first, and a number that changes with any of them."""
        with self._lock:
            if time.monotonic() - self._looked >= SCAN_SECONDS:
                self._look()
                self._looked = time.monotonic()
            return self._version, self._found

    def _look(self) -> None:
        held = {}
        for name, kind, place in found_in(self._settings):
            stamp = _stamp(place, kind)
            before = self._held.get(name)
            if before is not None and before[0] == stamp and before[1]["status"] != "running":
                held[name] = before
            else:
                held[name] = stamp, self._facts(place, name, kind)
        self._held = held
        found = sorted((facts for _, facts in held.values()), key=lambda one: (one["created"] or "", one["name"]),
                       reverse=True)  # fmt: skip
        if found != self._found:
            self._found, self._version = found, self._version + 1


    def _facts(self, place: Path, name: str, kind: str) -> dict[str, Any]:
        """What the list says of one; of a damaged one why."""
        try:
            return _of_benchmark(place, name) if kind == "benchmark" else self._of_run(place, name)
        except (ValueError, TypeError, LookupError, OSError) as error:
            said = clean(str(error).replace(str(place), name) or type(error).__name__)
            return {"kind": kind, "name": name, "status": "damaged", "created": None, "error": said}

    def _of_run(self, place: Path, name: str) -> dict[str, Any]:
        run = read_run(place)
        if run["status"] == "running":
            return _of_live(self._lives.of(place, name))
        if run.get("summary") is None:
            live = Live(place, name)  # read once, and kept nowhere: whoever opens it reads it for longer
            live.refresh()
            return _of_live(live)
        return _concluded(place, name, run)


def _stamp(place: Path, kind: str) -> Stamp:
    return tuple(_stat(place / name) for name in FILES[kind])


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _concluded(place: Path, name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run that says itself what it came to."""
    spec, summary = check_shown(dict(run), str(place / "run.json")), run["summary"]
    budget = {unit: value for unit, value in spec["budget"].items() if value is not None}
    spent = {"images": summary["images"], "nfe": summary["nfe"], "seconds": summary["seconds"]["total"]}
    first = spec["verifiers"][0]["name"] if spec["verifiers"] else None
    return {
        "kind": "run", "name": name, "created": run.get("created"), "status": run["status"],
        "stopped": run.get("stopped"), **_asked(spec), "budget": budget, "spent": spent, "left": None,
        "used": used(budget, spent), "verifier": first,
        "best": _shown(summary.get("best"), first), "baseline": _shown(summary.get("baseline"), first),
    }  # fmt: skip


def _asked(spec: Mapping[str, Any]) -> dict[str, Any]:
    sampler = spec["sampler"]
    prompt = sampler.get("prompt")
    if not prompt and sampler.get("class_label") is not None:
        prompt = f"class {sampler['class_label']}"
    return {"prompt": prompt, "model": sampler.get("model"), "search": spec["search"], "seed": spec["seed"]}


def _shown(one: Mapping[str, Any] | None, verifier: str | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"id": one["id"], "seed": one["seed"], "score": one["scores"].get(verifier or "")}


def _of_live(live: Live) -> dict[str, Any]:
    head = live.head()
    first = head["verifiers"][0] if head["verifiers"] else None
    pair = {}
    for which in ("best", "baseline"):
        one = None if head[which] is None else live.candidate(head[which])
        pair[which] = None if one is None else {"id": one.id, "seed": one.seed,
                                                "score": _finite(one.scores.get(first or "", math.nan))}  # fmt: skip
    return {
        "kind": "run", "name": head["name"], "created": head["created"], "status": head["status"],
        "stopped": head["stopped"], **_asked(live.spec), "budget": head["budget"], "spent": head["spent"],
        "left": head["left"], "used": head["used"], "verifier": first, **pair,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _of_benchmark(place: Path, name: str) -> dict[str, Any]:
    held, spec = read_benchmark(place)
    figures = [one for one in FIGURES if (place / one).is_file()]
    return {
        "kind": "benchmark", "name": name, "created": held["created"], "status": status_of(place),
        "prompt": spec.title, "model": str(spec.base.get("model", "")), "search": None, "prompts": len(spec.prompts),
        "report": (place / "report.html").is_file(), "picture": figures[0] if figures else None,
    }  # fmt: skip
