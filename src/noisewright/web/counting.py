"""The process that holds the model, as a whole server sees it: its jobs are counted, and loaded as the start says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noisewright.web.openai.jobs import ID
from noisewright.web.openai.metrics import Metrics
from noisewright.web.process import Process, Tell
from noisewright.web.queue import FOLDER
from noisewright.web.settings import Settings


class Counting(Process):
    """A :class:`Process` that counts what the page has it do (the images endpoint counts its requests itself).

    Args:
        settings: of the server: its device and dtype are those of jobs that say none.
        metrics: where it counts.

    Attributes:
        learn: told what was typed of a model, and what identifies it, when it was loaded.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        super().__init__(settings.runs / FOLDER)
        self.learn: Callable[[str | None, Any], None] = lambda model, fingerprint: None
        self._settings = settings
        self._metrics = metrics

    def do(self, job: Mapping[str, Any], tell: Tell = lambda event: None) -> dict[str, Any]:
        """As :meth:`Process.do`."""
        job = self._placed(job)

        def heard(event: Mapping[str, Any]) -> None:
            if event["kind"] == "begun":
                self.learn(job["request"].get("model"), event.get("fingerprint"))
            tell(event)

        found = super().do(job, heard)
        if job["kind"] in ("run", "score") and not ID.fullmatch(job["id"]):
            self._count(job, found)
        return found

    def _placed(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """A job with the device and the dtype of the server's start, where it says none."""
        ours = {"device": self._settings.device, "dtype": self._settings.dtype}
        if "request" not in job:
            return {**job, "device": job.get("device") or ours["device"]}
        request = dict(job["request"])
        return {**job, "request": request | {name: request.get(name) or value for name, value in ours.items()}}

    def _count(self, job: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        state = "done" if found["ok"] else "stopped" if found["why"] == "stopped" else "failed"
        if found["ok"] and job["kind"] == "run":
            self._metrics.add_run(found["result"])
            state = "stopped" if found["result"]["interrupted"] else state
        self._metrics.add("noisewright_jobs_total", 1, "state", state)


def jobs_now(jobs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many jobs of the page wait, and how many are being done, as metrics have it."""
    states = Counter(one["state"] for one in jobs)
    return {"noisewright_jobs_queue": states["waiting"], "noisewright_jobs_running": states["running"]}
