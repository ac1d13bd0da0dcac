"""The process that holds the model, as a whole server sees it: its jobs are counted, and loaded as the start says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisewright.run.reading import is_run, read_run
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
        """A job with the device and dtype of the server's start, where it says none; a run that is there keeps its."""
        device = self._settings.device
        if "request" not in job:
            return {**job, "device": job.get("device") or device}
        request = dict(job["request"])
        dtype = request.get("dtype") or _recorded(job.get("out"), {"dtype": self._settings.dtype}).get("dtype")
        return {**job, "request": {**request, "device": request.get("device") or device, "dtype": dtype}}

    def _count(self, job: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        state = "done" if found["ok"] else "stopped" if found["why"] == "stopped" else "failed"
        if found["ok"] and job["kind"] == "run":
            self._metrics.add_run(found["result"])
            state = "stopped" if found["result"]["interrupted"] else state
        self._metrics.add("noisewright_jobs_total", 1, "state", state)


def _recorded(out: str | None, new: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the run in a directory was asked for; ``new`` where there is none yet."""
    if out is None or not is_run(Path(out)):
        return new
    with suppress(ValueError, KeyError):  # which its own process says
        found: Mapping[str, Any] = read_run(Path(out))["request"]
        return found
    return {}


def jobs_now(jobs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many jobs of the page wait, and how many are being done, as metrics have it."""
    states = Counter(one["state"] for one in jobs)
    return {"noisewright_jobs_queue": states["waiting"], "noisewright_jobs_running": states["running"]}
