"""What a server's start says: where its runs are, who may ask, and what a request may name and cost."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from noisewright.outside.messages import short

TIERS = {"low": 1, "medium": 8, "high": 32}
"""Images of a search by ``quality``, where nothing else is said."""

LEAST_TOKEN = 16
"""Characters of a token: a shorter one is guessed."""


@dataclass(frozen=True)
class Limits:
    """The most that a request may ask for.

    Attributes:
        images, nfe, seconds: of a budget.
        side: pixels.
        pixels: of an image.
        steps: of denoising.
        batch: images at once.
        waiting: jobs in the queue.
        body: bytes of a request.
        upload: bytes of a request for edited images, which carries some.
        streams: pages that follow a run at the same time.
    """

    images: int = 10_000
    nfe: int = 1_000_000
    seconds: float = 86_400.0
    side: int = 4096
    pixels: int = 2**24
    steps: int = 1000
    batch: int = 256
    waiting: int = 200
    body: int = 2**20
    upload: int = 2**25
    streams: int = 64


HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""A name with a port perhaps."""

LIMITS = {
    "images": ("images", "most_images"), "seconds": ("seconds", "most_seconds"), "steps": ("steps", "most_steps"),
    "side": ("side", "most_side"), "queue": ("waiting", "queue"), "n": (None, "most_n"),
}  # fmt: skip
"""Limits that a person may set, and what they are called in :class:`Limits` and in the settings of the endpoint."""


@dataclass(frozen=True)
class Settings:
    """Of one server.

    Attributes:
        runs: the directory whose runs are shown; nothing outside of it is.
        only: the name of the one run that is shown, with those that were begun from its page, or None for all.
        begun: names of the runs that were begun from the page.
        host: the address it listens on.
        port: its port.
        hosts: names, with a port perhaps, that a proxy in front of it answers to: each is one more Host and Origin.
        token: what who asks must know, or None: then only this machine can ask.
        models: names that a request may give as its model.
        verifiers: names that a request may give as verifier and judge.
        tiers: of the images endpoint: images of a search by ``quality``.
        preload: whether the first model is loaded at once.
        beside: whether the process makes the run that is shown, with a model of its own: jobs are taken when the queue
            is started (:meth:`noisewright.web.queue.Queue.start`), when that run is over.
        cache: where thumbnails are kept.
        limits: the most that a request may ask for.
        typed: of these, what the server's start says, by the names of :data:`LIMITS`: it holds for the images endpoint
            too, whose own limits are lower.
        device, dtype: where and how models are loaded that a request says nothing of; None is the best there is.
    """

    runs: Path
    only: str | None = None
    begun: set[str] = field(default_factory=set, compare=False)
    host: str = "127.0.0.1"
    port: int = 8188
    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    verifiers: tuple[str, ...] = ()
    tiers: Mapping[str, int] = field(default_factory=lambda: dict(TIERS))
    preload: bool = False
    beside: bool = False
    cache: Path = Path("~/.cache/noisewright/pictures")
    limits: Limits = Limits()
    typed: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(host: str) -> str:
    """The name of a host with a port perhaps, in small letters."""
    return urlsplit(f"//{host}").hostname or ""


def _is_host(text: str) -> bool:
    try:
        return HOST.fullmatch(text) is not None and name_of(text) != "" and urlsplit(f"//{text}").port != 0
    except ValueError:  # no address between its brackets, or no port behind it
        return False


def check_settings(settings: Settings) -> None:
    """Refuse a server that anybody could ask.

    Raises:
        ValueError: in one line.
    """
    token = settings.token
    for host in settings.hosts:
        if not _is_host(host):
            raise ValueError(f"expected --allow-host as a name such as img.example.com, got {short(host)}")
    if settings.hosts and token is None:
        raise ValueError(f"expected --token with --allow-host {settings.hosts[0]}, by which others ask, got none")
    if token is None and not is_loopback(settings.host):
        raise ValueError(f"expected --token with --host {settings.host}, which others can reach, got none: "
                         "it is asked for as a password, and NOISEWRIGHT_TOKEN gives it too")  # fmt: skip
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()
                              or " " in token):  # fmt: skip
        raise ValueError(f"expected a token of at least {LEAST_TOKEN} letters, digits and marks, got another")
