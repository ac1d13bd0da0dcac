"""A verifier behind a URL: the images are posted as PNG, the scores come back as JSON.

The request is ``POST URL`` with ``Content-Type: application/json`` and the body ::

    {"prompt": "two red circles", "images": ["<base64 of a PNG>", ...]}

and the answer, with status 200, is ``{"scores": [0.7, null, ...]}``: one number for each image in the order of the
request, higher is better, null where there is none.

A server that asks for a key gets one with ``http://HOST/PATH,key_env=NAME``: the variable NAME holds it, so that no
record does. It is sent as ``Authorization: Bearer KEY``; ``key_as=x-api-key`` sends it as that header,
``key_as=?api_key`` as that parameter of the query.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import math
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.outside.texts import clean
from noisewright.verifiers.addresses import checked_url, key_for
from noisewright.verifiers.retry import (
    LARGEST_ANSWER,
    BackOff,
    LateError,
    TimeIsUp,
    Transient,
    checked_seconds,
    deadline,
    is_local,
    is_transient,
    one_line,
    retry_after,
    seconds_left,
    within,
)

LONGEST_SECONDS = 300.0
"""Of one call, all tries together, where nothing else is said; five requests where these may take longer."""

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PARAMETER = re.compile(r"\?[A-Za-z0-9_.-]+")


class HttpVerifier:
    """Asks a server for scores, in the form that this module's docstring describes.

    Statuses 408, 409, 425, 429 and from 500, cut connections and time-outs are tried again, with exponential waits, or
    as long as ``Retry-After`` says. Redirections are not followed.

    Args:
        url: ``http://HOST[:PORT]/PATH`` or ``https://...``.
        name: what the scores are called; by default the host.
        timeout: seconds that one request may take.
        deadline: seconds that one call may take, all tries together.
        key_env: the environment variable that holds the server's key.
        key_as: how the key is sent: ``bearer``, the name of a header, or ``?`` and the name of a parameter.
        back_off: how often and when a request is tried again.

    Raises:
        ValueError: on a URL that is not of this form, or that holds a password or a key (URLs are kept in records), or
            on a key that is not there or would be sent in the clear.
    """

    waits = True

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        timeout: float = 120.0,
        deadline: float | None = None,
        key_env: str | None = None,
        key_as: str | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        checked_url(url)
        self.timeout = checked_seconds("timeout", timeout)
        longest = max(LONGEST_SECONDS, 5 * timeout)
        self.deadline = longest if deadline is None else checked_seconds("deadline", deadline)
        self.url = url
        self.host = str(urlsplit(url).hostname)
        self.name = name or self.host
        self.back_off = back_off or BackOff()
        self.fingerprint = hashlib.sha256(f"http-1 {self.url}".encode()).hexdigest()[:16]
        if key_as is not None and key_env is None:
            raise ValueError("expected key_env=NAME beside key_as, got none")
        self._key_as = "bearer" if key_as is None else key_as
        if not _HEADER.fullmatch(self._key_as) and not _PARAMETER.fullmatch(self._key_as):
            raise ValueError(f"expected key_as of bearer, HEADER or ?PARAMETER, got {clean(self._key_as, 40)!r}")
        self._key = None if key_env is None else key_for(url, key_env)

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        body = json.dumps({"prompt": prompt, "images": [base64_png(array) for array in pixels_of(images)]}).encode()
        shown = clean(self.url)
        try:
            with deadline(self.deadline, own=True):
                answer = self.back_off.run(lambda number: self._ask(body))
        except Transient as error:
            if error.time_is_up:
                raise TimeIsUp(f"verifier {self.name}: no time was left to wait for {shown}: {error}") from error
            if error.status == 500:  # perhaps of one image: the others are worth a request of their own
                raise ValueError(str(error)) from error
            tries = "once" if self.back_off.tries == 1 else f"{self.back_off.tries} times"
            raise VerifierFailed(f"verifier {self.name}: {shown} failed {tries}: {error}") from error
        try:
            return _scores(answer, len(images))
        except ValueError as error:
            raise VerifierFailed(f"verifier {self.name}: {error} from {shown}") from None

    def _ask(self, body: bytes) -> bytes:
        """:meth:`_post`, for no longer than a request may take."""
        opened: list[http.client.HTTPConnection] = []
        try:
            return within(min(self.timeout, seconds_left()), lambda: self._post(body, opened), partial(_shut, opened))
        except LateError as error:
            raise Transient(str(error)) from None

    def _post(self, body: bytes, opened: list[http.client.HTTPConnection]) -> bytes:
        """The body of the answer; connections are put into ``opened``.

        Raises:
            Transient: where it may help to try again.
            ValueError: where it will not, or only image by image.
        """
        url, headers = self._addressed()
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - the scheme is checked
        try:
            with _opener(self.host, opened).open(request, timeout=self.timeout) as answer:
                found = bytes(answer.read(LARGEST_ANSWER + 1))
                missing = answer.length  # of what Content-Length promised; a read of so many bytes does not check it
        except urllib.error.HTTPError as error:
            with error:
                if is_transient(error.code):
                    wait = retry_after(error.headers.get("Retry-After"))
                    raise Transient(f"HTTP status {error.code}", wait, error.code) from None
                if 300 <= error.code < 400:
                    where = clean(error.headers.get("Location"), 200)
                    raise VerifierFailed(
                        f"verifier {self.name}: {clean(self.url)} sends requests on to {where}: give that address"
                    ) from None
                said = _said(error)
            raise ValueError(f"HTTP status {error.code}: {said}") from None
        except (OSError, http.client.HTTPException) as error:
            inner = getattr(error, "reason", error)
            raise Transient(one_line(inner if isinstance(inner, BaseException) else error)) from None
        if len(found) > LARGEST_ANSWER:
            raise ValueError(f"expected an answer of at most {LARGEST_ANSWER} bytes, got more")
        if missing:
            raise Transient(f"the answer was cut {missing} bytes before its end")
        return found

    def _addressed(self) -> tuple[str, dict[str, str]]:
        """The address and the headers of a request, with the key."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is None:
            return self.url, headers
        if self._key_as.startswith("?"):
            whole, _, _ = self.url.partition("#")
            mark = "&" if "?" in whole else "?"
            return f"{whole}{mark}{self._key_as[1:]}={quote(self._key, safe='')}", headers
        if self._key_as.lower() == "bearer":
            return self.url, {**headers, "Authorization": f"Bearer {self._key}"}
        return self.url, {**headers, self._key_as: self._key}


def over_http(
    model: str = "",
    name: str = "http",
    timeout: float = 120.0,
    deadline: float | None = None,
    key_env: str | None = None,
    key_as: str | None = None,
) -> HttpVerifier:
    """What is typed as ``http://...``, which the registry cuts into a name and a model; options as ``,name=NAME``."""
    own = None if name == "http" else name
    return HttpVerifier(f"http:{model}", name=own, timeout=timeout, deadline=deadline, key_env=key_env, key_as=key_as)


def over_https(
    model: str = "",
    name: str = "https",
    timeout: float = 120.0,
    deadline: float | None = None,
    key_env: str | None = None,
    key_as: str | None = None,
) -> HttpVerifier:
    """What is typed as ``https://...``; see :func:`over_http`."""
    own = None if name == "https" else name
    return HttpVerifier(f"https:{model}", name=own, timeout=timeout, deadline=deadline, key_env=key_env, key_as=key_as)


def base64_png(array: Any) -> str:
    """A PNG of (height, width, 3) uint8 pixels as base64 text."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", compress_level=4)
    return base64.b64encode(file.getvalue()).decode()


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


def _shut(opened: list[http.client.HTTPConnection]) -> None:
    """End connections that another thread waits for."""
    for one in opened:
        if one.sock is not None:
            with suppress(OSError):
                one.sock.shutdown(socket.SHUT_RDWR)


def _said(error: urllib.error.HTTPError) -> str:
    """The start of what a server says of a failure."""
    try:
        return clean(error.read(2000), 200)
    except (OSError, http.client.HTTPException) as other:
        return one_line(other)


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
        start = clean(answer[:2000], 80)
        raise ValueError(f"expected JSON such as {{'scores': [0.7, ...]}}, got {start!r}")
    if len(given) != count:
        raise ValueError(f"expected {count} scores, got {len(given)}")
    return [math.nan if one is None else float(one) for one in given]


def _is_score(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1023
    return value is None or isinstance(value, float)
