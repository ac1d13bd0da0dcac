"""The application behind ``noisewright serve``: routes of the page, behind the checks of :mod:`noisewright.web.guard`.

Another part of a server is a router of its own, given to :func:`app`; it stands behind the same checks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from noisewright import __version__
from noisewright.errors import RunMismatch
from noisewright.outside.texts import clean
from noisewright.web import acting, evidence, pages, reading, streams
from noisewright.web.guard import HEADERS, TooLarge, guarded
from noisewright.web.listing import Listing
from noisewright.web.live import Lives
from noisewright.web.parts import Parts, error
from noisewright.web.places import NotThere
from noisewright.web.queue import Full, Queue
from noisewright.web.settings import Settings, check_settings

log = logging.getLogger("noisewright")


def app(settings: Settings, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The application of one server.

    Args:
        settings: what its start says.
        routers: of other parts; each says its errors itself.

    Raises:
        ValueError: in one line, on settings that would let anybody in.
    """
    check_settings(settings)
    lives = Lives()
    parts = Parts(settings, Listing(settings, lives), lives, Queue(settings))

    @asynccontextmanager
    async def lifespan(made: FastAPI) -> AsyncIterator[None]:
        parts.queue.start()
        threading.Thread(target=parts.listing.all, name="listing", daemon=True).start()  # before somebody asks for it
        try:
            yield
        finally:
            await run_in_threadpool(parts.queue.close)

    more: dict[str, Any] = {"telemetry": {"auto_configure": False}}  # none, whatever the environment says of it
    made = FastAPI(title="noisewright", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
                   exception_handlers={Exception: _failed}, **more)  # fmt: skip
    made.state.parts = parts
    for kind, answer in HANDLERS.items():
        made.add_exception_handler(kind, answer)
    for some in (pages, reading, acting, streams, evidence):
        made.router.routes.extend(some.routes(parts))
    for router in routers:
        made.include_router(router)
    made.add_middleware(guarded, settings=settings)  # type: ignore[arg-type]  # which takes what makes one, too
    return made


def _said(request: Request, failed: Exception) -> str:
    """What went wrong, in one line, without this machine's paths."""
    root = str(request.app.state.parts.settings.runs)
    lines = str(failed).splitlines()
    return clean((lines[0] if lines else type(failed).__name__).replace(f"{root}/", "").replace(root, "the server's "
                 "directory"), 1000)  # fmt: skip


async def _wrong(request: Request, failed: Exception) -> Response:
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
    said = "noisewright failed on this request; its log says how"
    return error(500, said, "server_error", **HEADERS)  # it stands outside of the guard


HANDLERS: dict[type[Exception], Any] = {
    ValueError: _wrong, TypeError: _wrong, NotThere: _not_there, FileNotFoundError: _not_there, RunMismatch: _conflict,
    Full: _full, HTTPException: _of_http, RequestValidationError: _invalid, TooLarge: _too_large,
    ClientDisconnect: _wrong,
}  # fmt: skip
"""What each kind of error is answered with; the nearest class counts."""
