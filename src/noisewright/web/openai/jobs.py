"""A request that was accepted: what it is, how far it is, and the note of it that survives the server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from noisewright.outside.files import write_atomically
from noisewright.outside.inside import inside
from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.request import Request, read_request
from noisewright.schemas.reading import read_json
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import GenerationFields, read_fields

State = Literal["queued", "running", "done", "failed", "cancelled"]
OVER = ("done", "failed", "cancelled")
ID = re.compile(r"img_[0-9a-f]{24}")
NOTE_VERSION = 1
LARGEST_NOTE = 2**20
ONE_NOTE = 2**14
"""Bytes of a usual note."""

LATEST = 2**36
"""Seconds since 1970 that a note may say: what has a date."""

ANSWERING = ("n", "size", "quality", "output_format", "output_compression", "response_format", "partial_images")
"""Fields of a request that only its answer needs."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        kind: ``begun``, ``better`` (a new best image), ``over``, or ``put off`` where the server ends before it.
        file: of the image, where there is a new best.
        done: how much of the budget is spent then, 0 to 1.
    """

    kind: Literal["begun", "better", "over", "put off"]
    file: Path | None = None
    done: float = 0.0


@dataclass
class Job:
    """A request on its way.

    Attributes:
        id: its name, and that of its run's directory.
        kind: which endpoint: ``generation`` or ``edit``.
        answering: how its answer is wanted.
        request: what is to be done.
        created: seconds since 1970.
        key: a hash of the client's ``Idempotency-Key``; empty without one.
        body: a hash of what it sent with it.
        stopped: why its search ended, where images were made after that, since it had fewer than were wanted.
        waiting: how many clients wait for it; its service alone changes that.
        state: how far it is.
        why: of what failed or was cancelled.
        error: what its client is told, where it failed in this process.
        leaving: set where nobody waits for it any more.
        left: why that is so.
    """

    id: str
    kind: Literal["generation", "edit"]
    answering: Mapping[str, Any]
    request: Request
    created: int
    key: str = ""
    state: State = "queued"
    why: str = ""
    error: ApiError | None = None
    body: str = ""
    stopped: str = ""
    waiting: int = 0
    left: str = "the client went away"
    leaving: threading.Event = field(default_factory=threading.Event, repr=False)
    _listeners: list[Callable[[Event], None]] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Be told of events from now on, from the thread of the service; at once where it is over already."""
        with self._lock:
            if not self.is_over:
                self._listeners.append(listener)
                return
        listener(Event("over"))

    def forget(self, listener: Callable[[Event], None]) -> None:
        """Be told no more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def tell(self, event: Event) -> None:
        """Tell who listens; after the end nobody does."""
        with self._lock:
            listeners = list(self._listeners)
            if event.kind in ("over", "put off"):
                self._listeners.clear()
        for listener in listeners:
            listener(event)

    def settle(self, state: State, why: str = "", error: ApiError | None = None) -> None:
        """It is over, which :meth:`tell` says when that is noted."""
        with self._lock:
            self.state, self.why, self.error = state, clean(why, 1000), error

    def to_json(self) -> dict[str, Any]:
        """The note of it."""
        return {
            "version": NOTE_VERSION, "id": self.id, "kind": self.kind, "created": self.created, "state": self.state,
            "why": self.why, "key": self.key, "body": self.body, "stopped": self.stopped,
            "answering": dict(self.answering), "request": self.request.to_json(),
        }  # fmt: skip


def note(job: Job, folder: Path) -> None:
    """Write the note of a job: from then on it is not lost.

    Raises:
        OSError: where it cannot be written.
    """
    write_atomically(folder / f"{job.id}.json", json.dumps(job.to_json()).encode())


def read_note(path: Path) -> Job:
    """A job from its note.

    Raises:
        ValueError: in one line, where it is damaged.
    """
    held = read_json(path, "the note of a request")
    try:
        known = ID.fullmatch(held["id"]) and held["kind"] in ("generation", "edit")
        if held["version"] != NOTE_VERSION or not known:
            raise ValueError(f"expected a note of version {NOTE_VERSION}")
        if held["state"] not in ("queued", "running", *OVER):
            raise ValueError("expected a state")
        answering = {key: one for key, one in held["answering"].items() if key in ANSWERING}
        read_fields(GenerationFields, {"prompt": "any", **answering})
        created = held["created"]
        if type(created) is not int or not 0 <= created < LATEST:
            raise ValueError(f"expected seconds since 1970 as created, got {short(created)}")
        return Job(held["id"], held["kind"], answering, read_request(held["request"], str(path)), created,
                   str(held["key"]), held["state"], str(held["why"]), body=str(held.get("body") or ""),
                   stopped=str(held.get("stopped") or ""))  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError, ApiError) as error:
        raise ValueError(f"expected the note of a request in {path}, got a damaged one: {clean(error, 200)}") from None


def notes_in(folder: Path) -> list[Path]:
    """The notes in a folder."""
    return [inside(folder, one.name) for one in sorted(folder.glob("img_*.json")) if ID.fullmatch(one.stem)]


def can_write(folder: Path) -> bool:
    """Whether notes can be written in a folder, which is tried with as many bytes as one has."""
    probe = folder / "probe"
    try:
        write_atomically(probe, bytes(ONE_NOTE))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink()
    return True
