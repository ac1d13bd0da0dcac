"""The images endpoint as an application by itself, for whoever serves it without the page."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from noisewright import __version__
from noisewright.errors import RunMismatch
from noisewright.outside.texts import clean
from noisewright.web.guard import guarded
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.router import images_api, said
from noisewright.web.openai.service import ImagesService
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.settings import Limits, Settings, check_settings

log = logging.getLogger("noisewright")


def images_app(
    settings: ImagesSettings, host: str = "127.0.0.1", token: str | None = None, hosts: Sequence[str] = ()
) -> FastAPI:  # fmt: skip
    """An application with the routes of :func:`~.router.images_api`, whose service lives as long as it.

    It stands behind the same checks of who asks as ``noisewright serve`` (:mod:`noisewright.web.guard`). Run it with a
    bounded ``timeout_graceful_shutdown``: a client that waits for a long search would hold it up. Where another server
    has the requests of the directory, it says so and takes none.

    Args:
        settings: what is offered.
        host: the address that it is served on; one that others can reach asks for a token.
        token: what who asks must know, as a bearer.
        hosts: names that a proxy in front of it answers to.

    Raises:
        ValueError: in one line, on what would let anybody in.
    """
    service = ImagesService(settings)
    limits = Limits(body=settings.most_body, upload=settings.most_upload)
    served = Settings(runs=settings.runs, host=host, token=token, hosts=tuple(hosts), limits=limits)
    check_settings(served)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            await run_in_threadpool(service.start)
        except RunMismatch as error:
            log.warning("%s", clean(error, 500))
            service.refuse("another server answers the requests of this directory: ask it")
        try:
            yield
        finally:
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="noisewright images", version=__version__, docs_url=None, redoc_url=None, lifespan=life,
        redirect_slashes=False,
    )  # fmt: skip
    app.include_router(images_api(service))
    app.state.images = service
    app.add_middleware(guarded, settings=served, count=service.metrics.refused)  # type: ignore[arg-type]

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = "not_found" if error.status_code == 404 else None
        return said(ApiError(error.status_code, str(error.detail), code=code, headers=error.headers))

    return app
