"""A verifier behind a URL: the images are posted as PNG, the scores come back as JSON.

The request is ``POST URL`` with ``Content-Type: application/json`` and the body ::

    {"prompt": "two red circles", "images": ["<base64 of a PNG>", ...]}

and the answer, with status 200, is ``{"scores": [0.7, null, ...]}``: one number for each image in the order of the
request, higher is better, null where there is none.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.metadata import pixels_of
from noisewright.verifiers.retry import LOCAL_HOSTS, BackOff, Transient, is_transient, one_line, retry_after

LARGEST_ANSWER = 2**24
"""Bytes."""


class HttpVerifier:
    """Asks a server for scores, in the form that this module's docstring describes.

    Statuses 408, 409, 425, 429 and from 500, cut connections and time-outs are tried again, with exponential waits, or
    as long as ``Retry-After`` says. Redirections are not followed.

    Args:
        url: ``http://HOST[:PORT]/PATH`` or ``https://...``.
        name: what the scores are called; by default the host.
        timeout: seconds that the server may be silent.
        back_off: how often and when a request is tried again.

    Raises:
        ValueError: on a URL that is not of this form, or that holds a password (URLs are kept in records).
    """

    def __init__(
        self, url: str, *, name: str | None = None, timeout: float = 120.0, back_off: BackOff | None = None
    ) -> None:
        checked_url(url)
        if timeout <= 0:
            raise ValueError(f"expected a timeout of more than 0 seconds, got {timeout}")
        self.url = url
        self.host = str(urlsplit(url).hostname)
        self.name = name or self.host
        self.timeout = timeout
        self.back_off = back_off or BackOff()
        self.fingerprint = hashlib.sha256(f"http-1 {self.url}".encode()).hexdigest()[:16]

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        body = json.dumps({"prompt": prompt, "images": [base64_png(array) for array in pixels_of(images)]}).encode()
        try:
            answer = self.back_off.run(lambda number: self._post(body))
        except Transient as error:
            if error.status == 500:  # perhaps of one image: the others are worth a request of their own
                raise ValueError(str(error)) from error
            tries = "once" if self.back_off.tries == 1 else f"{self.back_off.tries} times"
            raise VerifierFailed(f"verifier {self.name}: {self.url} failed {tries}: {error}") from error
        try:
            return _scores(answer, len(images))
        except ValueError as error:
            raise VerifierFailed(f"verifier {self.name}: {error} from {self.url}") from None

    def _post(self, body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            Transient: where it may help to try again.
            ValueError: where it will not, or only image by image.
        """
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked
            self.url, body, {"Content-Type": "application/json", "Accept": "application/json"}
        )
        try:
            with _opener(self.host).open(request, timeout=self.timeout) as answer:
                found = bytes(answer.read(LARGEST_ANSWER + 1))
                missing = answer.length  # of what Content-Length promised; a read of so many bytes does not check it
        except urllib.error.HTTPError as error:
            with error:
                if is_transient(error.code):
                    asked = retry_after(error.headers.get("Retry-After"))
                    raise Transient(f"HTTP status {error.code}", asked, error.code) from None
                if 300 <= error.code < 400:
                    where = error.headers.get("Location")
                    raise VerifierFailed(
                        f"verifier {self.name}: {self.url} sends requests on to {where}: give that address"
                    ) from None
                said = one_line(Exception(error.read(500).decode(errors="replace")))
            raise ValueError(f"HTTP status {error.code}: {said}") from None
        except (OSError, http.client.HTTPException) as error:
            inner = getattr(error, "reason", error)
            raise Transient(one_line(inner if isinstance(inner, BaseException) else error)) from None
        if len(found) > LARGEST_ANSWER:
            raise ValueError(f"expected an answer of at most {LARGEST_ANSWER} bytes, got more")
        if missing:
            raise Transient(f"the answer was cut {missing} bytes before its end")
        return found


def over_http(model: str = "", name: str = "http", timeout: float = 120.0) -> HttpVerifier:
    """What is typed as ``http://...``, which the registry cuts into a name and a model; options as ``,name=NAME``."""
    return HttpVerifier(f"http:{model}", name=None if name == "http" else name, timeout=timeout)


def over_https(model: str = "", name: str = "https", timeout: float = 120.0) -> HttpVerifier:
    """What is typed as ``https://...``; see :func:`over_http`."""
    return HttpVerifier(f"https:{model}", name=None if name == "https" else name, timeout=timeout)


def checked_url(url: str) -> str:
    """``url`` where it is one of a server.

    Raises:
        ValueError: on another scheme, no host, or a password in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or any(mark.isspace() for mark in url):
        raise ValueError(f"expected a URL such as http://localhost:8000/score, got {url!r}")
    if parts.username or parts.password:
        raise ValueError(f"expected a URL without a user or password, which records would keep, got one for {host}")
    return url


def base64_png(array: Any) -> str:
    """A PNG of (height, width, 3) uint8 pixels as base64 text."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", compress_level=4)
    return base64.b64encode(file.getvalue()).decode()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirection, which would turn the POST into a GET."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener(host: str) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_Stay]
    if host in LOCAL_HOSTS:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _scores(answer: bytes, count: int) -> list[float]:
    """The scores of an answer's body.

    Raises:
        ValueError: on anything but JSON with ``count`` numbers or nulls.
    """
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    given = found.get("scores") if isinstance(found, dict) else found
    if not isinstance(given, list) or not all(_is_score(one) for one in given):
        start = one_line(Exception(answer[:80].decode(errors="replace")))
        raise ValueError(f"expected JSON such as {{'scores': [0.7, ...]}}, got {start!r}")
    if len(given) != count:
        raise ValueError(f"expected {count} scores, got {len(given)}")
    return [math.nan if one is None else float(one) for one in given]


def _is_score(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1023
    return value is None or isinstance(value, float)
