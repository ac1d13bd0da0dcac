"""Jobs of the page: kept in a file, done one after another by the server's process, whatever becomes of the server.

``.serve/queue.json`` in the server's directory holds them. A server that was killed finds its jobs there: one that was
being done is waited for, where its process still works on it, and else goes on from what is in its run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noisewright.errors import RunMismatch
from noisewright.outside.files import write_atomically
from noisewright.outside.inside import inside
from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.request import read_request
from noisewright.run.locks import LOCK, is_being_written, let_go, locked
from noisewright.run.reading import read_run
from noisewright.run.store import ask_to_stop
from noisewright.schemas.reading import read_json
from noisewright.web.asked import check_going_on
from noisewright.web.process import Process
from noisewright.web.settings import Settings

FOLDER, FILE = ".serve", "queue.json"
KINDS = ("run", "score")
ENDED = ("done", "stopped", "failed", "cancelled")
REMEMBERED = 100
"""Jobs that have ended and are still listed."""

LOOK_SECONDS = 0.5
STOP_SECONDS = 120.0
"""How long a server that ends waits for the micro-batch in flight."""

PATIENCE_SECONDS = 8.0
"""How long a planned cost waits for its turn at a model that is at work."""

BESIDE = "expected jobs when the run of this command is over, got one before"
OTHER_WRITES = "another process is writing"


class Full(Exception):
    """No more jobs are taken."""


class Busy(Exception):
    """The model works on something else."""


class Queue:
    """The jobs of a server. All methods may be called from any thread.

    Args:
        settings: of the server.
        worker: who does them; others may ask it too.
    """

    def __init__(self, settings: Settings, worker: Process) -> None:
        self._settings = settings
        self._worker = worker
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._ending = False
        self._given_up = set[str]()
        self._thread: threading.Thread | None = None
        self._held: Any = None
        self._why_not = BESIDE if settings.beside else None
        self._jobs: list[dict[str, Any]] = []

    # What is asked from outside

    def start(self) -> None:
        """Read what an earlier server left, and begin to work; where the directory cannot be written, take no jobs.

        Raises:
            RunMismatch: where another server works on the same directory.
        """
        if self._thread is not None:
            return
        try:
            folder = self._folder()
            self._held = locked(folder)
        except RunMismatch:
            self._why_not = "expected no other server on the jobs of this directory, got one: ask it"
            raise RunMismatch(f"another server works on the jobs of {self._settings.runs}") from None
        except (ValueError, OSError) as error:
            self._why_not = str(error)
            return
        self._jobs, self._why_not = self._read(), None
        self._settings.begun.update(one["run"].partition("/")[0] for one in self._jobs)
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End: the run in hand is asked to stop, and goes on when a server starts again."""
        with self._lock:
            self._ending = True
            self._changed.notify_all()
        ends = time.monotonic() + STOP_SECONDS
        self._worker.end()
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < ends:
            self._stop_current()
            self._thread.join(LOOK_SECONDS)
        if self._held is not None:
            let_go(self._held)

    def _stop_current(self) -> None:
        """Have the job in hand end soon, also where the process of an earlier server works on it."""
        with self._lock:
            current = self._current()
        if current is not None:
            self._stop(current)

    def _stop(self, job: Mapping[str, Any]) -> None:
        self._worker.stop(job["id"])
        if job["kind"] == "run" and self._worker.outlived:  # else who writes to it, writes for somebody else
            with suppress(ValueError):  # nobody does
                ask_to_stop(self._settings.runs / job["run"])

    def jobs(self) -> list[dict[str, Any]]:
        """All of them, as they came; without what they ask for."""
        with self._lock:
            return [{key: value for key, value in one.items() if key != "request"} for one in self._jobs]

    def add(self, kind: str, name: str, said: str, **needs: Any) -> dict[str, Any]:
        """Have a job done when its turn comes.

        Args:
            kind: of :data:`KINDS`.
            name: of the run that it makes or works on.
            said: what it is, for people.
            needs: what it needs.

        Raises:
            Full: where too many wait.
        """
        with self._lock:
            if self._why_not is not None:
                raise ValueError(self._why_not)
            if sum(one["state"] == "waiting" for one in self._jobs) >= self._settings.limits.waiting:
                raise Full(f"expected at most {self._settings.limits.waiting} jobs that wait, got one more")
            job = {"id": secrets.token_hex(6), "kind": kind, "run": name, "said": clean(said, 300), "state": "waiting",
                   "asked": _now(), "note": None, **needs}  # fmt: skip
            self._jobs.append(job)
            self._write()
            self._changed.notify_all()
            return job

    def cancel(self, key: str) -> None:
        """Take a job that waits out of the queue, or stop the one that is being done.

        Raises:
            ValueError: in one line, where there is none such.
        """
        with self._lock:
            job = next((one for one in self._jobs if one["id"] == key), None)
            if job is None or job["state"] in ENDED:
                raise ValueError(f"expected a job that waits or is being done, got {short(key)}")
            if job["state"] == "waiting":
                job["state"] = "cancelled"
                with suppress(OSError):  # of a run that was to be begun there is an empty directory
                    (self._settings.runs / job["run"]).rmdir()
                self._write()
                return
            self._given_up.add(key)
        self._stop(job)

    def forecast(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The planned cost of a request, by the process that holds the model, between two micro-batches of its work.

        Raises:
            Busy: where it works on something that does not let it through soon.
            ValueError: in one line, where the request cannot be planned.
        """
        key = secrets.token_hex(6)
        timer = threading.Timer(PATIENCE_SECONDS, self._worker.stop, [key])
        if self._worker.busy:
            timer.start()
        try:
            answer = self._worker.do({"id": key, "kind": "forecast", "request": dict(request)})
        finally:
            timer.cancel()
        if answer.get("why") == "stopped":
            raise Busy("the model is at work: the planned cost is known when it is free")
        if not answer["ok"]:
            raise ValueError(answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def new_run(self, prompt: str) -> str:
        """The name of a new directory, which is there and empty."""
        if self._why_not is not None:
            raise ValueError(self._why_not)
        slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:40].strip("-") or "run"
        first = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug}"
        name, number = first, 2
        while True:
            try:
                (self._settings.runs / name).mkdir()
                self._settings.begun.add(name)
                return name
            except FileExistsError:
                name, number = f"{first}-{number}", number + 1

    # The work

    def _current(self) -> dict[str, Any] | None:
        return next((one for one in self._jobs if one["state"] == "running"), None)

    def _work(self) -> None:
        while True:
            with self._lock:
                job = self._current() or next((one for one in self._jobs if one["state"] == "waiting"), None)
                if self._ending:
                    return
                if job is None:
                    self._changed.wait(LOOK_SECONDS)
                    continue
                self._put(job, "running")
            try:
                state, note = self._done(job)
            except (ValueError, OSError) as error:
                state, note = "failed", clean(str(error), 1000)
            with self._lock:
                self._given_up.discard(job["id"])
                # A run that this server itself stopped, since it ends, goes on with the next one.
                again = self._ending and state in ("stopped", "failed")
                named = None if again or note is None else note.replace(f"{self._settings.runs}{os.sep}", "")
                self._put(job, "waiting" if again else state, named)

    def _done(self, job: Mapping[str, Any]) -> tuple[str, str | None]:
        """Do a job, and how it ended."""
        place = self._settings.runs / job["run"]
        while True:
            while is_being_written(place) and (place / LOCK).exists():  # by a process that outlived its server, say
                if self._ending or job["id"] in self._given_up:
                    return "stopped", None
                time.sleep(LOOK_SECONDS)
            if job["kind"] == "score":
                answer = self._ask(job, run=str(place), verifier=job["verifier"])
                if answer["ok"]:
                    return "done", None
                return ("stopped", None) if answer["why"] == "stopped" else ("failed", answer["error"])
            if _is_done(place, job["request"]):
                return "done", None
            answer = self._ask(job, request=job["request"], out=str(place))
            if not answer["ok"] and OTHER_WRITES in answer["error"]:
                time.sleep(LOOK_SECONDS)
                continue
            if not answer["ok"]:
                with suppress(OSError):
                    place.rmdir()  # of a run that never began
                return ("stopped", None) if answer["why"] == "stopped" else ("failed", answer["error"])
            return ("stopped" if answer["result"]["interrupted"] else "done"), answer["result"]["stopped"]

    def _ask(self, job: Mapping[str, Any], **what: Any) -> dict[str, Any]:
        """What came of a job."""

        def heard(event: Mapping[str, Any]) -> None:
            if self._ending or job["id"] in self._given_up:
                self._worker.stop(job["id"])

        return self._worker.do({"id": job["id"], "kind": job["kind"], **what}, heard)

    # The file

    def _folder(self) -> Path:
        folder = inside(self._settings.runs, FOLDER)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"expected a directory that can be written, got {self._settings.runs}: "
                             f"{error.strerror or error}") from error  # fmt: skip
        return folder

    def _read(self) -> list[dict[str, Any]]:
        """What the file holds, as far as it is ours: only its owner could write it, but nothing is believed."""
        try:
            held = read_json(inside(self._settings.runs, f"{FOLDER}/{FILE}"), "a queue")["jobs"]
        except (OSError, ValueError, LookupError, TypeError):
            return []
        found = [one for one in held if _is_job(one, self._settings)] if isinstance(held, list) else []
        for one in found:
            if one["kind"] == "run" and one["state"] not in ENDED:
                self._check(one)
        return found

    def _check(self, job: dict[str, Any]) -> None:
        """Let no job be done that this server would not have taken: whoever wrote the file may have written it."""
        place = inside(self._settings.runs, job["run"])
        try:
            if not place.is_dir():
                raise ValueError(f"expected the directory {job['run']}, which is gone")
            check_going_on(place, read_request(job["request"], "the queue"), self._settings)
        except ValueError as error:
            said = str(error).replace(f"{self._settings.runs}{os.sep}", "")
            job.update(state="failed", note=clean(said, 1000), ended=_now())

    def _write(self) -> None:
        ended = [one for one in self._jobs if one["state"] in ENDED]
        gone = {one["id"] for one in ended[:-REMEMBERED]}
        self._jobs = [one for one in self._jobs if one["id"] not in gone]
        with suppress(OSError):  # a full disk: they are still done, unless the server is killed
            data = json.dumps({"version": 1, "jobs": self._jobs}).encode()
            write_atomically(self._settings.runs / FOLDER / FILE, data)

    def _put(self, job: dict[str, Any], state: str, note: str | None = None) -> None:
        if job["state"] != state or job["note"] != note:
            job["state"], job["note"] = state, note
            job["began" if state == "running" else "ended"] = _now()
            self._write()


def _is_job(one: Any, settings: Settings) -> bool:
    if not isinstance(one, dict) or one.get("kind") not in KINDS or one.get("state") not in (
        "waiting", "running", *ENDED
    ):  # fmt: skip
        return False
    texts = all(isinstance(one.get(key), str) for key in ("id", "run", "said", "asked"))
    try:
        inside(settings.runs, one["run"])
        if one["kind"] == "run":
            read_request(one["request"], "the queue")
        return texts and (one["kind"] == "run" or one["verifier"] in settings.verifiers)
    except (ValueError, TypeError, LookupError):
        return False


def _is_done(place: Path, request: Mapping[str, Any]) -> bool:
    """Whether a run has come to what is asked for, by a process that outlived its server."""
    try:
        held = read_run(place)
        return bool(held["status"] == "done" and held["request"]["budget"] == request["budget"])
    except (ValueError, LookupError, TypeError):
        return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
