"""One job of the images endpoint, done: its run, what is told of it on the way, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from noisewright.outside.texts import clean
from noisewright.request import Request
from noisewright.run.reading import read_run
from noisewright.web.openai.asking import images_for, refused
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.jobs import Event, Job
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.public import without_paths
from noisewright.web.openai.settings import ImagesSettings

log = logging.getLogger("noisewright")

FIRST_GUESS = 5.0
"""Seconds of a job, until one was timed."""


class Worker(Protocol):
    """Who does jobs: :class:`noisewright.web.work.Works` here, :class:`noisewright.web.process.Process` elsewhere."""

    def do(self, job: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]: ...

    def stop(self, key: str) -> None: ...


@dataclass(frozen=True)
class Ended:
    """How a job ended, as :meth:`Job.settle` takes it."""

    state: Literal["done", "failed", "cancelled"]
    why: str = ""
    error: ApiError | None = None


class Doer:
    """Does jobs. All methods may be called from any thread.

    Args:
        settings: of the endpoint.
        worker: who does what needs a model.
        metrics: where it counts.
        is_ending: whether the server ends, and what is stopped goes on with the next one.
        learn: told what was typed of a model, and what identifies it, when it was loaded.

    Attributes:
        seconds: that a job takes, of late.
    """

    def __init__(
        self, settings: ImagesSettings, worker: Worker, metrics: Metrics, is_ending: Callable[[], bool],
        learn: Callable[[str | None, Any], None],
    ) -> None:  # fmt: skip
        self.seconds = FIRST_GUESS
        self._settings = settings
        self._worker = worker
        self._metrics = metrics
        self._is_ending = is_ending
        self._learn = learn

    def do(self, job: Job) -> Ended | None:
        """Do a job when its turn comes, and say how it ended; None where it is put off, since the server ends."""
        began = time.monotonic()
        found = self._asked(job, job.request)
        budget = self._too_few(job, found)
        if budget is not None:
            job.stopped, before = found["result"]["stopped"], found["result"]
            self._metrics.add_run(before)
            found = self._asked(job, job.request.changed(budget=[f"{budget} images"], target=None))
            if found["ok"]:
                found = {**found, "result": _without(before, found["result"])}
        if found["ok"]:
            self.seconds = 0.8 * self.seconds + 0.2 * (time.monotonic() - began)
            return self._ended(job, found["result"])
        return None if self._is_put_off(job, found["why"]) else self._failed(job, found["why"], found["error"])

    def _asked(self, job: Job, request: Request) -> dict[str, Any]:
        """What comes of a job's run with a request."""
        work = {"id": job.id, "kind": "run", "request": request.to_json(), "out": str(self._settings.runs / job.id),
                "pictures": False}  # fmt: skip
        try:
            return self._worker.do(work, lambda event: self._heard(job, event))
        except Exception as error:  # of one job alone, perhaps: the others go on
            return {"ok": False, "why": "failed", "error": f"{type(error).__name__}: {error}"}

    def _too_few(self, job: Job, found: Mapping[str, Any]) -> int | None:
        """The images with which a search comes to as many different ones as are wanted, where it ended before that.

        A target may be reached by the first image, and a budget in seconds or NFE is spent when it is: what was asked
        for is there all the same.
        """
        wanted = job.request.keep or 1
        if not found["ok"] or found["result"]["interrupted"] or wanted == 1 or job.stopped:
            return None
        with suppress(ValueError, KeyError, TypeError):
            there = len(read_run(self._settings.runs / job.id)["summary"]["kept"])
            return images_for(job.request, wanted, there, found["result"]["images"]) if there < wanted else None
        return None

    def _heard(self, job: Job, event: Mapping[str, Any]) -> None:
        """What its worker says of a job on the way."""
        if job.leaving.is_set() or self._is_ending():
            self._worker.stop(job.id)
        if event["kind"] == "begun":
            self._learn(job.request.model, event.get("fingerprint"))
            job.tell(Event("begun"))
        elif event["kind"] == "better":
            job.tell(Event("better", Path(event["file"]), event["done"]))

    def _ended(self, job: Job, result: Mapping[str, Any]) -> Ended | None:
        self._metrics.add_run(result)
        if not result["interrupted"]:
            return Ended("done")
        if job.leaving.is_set():
            return Ended("cancelled", job.left)
        return None if self._is_put_off(job, "stopped") else Ended("done")  # somebody stopped its run: that is it

    def _failed(self, job: Job, why: str, said: str) -> Ended:
        said = without_paths(said, self._settings)
        if why == "stopped":
            gone = job.leaving.is_set()
            return Ended("cancelled", f"{job.left} before the first image" if gone else said)
        if why == "verifier":
            return Ended("failed", said, ApiError(500, said, code="verifier_failed"))
        if why == "wrong":
            return Ended("failed", said, refused(said))
        log.warning("%s failed: %s", job.id, clean(said, 500))
        return Ended("failed", said, ApiError(500, said, code="failed"))

    def _is_put_off(self, job: Job, why: str) -> bool:
        """Whether a job was stopped because the server ends: its note stays as it is, for the next one."""
        return self._is_ending() and not job.leaving.is_set() and why in ("stopped", "failed")


def _without(before: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run took since it had come to ``before``."""
    seconds = {phase: took - before["seconds"].get(phase, 0.0) for phase, took in result["seconds"].items()}
    less = {name: result[name] - before[name] for name in ("images", "nfe")}
    return {**result, **less, "seconds": seconds}
