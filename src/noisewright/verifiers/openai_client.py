"""The ``openai`` client of one server, made so that keys and images go to nobody else and no answer is without end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from noisewright.outside.texts import guard_log, remember_secret
from noisewright.verifiers.addresses import KEY, URL, checked_url, origin, own_server
from noisewright.verifiers.retry import LARGEST_ANSWER, is_local, seconds_left

NO_KEY = "none"
"""Sent to servers that get no key, since the client wants to send one."""

CUSTOM_HEADERS = "OPENAI_CUSTOM_HEADERS"
"""Headers that the client reads from the environment: they are for the server of the environment alone."""

COMPRESSED = 64
"""How much less of a compressed answer is read than of a plain one, which is what was asked for."""


class TooLongError(Exception):
    """An answer of more bytes than anyone would read."""


def server_of(base_url: str | None) -> tuple[str, dict[str, str]]:
    """A server's address as it may be recorded, and what its requests have as a query."""
    if not base_url:
        return own_server()
    parts = urlsplit(checked_url(base_url))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")).rstrip("/"), dict(parse_qsl(parts.query))


def client_of(url: str, timeout: float, key: str | None, query: dict[str, str]) -> Any:
    """The ``openai`` client of a server, without its own retries; OpenAI alone hears of organization and project."""
    parts, foreign = urlsplit(url), origin(url) != origin(own_server()[0])
    if key is None and parts.scheme == "https" and not is_local(parts.hostname):
        if not foreign:
            raise ValueError(f"expected an API key in {KEY} for {url} (or another server in {URL}), got none")
        if not os.environ.get(KEY):
            raise ValueError(f"expected an API key in {KEY} for {url}, named with key_env={KEY} (or NAME), got none")
    try:
        import openai
    except ImportError:
        raise ValueError("expected the openai package for this verifier: pip install 'noisewright[judge]'") from None
    named = [line.partition(":") for line in os.environ.get(CUSTOM_HEADERS, "").split("\n")]
    for _, _, value in named:
        remember_secret(value.strip().rpartition(" ")[2])

    def sent(request: Any) -> None:
        """Takes from a request what the client adds to all of them, whoever they go to."""
        request.headers["Accept-Encoding"] = "identity"
        if foreign:
            for name, colon, _ in named:
                if colon and name.strip() in request.headers:
                    del request.headers[name.strip()]
            request.headers["Authorization"] = f"Bearer {key or NO_KEY}"

    if query:  # which the client's own log shows
        for library in ("httpx", "httpx2"):
            guard_log(library)
    http = openai.DefaultHttpxClient(
        follow_redirects=False,
        trust_env=not is_local(parts.hostname),
        event_hooks={"request": [sent], "response": [_bounded]},
    )
    found = openai.OpenAI(
        api_key=key or NO_KEY, base_url=url, max_retries=0, timeout=timeout, http_client=http, default_query=query
    )
    found.admin_api_key = None
    if not is_openai(url):  # both are read from the environment
        found.organization = found.project = None
    return found


def _bounded(response: Any) -> None:
    """Lets a response be read up to a number of bytes, and until the deadline."""
    stream = response.stream
    most = LARGEST_ANSWER // (COMPRESSED if response.headers.get("content-encoding", "identity") != "identity" else 1)
    base: Any = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")  # whosever httpx it is

    class Bounded(base):  # type: ignore[misc]  # whose type is known at run time only
        def __iter__(self) -> Iterator[bytes]:
            read = 0
            for part in stream:
                read += len(part)
                if read > most:
                    raise TooLongError(f"expected an answer of at most {most} bytes, got more")
                if seconds_left() <= 0:
                    raise TimeoutError("the answer took too long")
                yield part

        def close(self) -> None:
            stream.close()

    response.stream = Bounded()


def is_openai(url: str) -> bool:
    """Whether a server is OpenAI's own, of whatever region."""
    parts = urlsplit(url)
    return parts.scheme == "https" and f".{parts.hostname}".endswith(".api.openai.com")
