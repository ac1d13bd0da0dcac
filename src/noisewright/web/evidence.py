"""Routes of the evidence: reports of benchmarks, and comparisons of schedules that were kept as files."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noisewright.evaluate.page import SORTING
from noisewright.outside.inside import inside
from noisewright.outside.reading import read_bytes
from noisewright.outside.texts import clean
from noisewright.schemas.reading import read_json
from noisewright.web.parts import Parts, in_thread
from noisewright.web.pictures import file_in
from noisewright.web.places import directory

MOST_REPORT = 2**28
MOST_COMPARISON = 2**20
MOST_FILES = 200

REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SORTING.encode()).digest()).decode()}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""Of a report, a file that anybody may have written: of scripts only the one that sorts tables, and nothing of this
server's is open to it."""


def routes(parts: Parts) -> list[Route]:
    """All of them."""
    return [
        Route("/report", in_thread(lambda request: _report(parts, request))),
        Route("/api/evidence", in_thread(lambda request: _evidence(parts))),
    ]


def _report(parts: Parts, request: Request) -> Response:
    """A benchmark's own report, shut in."""
    place = directory(parts.settings, request.query_params.get("run", ""), "benchmark")
    data = read_bytes(file_in(place, "report.html"), "a report", most=MOST_REPORT)
    headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN", "Cache-Control": "no-cache"}
    return Response(data, media_type="text/html; charset=utf-8", headers=headers)


def _evidence(parts: Parts) -> Any:
    found = [one for one in parts.listing.all()[1] if one["kind"] == "benchmark"]
    comparing = comparisons(parts.settings.runs) if parts.settings.only is None else []
    return {"benchmarks": found, "comparisons": comparing}


def comparisons(runs: Path) -> list[dict[str, Any]]:
    """What ``noisewright schedule compare --json > FILE.json`` wrote into the server's directory.

    Returns:
        Each with ``file``, ``samples``, ``prompts``, ``over``, ``metrics`` and ``rows``: ``schedule, solver, steps,
        nfe`` and by metric ``value``, ``low``, ``high``, ``change`` with its interval or None.
    """
    found = []
    with os.scandir(runs) as entries:
        names = sorted(one.name for one in entries if one.name.endswith(".json") and not one.name.startswith("."))
    for name in names[:MOST_FILES]:
        try:
            held = read_json(inside(runs, name), "a comparison", most=MOST_COMPARISON)
            one = _comparison(name, held)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            continue
        found.append(one)
    return found


def _comparison(name: str, held: Mapping[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "schedule": clean(row["schedule"]), "solver": clean(row["solver"]), "steps": int(row["steps"]),
            "nfe": int(row["nfe"]), "metrics": {clean(key): _metric(one) for key, one in row["metrics"].items()},
        }
        for row in held["schedules"]
    ]  # fmt: skip
    metrics = list(dict.fromkeys(key for row in rows for key in row["metrics"]))
    return {"file": name, "samples": int(held["samples"]), "prompts": int(held["prompts"]),
            "over": clean(held["intervals_over"]), "metrics": metrics, "rows": rows}  # fmt: skip


def _metric(one: Mapping[str, Any]) -> dict[str, Any]:
    low, high = one["interval"]
    change: Any = one.get("change")
    ends: Any = one.get("change_interval") or (None, None)
    return {"value": _number(one["value"]), "low": _number(low), "high": _number(high), "change": _number(change),
            "change_low": _number(ends[0]), "change_high": _number(ends[1])}  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
