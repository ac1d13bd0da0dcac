"""The queue behind the images endpoint: jobs are noted, wait their turn, and become runs as any other's.

Who does them has one model in memory at a time (:class:`noisewright.web.work.Works`). Jobs of that model take turns at
it, a micro-batch each, so that a short one does not wait for a long one to end; a job of another model waits until
those that began are over, and no later one overtakes it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from noisewright.outside.inside import inside
from noisewright.outside.texts import clean
from noisewright.request import Request
from noisewright.samplers.quiet import quiet
from noisewright.web.openai.asking import check_offered, refused, request_of
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import GenerationFields
from noisewright.web.openai.jobs import ANSWERING, ID, Event, Job, note, notes_in, read_note
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.work import Works

log = logging.getLogger("noisewright")

REMEMBERED = 1000
"""Jobs that are over and known by their keys; older ones are read from their notes."""

GRACE_SECONDS = 1.0
"""After which a server that cancelled its tasks has said that it ends."""

FIRST_GUESS = 5.0
"""Seconds of a job, until one was timed."""


class Worker(Protocol):
    """Who does jobs: :class:`noisewright.web.work.Works` here, :class:`noisewright.web.process.Process` elsewhere."""

    def do(self, job: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]: ...

    def stop(self, key: str) -> None: ...


class ImagesService:
    """What takes requests, and gives jobs.

    Args:
        settings: what is offered.
        worker: who does them, which others may ask too; by default this process does.

    Attributes:
        metrics: what was done.
    """

    def __init__(self, settings: ImagesSettings, worker: Worker | None = None) -> None:
        self.settings = settings
        self._worker = Works() if worker is None else worker
        self._in_process = worker is None
        self.metrics = Metrics()
        self.fingerprints: dict[str, str] = {}
        self._changed = threading.Condition()
        self._line: deque[Job] = deque()
        self._active: dict[str, Job] = {}
        self._jobs: dict[str, Job] = {}
        self._keys: dict[str, str] = {}
        self._seconds = FIRST_GUESS
        self._ending = False
        self._workers: list[threading.Thread] = []
        self._quiet: Any = None
        self._why_not: str | None = None
        self._settled = threading.Event()

    # Its life

    def start(self) -> None:
        """Load the first model, take up what an earlier server accepted, and begin to work.

        Raises:
            ValueError: in one line, where the first model cannot be loaded, or the directory cannot be written.
        """
        try:
            self.settings.notes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"expected a directory that can be written, got {self.settings.runs}: "
                             f"{error.strerror or error}") from error  # fmt: skip
        if self._in_process:
            self._quiet = quiet()
            self._quiet.__enter__()
            try:
                self._load_first()
            except BaseException:
                self._quiet.__exit__(None, None, None)
                raise
        else:
            threading.Thread(target=self._load_first_or_say, name="noisewright-images", daemon=True).start()
        self._take_up()
        for number in range(self.settings.at_once):
            worker = threading.Thread(target=self._work, name=f"noisewright-images-{number}", daemon=True)
            worker.start()
            self._workers.append(worker)

    def refuse(self, why: str) -> None:
        """Take no requests, and say why."""
        self._why_not = why
        self._settled.set()

    def _load_first(self) -> None:
        """Load the first model, where that is wanted now, and remember what identifies it.

        Raises:
            ValueError: in one line, where it cannot be loaded.
        """
        try:
            if self.settings.load_first:
                name, model = next(iter(self.settings.models.items()))
                bare = Request(model=model, device=self.settings.device, dtype=self.settings.dtype)
                found = self._worker.do({"id": f"load_{secrets.token_hex(6)}", "kind": "load",
                                         "request": bare.to_json()}, _unheard)  # fmt: skip
                if not found["ok"]:
                    raise ValueError(found["error"])
                self.fingerprints[name] = found["result"]["fingerprint"]
        finally:
            self._settled.set()

    def _load_first_or_say(self) -> None:
        try:
            self._load_first()
        except ValueError as error:
            if not self._ending:
                log.warning("%s", clean(error, 500))

    @property
    def settled(self) -> bool:
        """Whether it is known what identifies the first model, as far as it will be."""
        return self._settled.is_set()

    def close(self, seconds: float = 30.0) -> None:
        """Stop after the micro-batches in flight; what is not over goes on when a server starts here again."""
        self.end()
        until = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        for job in [*self._line, *self._active.values()]:
            job.tell(Event("put off"))
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None

    def end(self) -> None:
        """Begin nothing more, and have what was begun stop soon; :meth:`close` waits for it."""
        with self._changed:
            self._ending = True
            active = list(self._active)
            self._changed.notify_all()
        for key in active:
            self._worker.stop(key)

    def _take_up(self) -> None:
        """Queue again what was accepted and is not over."""
        waiting = []
        for path in notes_in(self.settings.notes):
            try:
                job = read_note(path)
            except (ValueError, OSError) as error:
                log.warning("%s", clean(error, 500))
                continue
            if job.key:
                self._keys[job.key] = job.id
            if not job.is_over:
                waiting.append(job)
        for job in sorted(waiting, key=lambda one: (one.created, one.id)):
            job.state = "queued"
            self._jobs[job.id] = job
            try:
                check_offered(job.request, self.settings, self.settings.notes / job.id)
            except ValueError as error:
                self._end(job, "failed", str(error))
                continue
            self._line.append(job)

    # Asking

    def submit(
        self, fields: GenerationFields, kind: Literal["generation", "edit"] = "generation", key: str | None = None,
        pictures: Callable[[str], Mapping[str, Path]] | None = None,
    ) -> Job:  # fmt: skip
        """Accept a request, or refuse it.

        Args:
            fields: that were read.
            kind: the endpoint.
            key: the client's ``Idempotency-Key``: the same one is the same job.
            pictures: called with the job's id, writes its images and says where they are, by the pipeline's argument.

        Raises:
            ApiError: 400 or 404 on what cannot be done, 429 where the queue is full, 503 where the server ends.
        """
        hashed = hashlib.sha256(f"{kind} {key}".encode()).hexdigest() if key else ""
        known = self.find(self._keys.get(hashed, "")) if hashed else None
        if known is not None and known.state != "cancelled" and not known.leaving.is_set():
            return known
        self._check_room()
        found = f"img_{secrets.token_hex(12)}"
        try:
            files = pictures(found) if pictures else None
            request = request_of(fields, self.settings, secrets.randbelow(2**31), files)
        except BaseException:
            shutil.rmtree(self.settings.notes / found, ignore_errors=True)
            raise
        answering = {name: getattr(fields, name) for name in ANSWERING if getattr(fields, name) is not None}
        job = Job(found, kind, answering, request, int(time.time()), hashed)
        with self._changed:
            self._check_room()
            self._write(job)
            self._jobs[job.id] = job
            if hashed:
                self._keys[hashed] = job.id
            self._line.append(job)
            self._changed.notify_all()
        return job

    def _check_room(self) -> None:
        with self._changed:
            if self._why_not is not None:
                raise ApiError(503, self._why_not, code="unavailable")
            if self._ending:
                raise ApiError(503, "the server is being stopped", code="stopping", headers={"Retry-After": "10"})
            if len(self._line) >= self.settings.queue:
                seconds = max(1, round(self._seconds * len(self._line)))
                raise ApiError(429, f"the queue is full ({len(self._line)} requests wait)", code="queue_full",
                               headers={"Retry-After": str(min(seconds, 600))})  # fmt: skip

    def find(self, job_id: str) -> Job | None:
        """A job by its id, from memory or from its note."""
        with self._changed:
            if job_id in self._jobs:
                return self._jobs[job_id]
        if not ID.fullmatch(job_id):
            return None
        with suppress(ValueError, OSError):  # there is none, or it is damaged
            return read_note(inside(self.settings.notes, f"{job_id}.json"))
        return None

    def leave(self, job: Job, cancelled: bool = False) -> None:
        """Nobody waits for a job any more: it ends after its micro-batch, and what was made is kept.

        Args:
            job: which.
            cancelled: whether that is known from a cancelled task alone, which a server that ends does as well: then
                it is looked a moment later which of the two it was.
        """
        if cancelled:
            timer = threading.Timer(GRACE_SECONDS, lambda: None if self._ending or job.is_over else self.leave(job))
            timer.daemon = True
            timer.start()
            return
        job.leaving.set()
        with self._changed:
            waiting = job in self._line
            if waiting:
                self._line.remove(job)
        if waiting:
            self._end(job, "cancelled", "the client went away before it began")
        else:
            self._worker.stop(job.id)

    def directory(self, job: Job) -> Path:
        """The run directory of a job."""
        return self.settings.runs / job.id

    def open_jobs(self) -> list[Job]:
        """Those that are not over: who take turns, and who wait, each as they came."""
        with self._changed:
            return [*self._active.values(), *self._line]

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._line)

    @property
    def running(self) -> int:
        """How many take turns."""
        return len(self._active)

    # Working

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._line)
                if self._ending:
                    return
                job = self._line.popleft()
                self._active[job.id] = job
                job.state = "running"
            self.metrics.add("noisewright_waited_seconds_total", max(0.0, time.time() - job.created))
            try:
                self._do(job)
            finally:
                with self._changed:
                    del self._active[job.id]
                    self._changed.notify_all()

    def _do(self, job: Job) -> None:
        began = time.monotonic()
        work = {"id": job.id, "kind": "run", "request": job.request.to_json(), "out": str(self.directory(job)),
                "pictures": False}  # fmt: skip
        try:
            found = self._worker.do(work, lambda event: self._heard(job, event))
        except Exception as error:  # of one job alone, perhaps: the others go on
            found = {"ok": False, "why": "failed", "error": f"{type(error).__name__}: {error}"}
        if found["ok"]:
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - began)
            self._ended(job, found["result"])
        elif not self._is_put_off(job, found["why"]):
            self._failed(job, found["why"], found["error"])

    def _heard(self, job: Job, event: Mapping[str, Any]) -> None:
        """What its worker says of a job on the way."""
        if job.leaving.is_set() or self._ending:
            self._worker.stop(job.id)
        if event["kind"] == "begun":
            job.tell(Event("begun"))
        elif event["kind"] == "better":
            job.tell(Event("better", Path(event["file"]), event["done"]))

    def _ended(self, job: Job, result: Mapping[str, Any]) -> None:
        self.metrics.add("noisewright_images_total", result["images"])
        self.metrics.add("noisewright_nfe_total", result["nfe"])
        for phase, seconds in result["seconds"].items():
            self.metrics.add("noisewright_seconds_total", seconds, "phase", phase)
        if not result["interrupted"]:
            self._end(job, "done")
        elif job.leaving.is_set():
            self._end(job, "cancelled", "the client went away")
        elif not self._is_put_off(job, "stopped"):
            self._end(job, "done")  # somebody stopped its run: what there is, is the answer

    def _failed(self, job: Job, why: str, said: str) -> None:
        if why == "stopped":
            gone = job.leaving.is_set()
            self._end(job, "cancelled", "the client went away before the first image" if gone else said)
        elif why == "verifier":
            self._end(job, "failed", said, ApiError(500, said, code="verifier_failed"))
        elif why == "wrong":
            self._end(job, "failed", said, refused(ValueError(said)))
        else:
            log.warning("%s failed: %s", job.id, clean(said, 500))
            self._end(job, "failed", said, ApiError(500, said, code="failed"))

    def _is_put_off(self, job: Job, why: str) -> bool:
        """Whether a job was stopped because the server ends: its note stays as it is, for the next one."""
        return self._ending and not job.leaving.is_set() and why in ("stopped", "failed")

    def _end(self, job: Job, state: Literal["done", "failed", "cancelled"], why: str = "",
             error: ApiError | None = None) -> None:  # fmt: skip
        self.metrics.add("noisewright_requests_total", 1, "state", state)
        job.settle(state, why, error)
        try:
            self._write(job)
        except ApiError as failed:  # it will be done once more, which costs little: its run is there
            log.warning("%s: %s", job.id, failed)
        job.tell(Event("over"))
        with self._changed:
            over = [name for name, one in self._jobs.items() if one.is_over]
            for name in over[: max(0, len(over) - REMEMBERED)]:
                self._keys.pop(self._jobs.pop(name).key, None)

    def _write(self, job: Job) -> None:
        try:
            note(job, self.settings.notes)
        except OSError as error:
            raise ApiError(503, f"the request cannot be noted: {error.strerror or type(error).__name__}") from error


def _unheard(event: Mapping[str, Any]) -> None:
    """Of what is said on the way nobody wants to know."""
