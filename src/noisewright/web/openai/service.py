"""The queue behind the images endpoint: jobs are noted, wait their turn, and become runs as any other's.

One model is in memory at a time. Jobs of that model take turns at it, a micro-batch each, so that a short one does not
wait for a long one to end; a job of another model waits until those that began are over, and no later one overtakes it.
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
from typing import Any, Literal

from noisewright.errors import BudgetExhausted, Stopped, VerifierFailed
from noisewright.execute import execute
from noisewright.outside.inside import inside
from noisewright.outside.texts import clean
from noisewright.planning import load_requested, plan_on, recordable
from noisewright.request import Request
from noisewright.result import Result
from noisewright.run.verbs import Run
from noisewright.samplers.quiet import quiet
from noisewright.web.openai.asking import check_offered, refused, request_of
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import GenerationFields
from noisewright.web.openai.jobs import ANSWERING, ID, Event, Job, note, notes_in, read_note
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.openai.turns import Turns

log = logging.getLogger("noisewright")

REMEMBERED = 1000
"""Jobs that are over and known by their keys; older ones are read from their notes."""

GRACE_SECONDS = 1.0
"""After which a server that cancelled its tasks has said that it ends."""

FIRST_GUESS = 5.0
"""Seconds of a job, until one was timed."""


class ImagesService:
    """What takes requests, and gives jobs.

    Args:
        settings: what is offered.

    Attributes:
        metrics: what was done.
    """

    def __init__(self, settings: ImagesSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.fingerprints: dict[str, str] = {}
        self._changed = threading.Condition()
        self._line: deque[Job] = deque()
        self._active: dict[str, Job] = {}
        self._jobs: dict[str, Job] = {}
        self._keys: dict[str, str] = {}
        self._turns = Turns()
        self._model: tuple[Any, Any, dict[str, Any]] | None = None
        self._seconds = FIRST_GUESS
        self._ending = False
        self._workers: list[threading.Thread] = []
        self._quiet: Any = None

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
        with quiet():
            self._load_first()
        self._quiet = quiet()
        self._quiet.__enter__()
        self._take_up()
        for number in range(self.settings.at_once):
            worker = threading.Thread(target=self._work, name=f"noisewright-images-{number}", daemon=True)
            worker.start()
            self._workers.append(worker)

    def _load_first(self) -> None:
        """Load the first model, where that is wanted now."""
        if self.settings.load_first:
            name, model = next(iter(self.settings.models.items()))
            pipe, _ = self._loaded(self._bare(model))
            self._tell_fingerprint(name, pipe)

    def close(self, seconds: float = 30.0) -> None:
        """Stop after the micro-batches in flight; what is not over goes on when a server starts here again."""
        with self._changed:
            self._ending = True
            for job in self._active.values():
                if job.run is not None:
                    job.run.stop()
            self._changed.notify_all()
        until = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        for job in [*self._line, *self._active.values()]:
            job.tell(Event("put off"))
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None

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
            run = job.run
        if waiting:
            self._end(job, "cancelled", "the client went away before it began")
        elif run is not None:
            run.stop()

    def directory(self, job: Job) -> Path:
        """The run directory of a job."""
        return self.settings.runs / job.id

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
                self._changed.wait_for(lambda: self._ending or self._next_fits())
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

    def _next_fits(self) -> bool:
        """Whether the first that waits may begin: it is of the model that those which began have."""
        if not self._line:
            return False
        first = self._line[0].request.model
        return all(one.request.model == first for one in self._active.values())

    def _do(self, job: Job) -> None:
        began = time.monotonic()
        try:
            with self._turns.turn():
                result = self._searched(job)
        except (Stopped, BudgetExhausted):
            if not self._is_put_off(job):
                self._end(job, "cancelled", "the client went away before the first image")
        except VerifierFailed as error:
            self._end(job, "failed", str(error), ApiError(500, str(error), code="verifier_failed"))
        except (ValueError, TypeError) as error:
            self._end(job, "failed", str(error), refused(error))
        except Exception as error:  # of one job alone, perhaps: the others go on
            text = f"{type(error).__name__}: {error}"
            log.warning("%s failed: %s", job.id, clean(text, 500))
            self._end(job, "failed", text, ApiError(500, text, code="failed"))
        else:
            self._count(result)
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - began)
            if result.interrupted and not job.leaving.is_set():
                if not self._is_put_off(job):
                    self._end(job, "done")  # somebody stopped its run: what there is, is the answer
            elif result.interrupted:
                self._end(job, "cancelled", "the client went away")
            else:
                self._end(job, "done")

    def _is_put_off(self, job: Job) -> bool:
        """Whether a job was stopped because the server ends: its note stays as it is, for the next one."""
        return self._ending and not job.leaving.is_set()

    def _searched(self, job: Job) -> Result:
        """The run of a job."""
        if job.leaving.is_set():
            raise Stopped("stopped")
        pipe, known = self._loaded(job.request)
        request, _ = recordable(job.request)
        plan = plan_on(request, pipe, known=known)
        job.tell(Event("begun"))
        shares = plan.budget.seconds is None  # a budget in seconds is not spent waiting for others
        best = ""

        def after(run: Run) -> None:
            nonlocal best
            job.run = run
            if job.leaving.is_set() or self._ending:
                run.stop()
            found = run.best
            if found is not None and found.id != best:
                best = found.id
                job.tell(Event("better", run.store.root / found.file))
            if shares:
                self._turns.pass_on()

        return execute(plan, self.directory(job), after, pictures=False)

    def _bare(self, model: str) -> Request:
        return Request(model=model, device=self.settings.device, dtype=self.settings.dtype)

    def _loaded(self, request: Request) -> tuple[Any, dict[str, Any]]:
        """The pipeline of a request, and the verifiers that were made beside it; one model is held at a time."""
        key = request.model, request.device, request.dtype
        if self._model is None or self._model[0] != key:
            self._model = None
            pipe = load_requested(request.located())
            self._model = (key, pipe, {})
        return self._model[1], self._model[2]

    def _tell_fingerprint(self, name: str, pipe: Any) -> None:
        """Remember what identifies a model, for clients that search over this server."""
        from noisewright.samplers.fingerprint import fingerprint

        own = getattr(pipe, "fingerprint", None)
        self.fingerprints[name] = own if isinstance(own, str) else fingerprint(pipe)

    def _count(self, result: Result) -> None:
        self.metrics.add("noisewright_images_total", result.images)
        self.metrics.add("noisewright_nfe_total", result.nfe)
        for phase, seconds in result.seconds.items():
            if phase != "total":
                self.metrics.add("noisewright_seconds_total", seconds, "phase", phase)

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
