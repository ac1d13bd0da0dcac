"""The images endpoint as an application by itself, for whoever serves it without the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from noisewright import __version__
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.router import images_api, said
from noisewright.web.openai.service import ImagesService
from noisewright.web.openai.settings import ImagesSettings


def images_app(settings: ImagesSettings) -> FastAPI:
    """An application with the routes of :func:`~.router.images_api`, whose service lives as long as it.

    Run it with a bounded ``timeout_graceful_shutdown``: a client that waits for a long search would hold it up. Who may
    reach it is the server's matter: it has no token of its own.
    """
    service = ImagesService(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
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

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = "not_found" if error.status_code == 404 else None
        return said(ApiError(error.status_code, str(error.detail), code=code, headers=error.headers))

    return app
