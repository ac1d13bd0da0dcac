"""A run as it goes on, for a page that is open: server-sent events, made of the journal's new lines alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from noisewright.outside.texts import clean
from noisewright.web.choices import CHOICES, OPINIONS
from noisewright.web.live import Cursor
from noisewright.web.parts import Parts, error
from noisewright.web.places import NotThere, directory

PAUSE_SECONDS, SLOW_SECONDS = 0.4, 2.0
"""Between two looks at a run that goes on, and at one that has ended."""

ALIVE_SECONDS = 15.0
"""After so long without news a line says that the connection is alive."""


def routes(parts: Parts) -> list[Route]:
    """The one there is."""
    open_streams = [0]

    async def events(request: Request) -> Response:
        name, _ = parts.place(request)
        headers = {"X-Accel-Buffering": "no"}
        if request.method == "HEAD":  # which has no end otherwise
            return Response(media_type="text/event-stream", headers=headers)
        return _Bounded(open_streams, parts.settings.limits.streams, _told(parts, name, request),
                        media_type="text/event-stream", headers=headers)  # fmt: skip

    return [Route("/api/events", events)]


class _Bounded(StreamingResponse):
    """One of so many answers that may be open at a time, from its beginning to its end; one more is refused.

    Args:
        count: how many are open, which it changes.
        most: that may be.
    """

    def __init__(self, count: list[int], most: int, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._count = count
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._count[0] >= self._most:
            refused = error(503, "expected fewer pages that follow runs, got too many", **{"Retry-After": "5"})
            await refused(scope, receive, send)
            return
        self._count[0] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._count[0] -= 1


def event(kind: str, value: Any) -> bytes:
    """One event, on lines of its own."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


async def _told(parts: Parts, name: str, request: Request) -> AsyncIterator[bytes]:
    cursor, stamp, said = Cursor(), None, time.monotonic()
    yield b"retry: 2000\n\n"
    while not await request.is_disconnected():
        try:
            place = directory(parts.settings, name)
            live = await run_in_threadpool(parts.lives.of, place, name)
            found, cursor = await run_in_threadpool(live.since, cursor)
        except (ValueError, OSError) as wrong:
            gone = isinstance(wrong, NotThere)
            said_of = clean(str(wrong).replace(f"{parts.settings.runs}{os.sep}", ""))
            yield event("gone" if gone else "wrong", {"said": "" if gone else said_of})
            return
        now = await run_in_threadpool(_stamp, place)
        if found is not None:
            yield event("run", found)
        if now != stamp:
            stamp = now
            yield event("choices", {})
        if found is not None or time.monotonic() - said > ALIVE_SECONDS:
            said = time.monotonic()
            yield b": alive\n\n"
        going = live.head()["status"] == "running"
        await asyncio.sleep(PAUSE_SECONDS if going else SLOW_SECONDS)


def _stamp(place: Path) -> tuple[Any, ...]:
    """What changes with the choices and opinions of a run."""
    found: list[Any] = []
    for name in (CHOICES, OPINIONS):
        try:
            one = os.stat(place / name)
            found.append((one.st_size, one.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)
