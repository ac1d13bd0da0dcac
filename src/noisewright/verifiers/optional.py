"""What a verifier may have beside its name, fingerprint and call: a small protocol each.

A verifier has a part by having its method or attribute in its class: what ``__getattr__`` would find does not count on
every version of Python. That it can be climbed is :class:`~.protocol.DifferentiableVerifier`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class ChecksPrompt(Protocol):
    """A verifier that can say before anything is spent that it cannot score a prompt."""

    def check(self, prompt: str) -> None:
        """Raise a ValueError or TypeError, in one line, for a prompt that it cannot score."""
        ...


@runtime_checkable
class SaysWhetherItReads(Protocol):
    """A verifier that says whether its scores depend on the prompt.

    Attributes:
        reads_prompt: where True, it has nothing to say of images that were made without a prompt.
    """

    reads_prompt: bool


@runtime_checkable
class GivesDetails(Protocol):
    """A verifier that can say more than a number of images that it has scored."""

    def details(self, images: Tensor, prompt: str) -> list[Any]:
        """One JSON value for each of ``images``, None where there is none; asks no server."""
        ...


@runtime_checkable
class WantsPreviews(Protocol):
    """A verifier that is called ``(images, prompt, previews)``; only a search has previews.

    Attributes:
        preview_sigma: where the clean estimates are taken: the time t of the path (1 - t) image + t noise, in (0, 1).
    """

    preview_sigma: float


@runtime_checkable
class KeepsAnswers(Protocol):
    """A verifier that remembers by itself what it was asked, so that no cache is put around it."""

    def keep_in(self, directory: str | Path | None) -> None:
        """Remember in a directory from here on; None: in memory."""
        ...


@runtime_checkable
class AcceptsImages(Protocol):
    """A verifier whose scores depend on the images that were chosen before (a population's measure)."""

    def accept(self, image: Tensor) -> None:
        """A winner, (3, height, width) in [0, 1], joins the set."""
        ...


class Usage(Protocol):
    """What was asked of a server so far; its ``str`` is what a person is told.

    Attributes:
        requests: how many were sent.
    """

    requests: int


@runtime_checkable
class Billed(Protocol):
    """A verifier whose calls may cost money or go over a network: it is never asked only to see how long it takes.

    Attributes:
        usage: what was asked so far; None where this one runs here, for nothing.
    """

    @property
    def usage(self) -> Usage | None: ...


@runtime_checkable
class WaitsForServer(Protocol):
    """A verifier that says whether it mostly waits for a server, so that the model may work meanwhile.

    It is asked in a thread of its own then, for one micro-batch at a time and in their order.

    Attributes:
        waits: False where it needs the processors here.
    """

    @property
    def waits(self) -> bool: ...


@runtime_checkable
class RunsOn(Protocol):
    """A verifier that says where its network computes.

    On another device than the model's it is asked as one that waits for a server is: while the model works.

    Attributes:
        device: a ``torch.device``, or its name.
    """

    device: Any


@runtime_checkable
class StandsAround(Protocol):
    """A verifier that stands around another (with a deadline, a memory), whose file is named where it fails.

    Attributes:
        verifier: the other.
    """

    verifier: Any


@runtime_checkable
class SaysItLasts(Protocol):
    """A verifier (a metric, a network) that says whether it may be believed another day: see :func:`is_lasting`.

    Attributes:
        lasting: True where the fingerprint covers all that the scores depend on (weights, preprocessing, settings,
            code), so that scores may be looked up on disk. A function or a server never knows.
    """

    lasting: bool


def is_lasting(one: object) -> bool:
    """Whether a verifier (or a metric, or a network) may be believed on disk: see :class:`SaysItLasts`.

    Only what its own class says counts: a subclass may compute something else under the fingerprint that it inherits.
    """
    if not isinstance(one, SaysItLasts):
        return False
    own = "lasting" in vars(type(one)) or "lasting" in getattr(one, "__dict__", {})
    return own and one.lasting is True


def usage_of(verifier: object) -> Usage | None:
    """What a verifier asked of a server so far; None where it asks none."""
    return verifier.usage if isinstance(verifier, Billed) else None


def waits(verifier: object) -> bool:
    """Whether a verifier says that it mostly waits for a server."""
    return isinstance(verifier, WaitsForServer) and verifier.waits is True


def runs_elsewhere(verifier: object, device: str | torch.device) -> bool:
    """Whether a verifier says that it computes on another device than ``device``."""
    while isinstance(verifier, StandsAround):
        verifier = verifier.verifier
    if not isinstance(verifier, RunsOn):
        return False
    try:
        own, other = torch.device(verifier.device), torch.device(device)
    except (RuntimeError, TypeError):  # something else that is called so
        return False
    return (own.type, own.index or 0) != (other.type, other.index or 0)


def reads_prompt(verifier: object) -> bool:
    """Whether a verifier, or its class, says that its scores depend on the prompt."""
    while isinstance(verifier, StandsAround):
        verifier = verifier.verifier
    return isinstance(verifier, SaysWhetherItReads) and verifier.reads_prompt is True
