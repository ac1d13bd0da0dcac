"""What the routes of a server share, and what each of them does first."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from noisewright.outside.messages import short
from noisewright.outside.texts import clean
from noisewright.schemas.reading import parse_json
from noisewright.web.listing import Listing
from noisewright.web.live import Live, Lives
from noisewright.web.openai.jobs import Job
from noisewright.web.openai.service import ImagesService
from noisewright.web.places import check_id, directory
from noisewright.web.process import Process
from noisewright.web.queue import Queue
from noisewright.web.settings import Settings


@dataclass(frozen=True)
class Parts:
    """Of one server.

    Attributes:
        settings: what its start says.
        listing: the runs and benchmarks.
        lives: the runs that somebody looks at.
        queue: the jobs.
        worker: who does what needs a model, for all parts.
        images: who does requests for images, where the server takes any.
    """

    settings: Settings
    listing: Listing
    lives: Lives
    queue: Queue
    worker: Process
    images: ImagesService | None = None

    def place(self, request: Request) -> tuple[str, Path]:
        """The run that a request is about, by its parameter ``run``: its name and directory.

        Raises:
            NotThere: in one line.
        """
        name = request.query_params.get("run", "")
        return name, directory(self.settings, name)

    def live(self, request: Request) -> Live:
        """The same, as of now.

        Raises:
            ValueError: in one line.
        """
        name, place = self.place(request)
        return self.lives.of(place, name)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of the page, and requests for images that are not over, as they came."""
        requests = [] if self.images is None else [_of_request(one) for one in self.images.open_jobs()]
        return sorted([*self.queue.jobs(), *requests], key=lambda one: str(one["asked"]))

    def cancel(self, key: str) -> None:
        """Take a job out of the line, or stop it.

        Raises:
            ValueError: in one line, where there is none such.
        """
        images = self.images
        job = None if images is None else next((one for one in images.open_jobs() if one.id == key), None)
        if images is None or job is None:
            self.queue.cancel(key)
        else:
            images.leave(job, "it was taken out of the queue on the page")


def _of_request(one: Job) -> dict[str, Any]:
    """A request for images as the queue shows it."""
    created = datetime.fromtimestamp(one.created, UTC).isoformat(timespec="seconds")
    said = clean(f"{one.request.search}: {one.request.prompt}", 300)
    state = "running" if one.state == "running" else "waiting"
    return {"id": one.id, "kind": "run", "run": one.id, "said": said, "asked": created, "state": state,
            "note": "asked for at /v1/images"}  # fmt: skip


Answer = Callable[[Request], Any]


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), "application/json")


def in_thread(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """A route whose work, which reads files, keeps nobody else waiting."""

    async def route(request: Request) -> Response:
        found = await run_in_threadpool(answer, request)
        return found if isinstance(found, Response) else json_response(found)

    return route


def with_body(answer: Callable[[Request, dict[str, Any]], Any]) -> Callable[[Request], Awaitable[Response]]:
    """A route that is given a JSON object; another type of content is refused, since forms of other sites have one."""

    async def route(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return error(415, f"expected a request of application/json, got {short(kind)}")
        body = parse_json(await request.body(), "the request", most=2**20)
        if not isinstance(body, dict):
            raise ValueError(f"expected an object, got {short(body)}")
        found = await run_in_threadpool(answer, request, body)
        return found if isinstance(found, Response) else json_response(found)

    return route


def text_of(body: dict[str, Any], name: str) -> str:
    """A text of a request.

    Raises:
        TypeError: in one line, on anything else.
    """
    value = body.get(name)
    if not isinstance(value, str):
        raise TypeError(f"expected {name} as text, got {short(value)}")
    return value


def id_of(body: dict[str, Any], name: str = "id") -> str:
    """The id of a candidate in a request."""
    return check_id(text_of(body, name))


def error(status: int, said: str, kind: str = "invalid_request_error", **headers: str) -> Response:
    """An error in OpenAI's shape, which clients of the page and of the API read alike."""
    body = {"error": {"message": said, "type": kind, "param": None, "code": None}}
    return json_response(body, status, headers)
