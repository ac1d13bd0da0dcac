"""The page's own files, read once when the server starts, and the door where a token is asked for."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noisewright.schemas.reading import parse_json
from noisewright.web.guard import COOKIE, WRONG_TOKEN_SECONDS, Codes, cookie_value, is_token
from noisewright.web.parts import Parts, error, json_response

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip
SHELL = ("/", "/run", "/new", "/queue", "/evidence")
"""Addresses of the page; what each shows, its script knows."""

MONTH_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class Own:
    """A file of the page.

    Attributes:
        data, packed: as it is, and with gzip.
        media: its type.
        tag: of its content.
    """

    data: bytes
    packed: bytes
    media: str
    tag: str


def own_files() -> dict[str, Own]:
    """The page's files, by their names."""
    found = {}
    for path in sorted(STATIC.iterdir()):
        if path.suffix in TYPES:
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            found[path.name] = Own(data, gzip.compress(data, 6, mtime=0), TYPES[path.suffix], tag)
    return found


def routes(parts: Parts) -> list[Route]:
    """All of them."""
    held = own_files()

    def given(request: Request, name: str) -> Response:
        one = held.get(name)
        if one is None:
            return error(404, "expected a file of the page, got another")
        headers = {"ETag": one.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == one.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(one.packed, media_type=one.media, headers={**headers, "Content-Encoding": "gzip"})
        return Response(one.data, media_type=one.media, headers=headers)

    async def shell(request: Request) -> Response:
        return given(request, "page.html")

    async def static(request: Request) -> Response:
        return given(request, request.path_params["name"])

    async def icon(request: Request) -> Response:
        return given(request, "icon.svg")

    async def login_page(request: Request) -> Response:
        return given(request, "login.html")

    async def login(request: Request) -> Response:
        return await _login(parts, request)

    async def alive(request: Request) -> Response:
        return json_response({"status": "ok"})

    return [
        *(Route(path, shell) for path in SHELL), Route("/static/{name}", static), Route("/favicon.ico", icon),
        Route("/login", login_page), Route("/login", login, methods=["POST"]),
        *(() if parts.images else (Route("/healthz", alive),)),  # else whether it takes requests is said there
    ]  # fmt: skip


async def _login(parts: Parts, request: Request) -> Response:
    """A cookie for who knows the token: no script can read it, and no other site's page makes a browser send it.

    A word for once (:class:`~.guard.Codes`), with which the server's start opens a browser, is as good.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return error(415, "expected a request of application/json, got another")
    body = parse_json(await request.body(), "the request", most=2**14)
    token, given = parts.settings.token, body.get("token") if isinstance(body, dict) else None
    codes: Codes = request.app.state.codes
    if token is None or not isinstance(given, str) or not (is_token(given, token) or codes.take(given)):
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        return error(401, "expected this server's token, got another", "authentication_error")
    answer = json_response({"status": "ok"})
    answer.set_cookie(COOKIE, cookie_value(token), max_age=MONTH_SECONDS, httponly=True, samesite="strict", path="/",
                      secure=request.url.scheme == "https")  # fmt: skip
    return answer
