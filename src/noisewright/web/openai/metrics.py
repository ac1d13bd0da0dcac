"""What the service has done, counted, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

HELP = {
    "noisewright_requests_total": ("counter", "Requests for images, by how they ended."),
    "noisewright_jobs_total": ("counter", "Jobs of the page, by how they ended."),
    "noisewright_refused_total": ("counter", "Requests that were refused or failed, by status."),
    "noisewright_images_total": ("counter", "Images that searches made."),
    "noisewright_nfe_total": ("counter", "Guided model evaluations."),
    "noisewright_seconds_total": ("counter", "Seconds of searches, by phase."),
    "noisewright_waited_seconds_total": ("counter", "Seconds that requests waited before they began."),
    "noisewright_queue": ("gauge", "Requests that wait."),
    "noisewright_running": ("gauge", "Requests that take turns at the model."),
    "noisewright_jobs_queue": ("gauge", "Jobs of the page that wait."),
    "noisewright_jobs_running": ("gauge", "Jobs of the page that are being done."),
}
"""Kind and meaning of each."""


class Metrics:
    """Numbers that grow, safe in any thread; labels are words of our own, never a client's text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[tuple[str, str, str]] = Counter()

    def add(self, name: str, amount: float = 1, label: str = "", value: str = "") -> None:
        """Count ``amount`` more of a name, under ``label="value"`` where there is one."""
        with self._lock:
            self._counted[(name, label, value)] += amount  # type: ignore[assignment]

    def refused(self, status: int) -> None:
        """Count a request that was refused or failed."""
        self.add("noisewright_refused_total", 1, "status", str(status))

    def add_run(self, result: Mapping[str, Any]) -> None:
        """Count what a run took: its ``images``, ``nfe``, and ``seconds`` by phase."""
        self.add("noisewright_images_total", result["images"])
        self.add("noisewright_nfe_total", result["nfe"])
        for phase, seconds in result["seconds"].items():
            self.add("noisewright_seconds_total", seconds, "phase", phase)

    def text(self, now: Mapping[str, float]) -> str:
        """All of them, with the gauges of ``now``."""
        with self._lock:
            counted = dict(self._counted)
        lines = []
        for name, (kind, meaning) in HELP.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            if kind == "gauge":
                lines.append(f"{name} {now.get(name, 0):g}")
            found = sorted((label, value, amount) for (one, label, value), amount in counted.items() if one == name)
            for label, value, amount in found:
                labels = f'{{{label}="{value}"}}' if label else ""
                lines.append(f"{name}{labels} {amount:.10g}")
        return "\n".join(lines) + "\n"
