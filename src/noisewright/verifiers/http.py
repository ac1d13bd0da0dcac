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
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.outside.texts import clean
from noisewright.verifiers.addresses import checked_url, key_for
from noisewright.verifiers.posting import StatusError, exchange
from noisewright.verifiers.retry import LARGEST_ANSWER, BackOff, TimeIsUp, Transient, checked_seconds, deadline

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
        """The body of the answer.

        Raises:
            Transient: where it may help to try again.
            ValueError: where it will not, or only image by image.
        """
        url, headers = self._addressed()
        try:
            return exchange(url, body, headers, self.timeout, most=LARGEST_ANSWER)
        except StatusError as error:
            if error.location or 300 <= error.status < 400:
                raise VerifierFailed(
                    f"verifier {self.name}: {clean(self.url)} sends requests on to {error.location}: give that address"
                ) from None
            raise ValueError(f"HTTP status {error.status}: {clean(error.said, 200)}") from None

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
