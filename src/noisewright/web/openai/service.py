"""The queue behind the images endpoint: jobs are noted, wait their turn, and become runs as any other's.

Who does them has one model in memory at a time (:class:`noisewright.web.work.Works`). Jobs of that model take turns at
it, a micro-batch each, so that a short one does not wait for a long one to end; a job of another model waits until
those that began are over, and no later one overtakes it.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from noisewright.errors import RunMismatch
from noisewright.outside.inside import inside
from noisewright.outside.texts import clean
from noisewright.request import Request
from noisewright.run.locks import let_go, locked
from noisewright.samplers.quiet import quiet
from noisewright.web.openai.asking import check_offered, request_of
from noisewright.web.openai.doing import Doer, Worker
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import GenerationFields
from noisewright.web.openai.jobs import ANSWERING, ID, Event, Job, can_write, note, notes_in, read_note
from noisewright.web.openai.keys import Keys, digest_of, hash_of
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.public import without_paths
from noisewright.web.openai.reading import written
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.work import Works

log = logging.getLogger("noisewright")

REMEMBERED = 1000
"""Jobs that are over and in memory; older ones are read from their notes."""

GRACE_SECONDS = 1.0
"""After which a server that cancelled its tasks has said that it ends."""


class ImagesService:
    """What takes requests, and gives jobs.

    Args:
        settings: what is offered.
        worker: who does them, which others may ask too; by default this process does.
        metrics: where it counts; by default numbers of its own.

    Attributes:
        metrics: what was done.
    """

    def __init__(self, settings: ImagesSettings, worker: Worker | None = None, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self._worker = Works() if worker is None else worker
        self._in_process = worker is None
        self.metrics = Metrics() if metrics is None else metrics
        self.fingerprints: dict[str, str] = {}
        self._changed = threading.Condition()
        self._decoding = threading.Lock()
        self._line: deque[Job] = deque()
        self._active: dict[str, Job] = {}
        self._jobs: dict[str, Job] = {}
        self._keys = Keys(settings.notes)
        self._ending = False
        self._workers: list[threading.Thread] = []
        self._quiet: Any = None
        self._held: Any = None
        self._why_not: str | None = None
        self._broken: str | None = None
        self._settled = threading.Event()
        self._doer = Doer(settings, self._worker, self.metrics, lambda: self._ending, self.learn)

    # Its life

    def start(self) -> None:
        """Load the first model, take up what an earlier server accepted, and begin to work.

        Raises:
            ValueError: in one line, where the first model cannot be loaded, or the directory cannot be written.
            RunMismatch: in one line, where another server has the requests of the directory.
        """
        try:
            self.settings.notes.mkdir(parents=True, exist_ok=True)
            self._held = locked(self.settings.notes)
        except RunMismatch:
            raise RunMismatch(f"another server answers the requests of {self.settings.runs}: ask it") from None
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
                let_go(self._held)
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
        self._why_not = without_paths(why, self.settings)
        self._settled.set()

    @property
    def why_not(self) -> str | None:
        """Why requests are not taken, or will come to nothing as far as is known; None where neither is so."""
        if self._ending:
            return "the server is being stopped"
        if self._why_not is None and not can_write(self.settings.notes):
            return "requests cannot be noted: the server's directory cannot be written"
        return self._why_not or self._broken

    def learn(self, model: str | None, fingerprint: Any) -> None:
        """Remember what identifies a model that was loaded, by what was typed of it."""
        names = [name for name, typed in self.settings.models.items() if typed == model]
        if isinstance(fingerprint, str):
            self.fingerprints.update(dict.fromkeys(names, fingerprint))

    def _load_first(self) -> None:
        """Load the first model, where that is wanted now, and remember what identifies it.

        Raises:
            ValueError: in one line, where it cannot be loaded.
        """
        try:
            if self.settings.load_first:
                model = next(iter(self.settings.models.values()))
                bare = Request(model=model, device=self.settings.device, dtype=self.settings.dtype)
                found = self._worker.do({"id": f"load_{secrets.token_hex(6)}", "kind": "load",
                                         "request": bare.to_json()}, lambda event: None)  # fmt: skip
                if not found["ok"]:
                    raise ValueError(found["error"])
                self.learn(model, found["result"]["fingerprint"])
        finally:
            self._settled.set()

    def _load_first_or_say(self) -> None:
        try:
            self._load_first()
        except ValueError as error:
            if not self._ending:
                log.warning("%s", clean(error, 500))
                self._broken = clean(without_paths(f"the first model cannot be loaded: {error}", self.settings), 500)

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
        if self._held is not None:
            let_go(self._held)

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
        every = []
        for path in notes_in(self.settings.notes):
            try:
                job = read_note(path)
            except (ValueError, OSError) as error:
                log.warning("%s", clean(error, 500))
                continue
            every.append(job)
        self._keys.adopt(every)
        for job in sorted((one for one in every if not one.is_over), key=lambda one: (one.created, one.id)):
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
        files: Mapping[str, bytes] | None = None,
    ) -> Job:  # fmt: skip
        """Accept a request, or refuse it.

        Args:
            fields: that were read.
            kind: the endpoint.
            key: the client's ``Idempotency-Key``: the same one is the same job.
            files: pictures as they came, by the pipeline's argument; they are decoded here, one at a time, where there
                is room for the request.

        Raises:
            ApiError: 400 or 404 on what cannot be done, 422 where the key was another request's, 429 where the queue is
                full, 503 where the server ends.
        """
        hashed, digest = hash_of(kind, key), digest_of(fields, files or {})
        if (known := self._known(hashed, digest)) is not None:
            return known
        self.check_room()
        found = f"img_{secrets.token_hex(12)}"
        folder = self.settings.notes / found
        try:
            with self._decoding if files else nullcontext():
                paths = written(files or {}, folder, self.settings.most_side)
            request = request_of(fields, self.settings, secrets.randbelow(2**31), paths)
            answering = {name: getattr(fields, name) for name in ANSWERING if getattr(fields, name) is not None}
            job = Job(found, kind, answering, request, int(time.time()), hashed, body=digest if hashed else "")
            return self._accepted(job, digest)
        finally:
            if found not in self._jobs:  # it was refused, or is another client's already
                shutil.rmtree(folder, ignore_errors=True)

    def _accepted(self, job: Job, digest: str) -> Job:
        """A job in the queue; where its key came in meanwhile, that one's."""
        with self._changed:
            if (known := self._known(job.key, digest)) is not None:
                return known
            self.check_room()
            self._write(job)
            self._jobs[job.id] = job
            job.waiting = 1
            self._line.append(job)
            self._changed.notify_all()
        return job

    def _known(self, hashed: str, digest: str) -> Job | None:
        """The job of a key, which one more client waits for now; None where there is none that can be waited for.

        Raises:
            ApiError: 422, where it is of another request.
        """
        with self._changed:
            job = self.find(self._keys.find(hashed))
            if job is None or job.state == "cancelled" or job.leaving.is_set():
                return None
            if job.body not in ("", digest):
                raise ApiError(422, "expected the request that came with this Idempotency-Key before, got another",
                               code="idempotency_key_reused")  # fmt: skip
            job.waiting += 1
            return job

    def check_room(self) -> None:
        """Refuse a request where none is taken now.

        Raises:
            ApiError: 429 where the queue is full, 503 where the server ends or cannot take any.
        """
        with self._changed:
            if self._why_not is not None:
                raise ApiError(503, self._why_not, code="unavailable")
            if self._ending:
                raise ApiError(503, "the server is being stopped", code="stopping", headers={"Retry-After": "10"})
            if len(self._line) >= self.settings.queue:
                seconds = max(1, round(self._doer.seconds * len(self._line)))
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

    def gone(self, job: Job, cancelled: bool = False) -> None:
        """One who waited for a job went away; where no other waits for it, it ends.

        Args:
            job: which.
            cancelled: whether that is known from a cancelled task alone, which a server that ends does as well: then
                it is looked a moment later which of the two it was.
        """
        if cancelled:
            timer = threading.Timer(GRACE_SECONDS, lambda: None if self._ending or job.is_over else self.gone(job))
            timer.daemon = True
            timer.start()
            return
        with self._changed:
            job.waiting -= 1
            if job.waiting > 0:
                return
            job.leaving.set()  # who sends it again from now on gets another one
        self.leave(job)

    def leave(self, job: Job, why: str = "") -> None:
        """Nobody wants a job any more (``why``): it ends after its micro-batch, and what was made is kept."""
        with self._changed:
            job.left = why if why and not job.leaving.is_set() else job.left
            job.leaving.set()
            waiting = job in self._line
            if waiting:
                self._line.remove(job)
        if waiting:
            self._end(job, "cancelled", f"{job.left} before it began")
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
        ended = self._doer.do(job)
        if ended is not None:  # else it goes on with the next server
            self._broken = None if ended.state == "done" else self._broken
            self._end(job, ended.state, ended.why, ended.error)

    def _end(self, job: Job, state: Literal["done", "failed", "cancelled"], why: str = "",
             error: ApiError | None = None) -> None:  # fmt: skip
        self.metrics.add("noisewright_requests_total", 1, "state", state)
        job.settle(state, without_paths(why, self.settings), error)
        try:
            self._write(job)
        except ApiError as failed:  # it will be done once more, which costs little: its run is there
            log.warning("%s: %s", job.id, failed)
        job.tell(Event("over"))
        with self._changed:
            over = [name for name, one in self._jobs.items() if one.is_over]
            for name in over[: max(0, len(over) - REMEMBERED)]:
                del self._jobs[name]

    def _write(self, job: Job) -> None:
        try:
            if not job.is_over:
                self._keys.put(job.key, job.id)
            note(job, self.settings.notes)
        except OSError as error:
            raise ApiError(503, f"the request cannot be noted: {error.strerror or type(error).__name__}") from error
