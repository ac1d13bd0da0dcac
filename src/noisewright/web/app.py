"""The application behind ``noisewright serve``: the page and the images endpoint, behind the checks of :mod:`~.guard`.

Both have what needs a model done by one process (:mod:`~.process`), and their runs are in one directory.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from noisewright import __version__
from noisewright.errors import RunMismatch
from noisewright.outside.texts import clean
from noisewright.web import acting, evidence, pages, reading, streams
from noisewright.web.counting import Counting, jobs_now
from noisewright.web.guard import HEADERS, Codes, TooLarge, guarded
from noisewright.web.listing import Listing
from noisewright.web.live import Lives
from noisewright.web.openai.metrics import Metrics
from noisewright.web.openai.mounted import images_settings
from noisewright.web.openai.router import images_api
from noisewright.web.openai.service import ImagesService
from noisewright.web.parts import Parts, error
from noisewright.web.pictures import tidy
from noisewright.web.places import NotThere
from noisewright.web.queue import Full, Queue
from noisewright.web.settings import Settings, check_settings

log = logging.getLogger("noisewright")


def app(settings: Settings) -> FastAPI:
    """The application of one server.

    Args:
        settings: what its start says. A server of one run alone has no images endpoint, whose runs it would not show.

    Raises:
        ValueError: in one line, on settings that would let anybody in.
    """
    check_settings(settings)
    lives = Lives()
    metrics = Metrics()
    worker = Counting(settings, metrics)
    offers = not (settings.only or not settings.models)
    images = ImagesService(images_settings(settings), worker, metrics) if offers else None
    worker.learn = images.learn if images is not None else worker.learn
    parts = Parts(settings, Listing(settings, lives), lives, Queue(settings, worker), worker, images)

    @asynccontextmanager
    async def lifespan(made: FastAPI) -> AsyncIterator[None]:
        if not settings.beside:
            parts.queue.start()
        _start_images(images, settings)
        threading.Thread(target=_prepare, args=(parts,), name="listing", daemon=True).start()
        try:
            yield
        finally:
            await run_in_threadpool(_close, parts, images)

    more: dict[str, Any] = {"telemetry": {"auto_configure": False}}  # none, whatever the environment says of it
    made = FastAPI(title="noisewright", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
                   exception_handlers={Exception: _failed}, **more)  # fmt: skip
    made.state.parts, made.state.codes, made.state.metrics = parts, Codes(), metrics
    for kind, answer in HANDLERS.items():
        made.add_exception_handler(kind, answer)
    for some in (pages, reading, acting, streams, evidence):
        made.router.routes.extend(some.routes(parts))
    if images is not None:
        made.include_router(images_api(images, lambda: jobs_now(parts.queue.jobs())))
    # A function that gives an application does as well as a class of which one is made.
    made.add_middleware(guarded, settings=settings, count=metrics.refused)  # type: ignore[arg-type]
    return made


def _prepare(parts: Parts) -> None:
    """Read the list before somebody asks for it, and make room among the pictures that are kept."""
    parts.listing.all()
    tidy(parts.settings.cache)


def _start_images(images: ImagesService | None, settings: Settings) -> None:
    """Begin to take requests for images; where the directory cannot be written, say so to who sends one."""
    if images is not None:
        try:
            images.start()
        except ValueError as failed:
            images.refuse(clean(failed, 500))


def _close(parts: Parts, images: ImagesService | None) -> None:
    """End all jobs, which go on with the next server, and then who does them."""
    if images is not None:
        images.end()
    parts.queue.close()
    if images is not None:
        images.close()
    parts.worker.close()


def _said(request: Request, failed: Exception) -> str:
    """What went wrong, in one line, without this machine's paths."""
    root = str(request.app.state.parts.settings.runs)
    lines = str(failed).splitlines()
    return clean((lines[0] if lines else type(failed).__name__).replace(f"{root}/", "").replace(root, "the server's "
                 "directory"), 1000)  # fmt: skip


async def _wrong(request: Request, failed: Exception) -> Response:
    if getattr(failed.__cause__, "errno", None) in NO_ROOM:
        return error(507, _said(request, failed), "server_error")
    return error(400, _said(request, failed))


async def _not_there(request: Request, failed: Exception) -> Response:
    return error(404, _said(request, failed))


async def _conflict(request: Request, failed: Exception) -> Response:
    return error(409, _said(request, failed))


async def _full(request: Request, failed: Exception) -> Response:
    return error(429, _said(request, failed), "rate_limit_error", **{"Retry-After": "10"})


async def _of_http(request: Request, failed: Exception) -> Response:
    assert isinstance(failed, HTTPException)  # noqa: S101 - for the types
    known = {404: "expected an address of this server, got another", 405: "expected another method for this address"}
    status = failed.status_code
    return error(status, known.get(status, clean(str(failed.detail))), **dict(failed.headers or {}))


async def _invalid(request: Request, failed: Exception) -> Response:
    return error(400, "expected a request that fits this address, got another")


async def _too_large(request: Request, failed: Exception) -> Response:
    raise failed  # which the guard answers


async def _failed(request: Request, failed: Exception) -> Response:
    """What nobody foresaw: a line in the log, and nothing of it to who request."""
    log.error("%s %s: %s: %s", request.method, clean(request.url.path, 100), type(failed).__name__, clean(str(failed)))
    request.app.state.metrics.refused(500)
    said = "noisewright failed on this request; its log says how"
    return error(500, said, "server_error", **HEADERS)  # it stands outside of the guard


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that is full."""

HANDLERS: dict[type[Exception], Any] = {
    ValueError: _wrong, TypeError: _wrong, NotThere: _not_there, FileNotFoundError: _not_there, RunMismatch: _conflict,
    Full: _full, HTTPException: _of_http, RequestValidationError: _invalid, TooLarge: _too_large,
    ClientDisconnect: _wrong,
}  # fmt: skip
"""What each kind of error is answered with; the nearest class counts."""
