"""``/v1/images/generations``, ``/v1/images/edits``, ``/v1/models``, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from noisewright.outside.texts import clean
from noisewright.web.guard import TooLarge
from noisewright.web.openai import answers
from noisewright.web.openai.asking import check_model
from noisewright.web.openai.documented import (
    EDITS,
    FILE,
    FILES,
    GENERATIONS,
    HEALTH,
    JOBS,
    LISTED,
    MODELS,
    PLAIN,
    FileName,
    JobId,
)
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import EditFields, GenerationFields, from_form, read_fields
from noisewright.web.openai.jobs import Event, Job
from noisewright.web.openai.metrics import CONTENT_TYPE
from noisewright.web.openai.public import without_paths
from noisewright.web.openai.reading import read_form, read_json
from noisewright.web.openai.service import ImagesService

log = logging.getLogger("noisewright")

LOOK_SECONDS = 0.25
"""How often it is looked whether a client that waits is still there."""

AT_ONCE = 2
"""Requests with pictures whose pictures are decoded, or wait for that."""

ALIVE_SECONDS = 15.0
"""How often a stream says that it is alive, so that no proxy ends it."""

FIRST_SECONDS = 10.0
"""For how long a list of models waits for the first of them to be loaded, so that it says what identifies it: half of
what our own client waits for it (:data:`noisewright.samplers.image_server.LIST_SECONDS`)."""

SHARES = (0.0, 0.34, 0.67)
"""Of a search, from where on each partial image is shown."""


class OpenAIRoute(APIRoute):
    """Answers what goes wrong in OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ApiError as error:
                self.refused(error)
                return said(error)
            except (TooLarge, ClientDisconnect):  # which whoever mounts this answers
                raise
            except Exception as error:
                log.warning("%s: %s", type(error).__name__, clean(error, 500))
                failed = ApiError(500, f"the server failed: {type(error).__name__}", code="failed")
                self.refused(failed)
                return said(failed)

        return handled

    def refused(self, error: ApiError) -> None:
        """Nothing: :func:`images_api` counts."""


def said(error: ApiError) -> JSONResponse:
    """The answer that an error is."""
    return JSONResponse(error.to_json(), error.status, headers=error.headers)


def images_api(service: ImagesService, gauges: Callable[[], Mapping[str, float]] = dict) -> APIRouter:
    """The routes of a service, which whoever mounts them starts and closes.

    Args:
        service: whose they are.
        gauges: more numbers of now, for ``/metrics``.
    """

    class Route(OpenAIRoute):
        def refused(self, error: ApiError) -> None:
            service.metrics.refused(error.status)

    router = APIRouter(route_class=Route, tags=["images"])
    uploads = asyncio.Semaphore(AT_ONCE)

    @router.post("/v1/images/generations", **GENERATIONS)
    async def generations(request: Request) -> Response:
        """Search for the best image of a prompt."""
        fields = read_fields(GenerationFields, await read_json(request, service.settings.most_body))
        job = await run_in_threadpool(service.submit, fields, "generation", key_of(request))
        return await answered(service, job, request, stream=bool(fields.stream))

    @router.post("/v1/images/edits", **EDITS)
    async def edits(request: Request) -> Response:
        """Search for the best change of an image."""
        key = key_of(request)
        if key is None:  # else it may be there already
            await run_in_threadpool(service.check_room)
        given, files = await read_form(request, service.settings.most_upload)
        fields = read_fields(EditFields, from_form(given))
        if "image" not in files:
            raise ApiError(400, "missing required parameter image", "image", "missing_required_parameter")
        for name, some in files.items():
            if len(some) > 1:
                shown = "mask" if name == "mask_image" else name
                raise ApiError(400, f"expected one {shown}, got {len(some)}", shown, "invalid_value")
        pictures = {name: some[0] for name, some in files.items()}
        async with uploads:  # not many threads wait for their turn to decode
            job = await run_in_threadpool(service.submit, fields, "edit", key, pictures)
        return await answered(service, job, request, stream=bool(fields.stream))

    add_later(router, service)
    add_about(router, service, gauges)
    return router


def add_later(router: APIRouter, service: ImagesService) -> None:
    """The routes of what was accepted before."""

    @router.get("/v1/images/generations/{job_id}", **JOBS)
    async def generation(job_id: JobId, request: Request) -> Response:
        """How far a request is that was accepted, and its answer."""
        job = await run_in_threadpool(service.find, job_id)
        if job is None:
            raise ApiError(404, "no such request", "job_id", "not_found")
        found: dict[str, Any] = {"id": job.id, "object": "image.generation", "created": job.created,
                                 "status": "completed" if job.state == "done" else job.state}  # fmt: skip
        if job.why:
            found["why"] = without_paths(job.why, service.settings)
        if job.state == "done":
            root = service.directory(job)
            found["result"] = await run_in_threadpool(answers.answer, job, root, str(request.base_url), teller(service))
        return JSONResponse(found)

    @router.get("/v1/images/files/{job_id}/{name}", **FILES)
    async def file(job_id: JobId, name: FileName) -> Response:
        """An image of an answer with addresses."""
        job = await run_in_threadpool(service.find, job_id)
        match = FILE.fullmatch(name)
        if job is None or match is None or job.state != "done":
            raise ApiError(404, "no such image", "name", "not_found")
        pictures, _ = await run_in_threadpool(answers.pictures_of, service.directory(job))
        if int(match[1]) > len(pictures):
            raise ApiError(404, "no such image", "name", "not_found")
        quality = answers.format_of(job)[1]
        data = await run_in_threadpool(answers.encoded, pictures[int(match[1]) - 1].file, match[2], quality)
        return Response(data, media_type=answers.MEDIA[match[2]], headers={"X-Content-Type-Options": "nosniff"})


def add_about(
    router: APIRouter, service: ImagesService, gauges: Callable[[], Mapping[str, float]] = dict
) -> None:  # fmt: skip
    """The routes that say what there is, and how it goes."""

    @router.get("/v1/models", **LISTED)
    async def models() -> Response:
        """The models that requests may name."""
        await until_settled(service)
        return JSONResponse({"object": "list", "data": [_model(service, name) for name in service.settings.models]})

    @router.get("/v1/models/{model:path}", **MODELS)
    async def model(model: str) -> Response:
        """One of them."""
        await until_settled(service)
        return JSONResponse(_model(service, check_model(model, service.settings)))

    @router.head("/healthz", include_in_schema=False)  # which balancers of load ask
    @router.get("/healthz", **HEALTH)
    async def health() -> Response:
        """Whether the server takes requests; 503, with the reason, where not."""
        now: dict[str, Any] = {"waiting": service.waiting, "running": service.running}
        why = await run_in_threadpool(lambda: service.why_not)
        if why is not None:
            return JSONResponse({"status": "unavailable", "reason": why, **now}, 503)
        return JSONResponse({"status": "ok", **now})

    @router.get("/metrics", **PLAIN)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        now = {"noisewright_queue": service.waiting, "noisewright_running": service.running, **gauges()}
        return PlainTextResponse(service.metrics.text(now), media_type=CONTENT_TYPE)


async def until_settled(service: ImagesService) -> None:
    """Wait until it is known what identifies the first model, but not for ever."""
    for _ in range(round(FIRST_SECONDS / LOOK_SECONDS)):
        if service.settled:
            return
        await asyncio.sleep(LOOK_SECONDS)


def key_of(request: Request) -> str | None:
    """The client's name for a request, under which it may send it again.

    Raises:
        ApiError: 400, on one that is too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise ApiError(400, f"expected an Idempotency-Key of 1 to 255 characters, got {len(key)}", code="invalid_value")
    return key


def _model(service: ImagesService, name: str) -> dict[str, Any]:
    found = {"id": name, "object": "model", "created": 0, "owned_by": "noisewright"}
    known = service.fingerprints.get(name)
    return found if known is None else {**found, "fingerprint": known}


# Waiting


async def answered(service: ImagesService, job: Job, request: Request, *, stream: bool) -> Response:
    """The answer to a request that was accepted; its search ends where the client goes away before it."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def heard(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(events.put_nowait, event)

    job.listen(heard)
    headers = {"X-Request-Id": job.id}
    try:
        first = await _next(service, job, request, events)
        while not stream and first is not None and first.kind not in ("over", "put off"):
            first = await _next(service, job, request, events)
    except asyncio.CancelledError:  # as a server does that ends: there may be time to say so
        job.forget(heard)
        service.gone(job, cancelled=True)
        return said(stopping(job))
    if first is None:
        job.forget(heard)
        service.gone(job)
        return Response(status_code=499, headers=headers)
    if first.kind in ("over", "put off"):
        error = error_of(job, teller(service))
        if error is not None:
            error.headers.update(headers)
            raise error
    if stream:
        body = _streamed(service, job, events, heard, first)
        return StreamingResponse(body, media_type="text/event-stream",
                                 headers={**headers, "Cache-Control": "no-store"})  # fmt: skip
    root = service.directory(job)
    found = await run_in_threadpool(answers.answer, job, root, str(request.base_url), teller(service))
    return JSONResponse(found, headers=headers)


def teller(service: ImagesService) -> Callable[[str], str]:
    """What a client is told of a line that its run says."""
    return lambda line: without_paths(line, service.settings)


async def _next(
    service: ImagesService, job: Job, request: Request, events: asyncio.Queue[Event]
) -> Event | None:
    """The next event of a job; None where the client went away."""
    while True:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(events.get(), LOOK_SECONDS)
        if await request.is_disconnected():
            return None


def error_of(job: Job, tell: Callable[[str], str]) -> ApiError | None:
    """Why a job that is over has no answer, as ``tell`` puts what its note says; None where it has one."""
    if job.state == "done":
        return None
    if job.error is not None:
        return ApiError(job.error.status, str(job.error), job.error.param, job.error.code, job.error.headers)
    if job.state == "cancelled":
        return ApiError(409, f"the request was cancelled: {tell(job.why)}", code="cancelled")
    if job.state == "failed":
        return ApiError(500, tell(job.why) or "the request failed", code="failed")
    return stopping(job)


def stopping(job: Job) -> ApiError:
    """What the client of a job is told where the server ends before it."""
    headers = {"Retry-After": "10", "X-Request-Id": job.id}
    return ApiError(503, "the server is being stopped; the request goes on when it starts again: GET "
                    f"/v1/images/generations/{job.id}", code="stopping", headers=headers)  # fmt: skip


async def _streamed(
    service: ImagesService, job: Job, events: asyncio.Queue[Event], heard: Callable[[Event], None], first: Event
) -> AsyncIterator[str]:
    """The events of a stream: the best so far as often as it was wanted, and then the winners."""
    wanted, shown, event = int(job.answering.get("partial_images", 0)), 0, first
    try:
        while event.kind not in ("over", "put off"):
            if event.kind == "better" and event.file is not None and shown < wanted and _is_due(event, shown, wanted):
                with contextlib.suppress(ApiError):  # it is gone: the next one, then
                    yield await run_in_threadpool(answers.partial_event, job, event.file, shown)
                    shown += 1
            try:
                event = await asyncio.wait_for(events.get(), ALIVE_SECONDS)
            except TimeoutError:  # which also finds out a client that went away without a word
                yield ": searching\n\n"
                event = Event("begun")
        error = error_of(job, teller(service))
        if error is not None:
            yield answers.error_event(error)
            return
        for text in await run_in_threadpool(answers.completed_events, job, service.directory(job), teller(service)):
            yield text
    except ApiError as error:
        yield answers.error_event(error)
    except asyncio.CancelledError:  # as a server does that ends: there may be time to say so
        yield answers.error_event(stopping(job))
    finally:  # also where the client went away
        job.forget(heard)
        if not job.is_over:
            service.gone(job, cancelled=True)


def _is_due(event: Event, shown: int, wanted: int) -> bool:
    """Whether so much of the search is done that the next of the partial images may be shown."""
    return wanted == 1 or event.done >= SHARES[shown]
