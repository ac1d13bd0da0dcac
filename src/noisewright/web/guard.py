"""Who may ask a server, and what a browser may do with its answers: in front of every route.

- **Host**: a name that is not this server's is refused, so that no other site's name can be made to point here (DNS
  rebinding).
- **Origin**: what another site's page asks for is refused, reading and writing alike; another port is another site.
- **A proxy in front**, which answers to a name of its own, by https perhaps: the server's start says that name, which
  is one more Host, and one more Origin. Whether a browser spoke https to it, its ``X-Forwarded-Proto`` says; on that
  hang the cookie's ``Secure`` and the addresses in answers, and nothing else.
- **Token**: as a bearer, or as a cookie that scripts cannot read and other sites' pages do not send.
- **Content-Security-Policy**: own files alone; no script and no style stands in a page.
- **Size**: of what is sent, whether its length is said or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisewright.web.settings import HOST, Settings, is_loopback, name_of

COOKIE = "noisewright"
UPLOADS = ("/v1/images/edits",)
"""Where images are sent to."""

OPEN = ("/login", "/healthz", "/favicon.ico")
"""Paths that ask for no token, besides the page's own files."""

READING = ("GET", "HEAD")
WRONG_TOKEN_SECONDS = 0.5
"""Before a wrong token is answered: a thousand guesses take minutes."""

CODE_SECONDS = 60.0
"""How long a word holds that opens the door once."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "media-src 'self'; frame-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Of every answer that says nothing else."""


class TooLarge(Exception):
    """A body beyond what is read."""


def guarded(app: ASGIApp, settings: Settings, count: Callable[[int], None] = lambda status: None) -> ASGIApp:
    """An application behind all of this module's checks.

    Args:
        app: what answers who may ask.
        settings: what the server's start says.
        count: told the status of what is refused here.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route of ours is a socket
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refused = _refusal(scope, headers, settings)
        if refused is not None:
            if refused[0] != 303:
                count(refused[0])
            if refused[0] == 401 and "authorization" in headers:
                await asyncio.sleep(WRONG_TOKEN_SECONDS)
            await _answer(sending, *refused)
            return
        try:
            inner = {**scope, "scheme": scheme_of(headers, settings, scope.get("scheme", "http"))}
            await app(inner, _bounded(receive, most_of(scope["path"], settings)), sending)
        except TooLarge:
            count(413)
            if not started:
                await _answer(sending, 413, _too_large(most_of(scope["path"], settings)))
        except asyncio.CancelledError:  # as a server does that ends: nothing that its log should be filled with
            with suppress(Exception):  # the answer had ended, or is shorter than it said
                if started:
                    await sending({"type": "http.response.body", "body": b""})
                else:
                    await _answer(sending, 503, "the server is being stopped")

    return serve


def most_of(path: str, settings: Settings) -> int:
    """Bytes of a request to an address."""
    return settings.limits.upload if path in UPLOADS else settings.limits.body


def _bounded(receive: Receive, most: int) -> Receive:
    """What gives a request's body, and no more of it than ``most`` bytes."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise TooLarge
        return message

    return bounded


def _door(scope: Scope) -> str:
    """The door's address, which knows where one wanted to go."""
    query = scope.get("query_string", b"").decode("latin-1")
    wanted = f"{scope['path']}?{query}" if query else scope["path"]
    return "/login" if wanted == "/" else f"/login?to={quote(wanted)}"


def _refusal(scope: Scope, headers: Headers, settings: Settings) -> tuple[int, str] | None:
    """The status and the line that a request is refused with; None where it may go on."""
    method, path = scope["method"], scope["path"]
    host = headers.get("host", "")
    if not is_own_host(host, settings):
        return 421, "expected this server's own name in the header Host, got another"
    if not _is_own_page(method, host, headers, settings):
        return 403, "expected a request from this server's own page, got one from another site"
    most = most_of(path, settings)
    if _is_too_long(headers, most):
        return 413, _too_large(most)
    if settings.token is not None and not (path in OPEN or path.startswith("/static/")) and not has_token(
        headers, settings.token
    ):  # fmt: skip
        wants_page = method in READING and "text/html" in headers.get("accept", "")
        return (303, _door(scope)) if wants_page else (401, "expected this server's token, got none or another")
    return None


def _is_too_long(headers: Headers, most: int) -> bool:
    length = headers.get("content-length", "0")
    return not (length.isascii() and length.isdigit() and len(length) < 19 and int(length) <= most)


def _too_large(most: int) -> str:
    return f"expected a request of at most {most} bytes, got more"


def is_own_host(host: str, settings: Settings) -> bool:
    """Whether the header Host names this server: a name that others can point here is none of its names.

    Ports are not looked at, since a tunnel may have another one. Where a token is asked for, any address by its numbers
    is one: no name has to be resolved for it. Other names are those that the server's start gives.
    """
    try:
        found = urlsplit(f"//{host}")
        name, _ = (found.hostname or "").lower(), found.port
    except ValueError:
        return False
    if not name or HOST.fullmatch(host) is None:  # nothing else stands beside it, which an address would be made of
        return False
    if name in {"localhost", "127.0.0.1", "::1", settings.host.lower(), *map(name_of, settings.hosts)}:
        return True
    if is_loopback(settings.host):
        return False
    if name == socket.gethostname().lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def scheme_of(headers: Headers, settings: Settings, own: str) -> str:
    """By what a person's browser asked: where a proxy is expected in front of the server, what that one says."""
    said = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() if settings.hosts else ""
    return said if said in ("http", "https") else own


def _is_own_page(method: str, host: str, headers: Headers, settings: Settings) -> bool:
    """Whether a request comes from a page of ours, from an address that was typed, or from no browser at all."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            found = urlsplit(origin)
        except ValueError:
            return False
        own = {host.lower(), *(one.lower() for one in settings.hosts)}
        if found.scheme not in ("http", "https") or found.netloc.lower() not in own:
            return False
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    return method in READING and headers.get("sec-fetch-mode") == "navigate" and _is_document(headers)


def _is_document(headers: Headers) -> bool:
    """Whether a link was followed in a window of its own: not in a frame of another site."""
    return headers.get("sec-fetch-dest", "document") == "document"


# The token


def cookie_value(token: str) -> str:
    """What the cookie holds: the token itself is never given back."""
    return hmac.new(token.encode(), b"noisewright page", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def has_token(headers: Headers, token: str) -> bool:
    """Whether a request carries the token, as a bearer or by its cookie."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and is_token(given.strip(), token):
        return True
    wanted = cookie_value(token)
    pairs = (one.strip().partition("=") for text in headers.getlist("cookie") for one in text.split(";"))
    # Beside it may stand whatever other servers of this machine gave: a browser sends it to every port.
    return any(name == COOKIE and is_token(value, wanted) for name, _, value in pairs)


class Codes:
    """Words that open the door in place of the token, each once and soon: a browser's command line shows them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def new(self) -> str:
        """One that holds from now on."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._until[code] = time.monotonic() + CODE_SECONDS
        return code

    def take(self, given: str) -> bool:
        """Whether it is one that holds; from now on it is none."""
        now = time.monotonic()
        with self._lock:
            until = self._until.pop(given, 0.0)
            self._until = {code: end for code, end in self._until.items() if end > now}
        return until > now


async def _answer(send: Send, status: int, said: str) -> None:
    """An answer in OpenAI's shape of an error, which clients of both the page and the API read; 303 leads elsewhere."""
    kind = {401: "authentication_error", 403: "permission_error"}.get(status, "invalid_request_error")
    body = json.dumps({"error": {"message": said, "type": kind, "param": None, "code": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 303:
        headers.append((b"location", said.encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
