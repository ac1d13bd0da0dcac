"""A server of images as a model: what is typed as ``http://HOST/v1[#MODEL][,key_env=NAME][,timeout=SECONDS]``.

It is asked as OpenAI's Images API has it (``POST URL/images/generations``), with the fields that self-hosted servers
add to it: ``seed, num_inference_steps, guidance_scale, negative_prompt``. What comes back is somebody else's: it is
bounded in bytes and pixels, decoded here, and none of the file is kept. Addresses in answers are not followed.

A key is sent as :mod:`noisewright.verifiers.addresses` has it: that of ``OPENAI_API_KEY`` to the server that it was
given for, and to another one only what ``key_env=NAME``, typed with its address, names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from noisewright.errors import RunInterrupted
from noisewright.images.reading import decode_image
from noisewright.outside.messages import short, unknown
from noisewright.outside.texts import clean, clean_all
from noisewright.samplers.load import best_device
from noisewright.verifiers.addresses import checked_url, key_for
from noisewright.verifiers.posting import Connections, StatusError, exchange
from noisewright.verifiers.retry import BackOff, Transient, checked_seconds

LARGEST_IMAGE_ANSWER = 2**26
"""Bytes of an answer that are read: an image of 4096 x 4096 as a PNG, in base64, and more."""

LARGEST_LIST = 2**20
"""Bytes of a server's list of models."""

LIST_SECONDS = 20.0
"""That a server may take to say which models it has."""

WAITS = BackOff(tries=8, first=0.5, longest=600.0)
"""A busy server says how long it wants to be left alone (``Retry-After``): that is waited for, up to ten minutes."""

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
"""How files of PNG, JPEG and WebP begin: other formats are not asked for, and not opened."""

MOST_MALFORMED = 3
"""Answers without a readable image, of one request, until it is given up."""

OPTIONS = ("key_env", "timeout")

REFUSED = frozenset({400, 404, 415, 422})
"""Statuses with which servers refuse a field that they do not know."""

UNKNOWN = re.compile(
    r"unknown|unrecogni[sz]ed|unexpected|extra|unsupported (?!value)|not supported|not permitted|not allowed"
    r"|does ?n[o']t (?:support|accept|take|exist)", re.IGNORECASE,
)  # fmt: skip
"""Words with which they do that."""

OURS = "noisewright"
"""Whom our own server names as the owner of its models: it is told not to search."""

SAID = ("id", "object", "owned_by", "root", "parent", "fingerprint")
"""What a server says of a model that is the same from one day to the next."""


class RefusedError(ValueError):
    """A server will not make this image, and perhaps others."""


class MalformedError(ValueError):
    """An answer holds no image that can be read: the next one may."""


@dataclass(frozen=True)
class Address:
    """Where a model is served.

    Attributes:
        url: of the server's API, such as ``http://localhost:8000/v1``.
        model: as the server calls it; empty where that was not said.
        key_env: the environment variable that holds the server's key.
        timeout: seconds that one image may take.
    """

    url: str
    model: str = ""
    key_env: str | None = None
    timeout: float = 600.0

    @property
    def name(self) -> str:
        """The address without its options, for people and records."""
        return f"{self.url}#{self.model}" if self.model else self.url


def read_address(text: str) -> Address:
    """An address as it is typed.

    Raises:
        ValueError: in one line, on what is no address of a server, on a query, a key or a user in it, and on an unknown
            option.
    """
    where, *rest = text.split(",")
    url, _, model = where.partition("#")
    checked_url(url)
    if urlsplit(url).query:
        raise ValueError(f"expected the address of an image server without a query, got {clean(url)}")
    if not model.isprintable() or len(model) > 300:
        raise ValueError(f"expected a model after # as the server calls it, got {short(model)}")
    options: dict[str, str] = {}
    for one in rest:
        key, _, value = one.partition("=")
        if key not in OPTIONS or key in options:
            raise ValueError(unknown("option of an image server", key, list(OPTIONS)))
        options[key] = value
    seconds = checked_seconds("timeout", options.get("timeout", Address.timeout))
    return Address(url.rstrip("/"), model, options.get("key_env"), seconds)


class ImageServer:
    """What stands in a pipeline's place where the model is behind a server.

    Args:
        text: as :func:`read_address` takes it.
        device: where verifiers compute, which are here; by default the best there is.
        waits: how often and when a request is sent again.

    Attributes:
        name_or_path: the address as it was typed.
        name: the address with the model's name, without options.
        model: as the server calls it; empty where it does not say.
        said: what the server says of the model; empty where it says nothing.
        fingerprint: of the address and of that. What really runs there nobody can know from here.
        refuses: fields of requests that the server turned out not to take.

    Raises:
        ValueError: in one line, where nobody answers, the server wants a key, or has no such model.
    """

    def __init__(self, text: str, device: str | None = None, waits: BackOff = WAITS) -> None:
        self.address = read_address(text)
        self.name_or_path = text
        self.device = torch.device(device or best_device())
        self.waits = waits
        self._key = key_for(self.address.url, self.address.key_env)
        self._lock = threading.Lock()
        self.refuses: set[str] = set()
        self.said = self._look()
        self.model = self.address.model or str(self.said.get("id", ""))
        self.name = Address(self.address.url, self.model).name
        self.fingerprint = self._fingerprint_of(self.said)

    def _fingerprint_of(self, said: Mapping[str, Any]) -> str:
        about = json.dumps(["image-server-1", self.address.url, self.model, said], sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def is_same(self, fingerprint: Any, said: Any) -> bool:
        """Whether what was recorded of a server is of this one and its model, though one of the two times it knew less.

        Our own server says the fingerprint of a model's weights from when it loaded them on. Where both times it said
        one, it has to be the same.

        Args:
            fingerprint: that was recorded.
            said: what the server said of its model then.
        """
        if not isinstance(said, Mapping):
            return bool(fingerprint == self.fingerprint)
        known = {one["fingerprint"] for one in (said, self.said) if "fingerprint" in one}
        then, now = ({key: one for key, one in some.items() if key != "fingerprint"} for some in (said, self.said))
        return len(known) < 2 and then == now and bool(fingerprint == self._fingerprint_of(dict(said)))

    def __call__(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        negative_prompt: str | None = None,
        quality: str | None = None,
        style: str | None = None,
        background: str | None = None,
        moderation: str | None = None,
        output_format: str | None = None,
        output_compression: int | None = None,
        user: str | None = None,
        extra_body: dict | None = None,  # type: ignore[type-arg]
    ) -> np.ndarray:
        """One image (height, width, 3) uint8, as the server makes it.

        Args:
            prompt: what to show.
            seed: whose image is wanted.
            height, width: pixels, sent as ``size``.
            num_inference_steps, guidance_scale, true_cfg_scale, negative_prompt: as in diffusers.
            quality, style, background, moderation, output_format, output_compression, user: as OpenAI has them.
            extra_body: further fields by name.

        Raises:
            RunInterrupted: where the server gives no answer however often it is asked.
            ValueError: where it refuses, or its answer holds no image.
        """
        given = {key: value for key, value in locals().items() if key not in ("self", "extra_body", "height", "width")}
        size = {} if height is None or width is None else {"size": f"{width}x{height}"}
        fields = {key: value for key, value in given.items() if value is not None}
        return self.image({**fields, **size, **(extra_body or {})})

    def image(self, fields: Mapping[str, Any], connections: Connections | None = None) -> np.ndarray:
        """As a call, of the fields of a request; requests may be made from several threads at once."""
        held = Connections() if connections is None else connections
        bad = 0

        def once(number: int) -> np.ndarray:
            nonlocal bad
            try:
                return self._once(fields, held)
            except MalformedError as error:  # once, it may be an accident
                bad += 1
                if bad == MOST_MALFORMED:
                    raise
                raise Transient(str(error)) from error

        try:
            return self.waits.run(once, held.over.wait)
        except Transient as error:
            if isinstance(error.__cause__, MalformedError):
                raise error.__cause__ from None
            raise RunInterrupted(f"{clean(self.name)} gave no image: {error}") from error

    def _once(self, fields: Mapping[str, Any], held: Connections) -> np.ndarray:
        """One request; without a field, from the first time on that the server takes it without."""
        ours = {"search": {"budget": 1}} if self.said.get("owned_by") == OURS else {}
        model = {"model": self.model} if self.model else {}
        whole = {**model, "n": 1, "response_format": "b64_json", **ours, **fields}
        without: set[str] = set()
        while True:
            if held.over.is_set():
                raise RunInterrupted(f"nobody waits for {clean(self.name)} any more")
            sent = {key: value for key, value in whole.items() if key not in self.refuses | without}
            try:
                answer = exchange(
                    f"{self.address.url}/images/generations", json.dumps(sent).encode(), self._headers(),
                    self.address.timeout, most=LARGEST_IMAGE_ANSWER, connections=held,
                )  # fmt: skip
                with self._lock:
                    self.refuses |= without
                return _image_in(answer, clean(self.name))
            except StatusError as error:
                field = _unknown_field(error, sent)
                if field is None:
                    raise self._refusal(error) from None
                without.add(field)

    def _headers(self) -> dict[str, str]:
        found = {"Content-Type": "application/json", "Accept": "application/json"}
        return found if self._key is None else {**found, "Authorization": f"Bearer {self._key}"}

    def _look(self) -> dict[str, Any]:
        """What the server says of the model: its name, whose it is, and its fingerprint where it has one."""
        try:
            answer = exchange(f"{self.address.url}/models", None, self._headers(), LIST_SECONDS, most=LARGEST_LIST)
        except Transient as error:
            if error.status is not None:
                return {}
            raise ValueError(f"expected an image server at {clean(self.address.url)}, got none: {error}") from None
        except StatusError as error:
            if error.status in (401, 403) or error.location:
                raise self._refusal(error) from None
            return {}  # it has no list
        models = _models_in(answer)
        ids = [one["id"] for one in models]
        if not self.address.model:
            if len(models) > 1:
                several = ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")
                raise ValueError(f"expected {clean(self.address.url)}#MODEL, got no model of {several}")
            return models[0] if models else {}
        named = [one for one in models if one["id"] == clean(self.address.model)]
        if models and not named:
            raise ValueError(unknown(f"model of {clean(self.address.url)}", self.address.model, ids[:50]))
        return named[0] if named else {}

    def _refusal(self, error: StatusError) -> ValueError:
        """One line on a status that will not pass; what the server says is cleaned."""
        where = clean(self.name if hasattr(self, "name") else self.address.name)
        if error.location:
            return ValueError(f"{where} sends requests on to {error.location}: give that address")
        if error.status in (401, 403):
            named = self.address.key_env or "none was sent: ,key_env=NAME after the address names the variable of one"
            return ValueError(f"{where} refuses the key ({named}): {reason_of(error.said)}")
        text = f"{where}: HTTP status {error.status}: {reason_of(error.said)}"
        return ValueError(text) if error.status in (404, 405, 501) else RefusedError(text)


def reason_of(said: bytes) -> str:
    """What a server says of a failure, in one clean line: OpenAI's ``error.message``, or ``detail``, or the text."""
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return clean(said, 300) or "no reason"
    if isinstance(found, dict):
        error = found.get("error", found.get("detail", found.get("message")))
        found = error.get("message", error) if isinstance(error, dict) else error
    return clean(found, 300)


def _unknown_field(error: StatusError, sent: Mapping[str, Any]) -> str | None:
    """The field that a server does not take and that it can do without; None where that is not why it refuses."""
    if error.status not in REFUSED:
        return None
    text = error.said[:LARGEST_LIST].decode("utf-8", "replace")
    if not UNKNOWN.search(text):  # it is about the field's value, say: the next one may do
        return None
    for field in ("response_format", "seed"):
        if field in sent and re.search(rf"(?<![a-z_]){field}(?![a-z_])", text):
            return field
    return None


def _models_in(answer: bytes) -> list[dict[str, Any]]:
    """The models of a server's list, as far as it is one: what is said of each that is kept, clean."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    listed = found.get("data") if isinstance(found, dict) else None
    models = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    kept = [{key: clean_all(one[key], 300) for key in SAID if isinstance(one.get(key), str)} for one in models[:1000]]
    return [one for one in kept if one.get("id")]


def _image_in(answer: bytes, name: str) -> np.ndarray:
    """The image (height, width, 3) uint8 of an answer.

    Raises:
        ValueError: in one line, where there is an address in its place.
        MalformedError: in one line, where there is none that can be read.
    """
    try:
        found = json.loads(answer)
        first = found["data"][0]
        text = first.get("b64_json")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        start = clean(answer[:2000], 80)
        wanted = "{'data': [{'b64_json': ...}]}"
        raise MalformedError(f"{name}: expected JSON such as {wanted}, got {start!r}") from None
    if not isinstance(text, str) or not text:
        if first.get("url"):
            raise ValueError(f"{name}: expected an image as b64_json, got an address, which is not followed")
        raise MalformedError(f"{name}: expected an image as b64_json, got no image")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{name}: expected an image in base64, got something else") from None
    if not data.startswith(SIGNATURES):
        raise MalformedError(f"{name}: expected a PNG, JPEG or WebP image, got {short(data[:16])}")
    try:
        array, _ = decode_image(io.BytesIO(data), f"the answer of {name}", ("PNG", "JPEG", "WEBP"))
    except ValueError as error:
        raise MalformedError(str(error)) from None
    return array
