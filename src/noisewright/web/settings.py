"""What a server's start says: where its runs are, who may ask, and what a request may name and cost."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True)
class Settings:
    """Of one server.

    Attributes:
        runs: the directory whose runs are shown; nothing outside of it is.
        only: the name of the one run that is shown, with those that were begun from its page, or None for all.
        begun: names of the runs that were begun from the page.
        host: the address it listens on.
        port: its port.
        token: what who asks must know, or None: then only this machine can ask.
        models: names that a request may give as its model.
        verifiers: names that a request may give as verifier and judge.
        tiers: of the images endpoint: images of a search by ``quality``.
        preload: whether the first model is loaded at once.
        beside: whether the process makes the run that is shown, with a model of its own: jobs are taken when the queue
            is started (:meth:`noisewright.web.queue.Queue.start`), when that run is over.
        cache: where thumbnails are kept.
        limits: the most that a request may ask for.
    """

    runs: Path
    only: str | None = None
    begun: set[str] = field(default_factory=set, compare=False)
    host: str = "127.0.0.1"
    port: int = 8188
    token: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    verifiers: tuple[str, ...] = ()
    tiers: Mapping[str, int] = field(default_factory=lambda: dict(TIERS))
    preload: bool = False
    beside: bool = False
    cache: Path = Path("~/.cache/noisewright/pictures")
    limits: Limits = Limits()


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_settings(settings: Settings) -> None:
    """Refuse a server that anybody could ask.

    Raises:
        ValueError: in one line.
    """
    token = settings.token
    if token is None and not is_loopback(settings.host):
        raise ValueError(f"expected --token with --host {settings.host}, which others can reach, got none: "
                         "it is asked for as a password, and NOISEWRIGHT_TOKEN gives it too")  # fmt: skip
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()
                              or " " in token):  # fmt: skip
        raise ValueError(f"expected a token of at least {LEAST_TOKEN} letters, digits and marks, got another")
