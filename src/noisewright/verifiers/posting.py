"""One request to a server over HTTP: bounded in bytes and seconds, not sent on to anybody else, ended from outside."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from noisewright.outside.texts import clean
from noisewright.verifiers.retry import (
    LARGEST_ANSWER,
    LateError,
    Transient,
    is_local,
    is_transient,
    one_line,
    retry_after,
    seconds_left,
    within,
)

LARGEST_REASON = 4000
"""Bytes of what a server says of a failure that are read."""


class StatusError(Exception):
    """A server answered with a status that will not pass by itself.

    Attributes:
        status: of HTTP.
        said: the start of the answer's body, raw: :func:`~.texts.clean` it before it is shown.
        location: where a redirection leads, clean; empty of any other status.
    """

    def __init__(self, status: int, said: bytes = b"", location: str = "") -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.said = said
        self.location = location


class Connections:
    """What a request opened, so that another thread can end it.

    Attributes:
        opened: the connections.
        over: set where nobody waits for an answer any more.
    """

    def __init__(self) -> None:
        self.opened: list[http.client.HTTPConnection] = []
        self.over = threading.Event()

    def end(self) -> None:
        """End them for good."""
        self.over.set()
        self.shut()

    def shut(self) -> None:
        """End them, whoever waits for them."""
        for one in list(self.opened):
            if one.sock is not None:
                with suppress(OSError):
                    one.sock.shutdown(socket.SHUT_RDWR)


def exchange(
    url: str, body: bytes | None, headers: Mapping[str, str], timeout: float, *, most: int = LARGEST_ANSWER,
    connections: Connections | None = None,
) -> bytes:  # fmt: skip
    """The body of the answer to a POST, or to a GET where ``body`` is None.

    It takes no longer than ``timeout``, nor than the nearest :func:`~noisewright.verifiers.retry.deadline` allows.

    Args:
        url: whose scheme is checked.
        body: JSON.
        headers: of the request.
        timeout: seconds.
        most: bytes of the answer.
        connections: what is opened is put there.

    Raises:
        Transient: where it may help to try again.
        StatusError: on any other status than 200 to 299.
        ValueError: on an answer of more bytes.
    """
    held = Connections() if connections is None else connections
    try:
        return within(min(timeout, seconds_left()), partial(_sent, url, body, headers, timeout, most, held), held.shut)
    except LateError as error:
        raise Transient(str(error)) from None


def _sent(
    url: str, body: bytes | None, headers: Mapping[str, str], timeout: float, most: int, held: Connections
) -> bytes:
    request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - the scheme is checked
    try:
        with _opener(str(urlsplit(url).hostname), held.opened).open(request, timeout=timeout) as answer:
            found = bytes(answer.read(most + 1))
            missing = answer.length  # of what Content-Length promised; a read of so many bytes does not check it
    except urllib.error.HTTPError as error:
        with error:
            if is_transient(error.code):
                wait = retry_after(error.headers.get("Retry-After"))
                raise Transient(f"HTTP status {error.code}", wait, error.code) from None
            where = clean(error.headers.get("Location"), 200) if 300 <= error.code < 400 else ""
            raise StatusError(error.code, _said(error), where) from None
    except (OSError, http.client.HTTPException) as error:
        inner = getattr(error, "reason", error)
        raise Transient(one_line(inner if isinstance(inner, BaseException) else error)) from None
    if len(found) > most:
        raise ValueError(f"expected an answer of at most {most} bytes, got more")
    if missing:
        raise Transient(f"the answer was cut {missing} bytes before its end")
    return found


def _said(error: urllib.error.HTTPError) -> bytes:
    """The start of what a server says of a failure."""
    try:
        return error.read(LARGEST_REASON)
    except (OSError, http.client.HTTPException) as other:
        return one_line(other).encode()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirection, which would turn the POST into a GET."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener(host: str, opened: list[http.client.HTTPConnection]) -> urllib.request.OpenerDirector:
    """Sends requests, and puts the connections that it opens into ``opened``."""
    handlers: list[Any] = [_Stay, _kept(urllib.request.HTTPHandler, opened), _kept(urllib.request.HTTPSHandler, opened)]
    if is_local(host):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _kept(kind: type[Any], opened: list[http.client.HTTPConnection]) -> Any:
    """A handler of urllib whose connections can be ended from another thread."""

    def do_open(self: Any, made: Callable[..., http.client.HTTPConnection], request: Any, **more: Any) -> Any:
        def kept(*given: Any, **options: Any) -> http.client.HTTPConnection:
            opened.append(made(*given, **options))
            return opened[-1]

        return kind.do_open(self, kept, request, **more)

    return type(kind.__name__, (kind,), {"do_open": do_open})()
