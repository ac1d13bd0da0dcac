"""The verifier protocol: batched, order-safe functions ``(images, prompt) -> scores``; higher is better.

A *judge* is a verifier that the search never sees. Both are somebody's code: they are asked through the functions here
alone, which give each call tensors of its own and take whatever goes wrong for a failed verifier.

What a verifier may have besides is a small protocol each: :class:`ChecksPrompt`, :class:`GivesDetails`,
:class:`Billed`, :class:`KeepsAnswers`, :class:`WantsPreviews`, :class:`DifferentiableVerifier`, :class:`AcceptsImages`,
:class:`WaitsForServer`, :class:`SaysItLasts`. A verifier has one by having its method or attribute in its class: what
``__getattr__`` would find does not count on every version of Python.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from noisewright.errors import VerifierFailed, out_of_memory
from noisewright.schemas.reading import short
from noisewright.verifiers.answers import Unreadable, numbers
from noisewright.verifiers.guarded import call, named, said

log = logging.getLogger("noisewright")


@runtime_checkable
class Verifier(Protocol):
    """Scores images.

    Attributes:
        name: what its scores are called; unique within a run.
        fingerprint: changes whenever its scores may; part of what a run may be resumed with.
    """

    name: str
    fingerprint: str

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        """One score for each of ``images``, (batch, 3, height, width) float32 in [0, 1], in their order."""
        ...


@runtime_checkable
class DifferentiableVerifier(Verifier, Protocol):
    """A verifier that the ``gradient`` search can climb."""

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """Scores (batch,) of ``images`` with the graph that leads back to them."""
        ...


@runtime_checkable
class ChecksPrompt(Protocol):
    """A verifier that can say before anything is spent that it cannot score a prompt."""

    def check(self, prompt: str) -> None:
        """Raise a ValueError or TypeError, in one line, for a prompt that it cannot score."""
        ...


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


class FunctionVerifier:
    """Any function ``(images, prompt) -> scores`` as a verifier, called by its own name.

    Its fingerprint is of its own source. What it calls may change without that, so nothing of it is kept on disk.
    """

    lasting = False

    def __init__(self, function: Callable[[Tensor, str], Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__).strip("<>")
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            text = self.name
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return self.function(images, prompt)


def as_verifier(given: Any) -> Verifier:
    """A verifier from an object of the protocol or a plain function.

    Raises:
        TypeError: on anything else.
    """
    if isinstance(given, Verifier) and not inspect.isclass(given):
        for name, value in (("name", given.name), ("fingerprint", given.fingerprint)):
            if not isinstance(value, str) or not value:
                raise TypeError(f"expected the {name} of a verifier as text, got {short(value)}")
        return given
    if callable(given) and not inspect.isclass(given):
        return FunctionVerifier(given)
    raise TypeError(
        f"expected a verifier name, a function (images, prompt) -> scores or a Verifier, got {short(given)}"
    )


def score(verifier: Verifier, images: Tensor, prompt: str, previews: Tensor | None = None) -> list[float]:
    """Ask a verifier, and refuse what is not one number for each image.

    Where memory runs out the batch is halved. Where the verifier raises, its images are asked for one by one: those it
    still raises for get NaN and one line in the log, unless it raises for them all. A verifier that raises
    :class:`VerifierFailed` has tried by itself what can be tried, and is not asked again. Each call gets copies of the
    images, to do with as it likes.

    Args:
        verifier: whom to ask.
        images: (batch, 3, height, width) in [0, 1].
        prompt: what they should show.
        previews: their clean estimates on the way, for a verifier that has a ``preview_sigma``; others do not see them.

    Returns:
        The scores in the images' order; NaN where the verifier has none (ranked last).

    Raises:
        VerifierFailed: where it raises for every image (also what is no Exception, as ``sys.exit()`` does), gives the
            wrong number of scores, or something that is no number.
    """
    if not len(images):
        return []
    try:
        return ask(verifier, images, prompt, previews)
    except VerifierFailed:
        raise
    except Unreadable as error:
        raise VerifierFailed(f"verifier {verifier.name}: {error}") from None
    except Exception as error:
        if len(images) == 1:
            raise VerifierFailed(_reason(verifier, error)) from error
        if out_of_memory(error):
            return _in_parts(verifier, images, prompt, previews, (len(images) + 1) // 2)
        return _in_parts(verifier, images, prompt, previews, 1)


def score_whole(
    verifier: Verifier,
    images: Tensor,
    prompt: str,
    whole: Sequence[bool] | Tensor,
    previews: Tensor | None = None,
) -> list[float]:
    """As :func:`score`, asking about ``whole`` images only; NaN for the others, which the verifier does not see.

    Args:
        verifier, images, prompt, previews: as there.
        whole: a flag for each image: False for what is none, such as NaN from the model or a safety checker's black.

    Raises:
        ValueError: where there is not one flag for each image.
        VerifierFailed: as there, of the images that are asked about.
    """
    rows = _rows(whole, images)
    if len(rows) == len(images):
        return score(verifier, images, prompt, previews)
    seen = None if previews is None else previews[rows]
    found = dict(zip(rows, score(verifier, images[rows], prompt, seen), strict=True))
    return [found.get(row, math.nan) for row in range(len(images))]


def _rows(whole: Sequence[bool] | Tensor, images: Tensor) -> list[int]:
    if len(whole) != len(images):
        raise ValueError(f"expected {len(images)} flags of whole images, got {len(whole)}")
    return [row for row, one in enumerate(whole) if one]


def ask(verifier: Verifier, images: Tensor, prompt: str, previews: Tensor | None = None) -> list[float]:
    """Call a verifier once, on copies, and read what it gives; :func:`score` says what to do where that fails.

    Raises:
        Unreadable: where that is not one number for each image.
        Exception: as the verifier raises it, also while what it gave is gone through (a generator).
    """

    def asked() -> list[float]:
        own = images.detach().clone()
        if isinstance(verifier, WantsPreviews):
            seen = None if previews is None else previews.detach().clone()
            given = verifier(own, prompt, seen)  # type: ignore[call-arg]
        else:
            given = verifier(own, prompt)
        return numbers(given, len(images), verifier.name)

    with torch.set_grad_enabled(torch.is_grad_enabled()):  # as it was, whatever the verifier sets
        return call(asked)


def gradient_of(verifier: DifferentiableVerifier, images: Tensor, prompt: str) -> Tensor:
    """Scores (batch,) by ``gradient_scores`` of a copy of ``images``, with the graph that leads back to them.

    Raises:
        VerifierFailed: where it raises, or gives anything else. Running out of memory is raised as it is.
    """
    try:
        given = call(verifier.gradient_scores, images.clone(), prompt)
    except VerifierFailed:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise VerifierFailed(_reason(verifier, error)) from error
    wanted = f"verifier {verifier.name}: expected gradient_scores as a tensor ({len(images)},) with its graph"
    if not isinstance(given, Tensor) or not given.is_floating_point():
        raise VerifierFailed(f"{wanted}, got {given.dtype if isinstance(given, Tensor) else type(given).__name__}")
    if given.numel() != len(images) or (len(images) > 1 and max(given.shape) != len(images)):
        raise VerifierFailed(f"{wanted}, got {tuple(given.shape)}")
    if images.requires_grad and not given.requires_grad:
        raise VerifierFailed(f"{wanted}, got one without")
    return given.reshape(-1)


def details_of(
    verifier: Verifier, images: Tensor, prompt: str, whole: Sequence[bool] | Tensor | None = None
) -> list[Any] | None:
    """What a verifier that has ``details`` says of images that it has scored, one JSON value each; None without.

    The values are copies; of images that are not ``whole`` (see :func:`score_whole`) they are None. What it raises, or
    what is no JSON, costs a line in the log and nothing else.
    """
    rows = list(range(len(images))) if whole is None else _rows(whole, images)
    if not rows or not isinstance(verifier, GivesDetails):
        return None
    inner: GivesDetails = verifier
    try:
        given = call(lambda: json.loads(json.dumps(inner.details(images[rows].detach(), prompt))))
    except Exception as error:
        log.warning("%s (its details are left out)", _reason(verifier, error))
        return None
    if not isinstance(given, list) or len(given) != len(rows):
        got = len(given) if isinstance(given, list) else type(given).__name__
        log.warning("verifier %s: expected details of %d images, got %s", verifier.name, len(rows), got)
        return None
    found = dict(zip(rows, given, strict=True))
    return [found.get(row) for row in range(len(images))]


def let_check(verifier: Verifier, prompt: str) -> None:
    """Let a verifier that has a ``check`` refuse a prompt before anything is spent.

    Raises:
        ValueError, TypeError: as it raises them.
        VerifierFailed: where it raises anything else.
    """
    if not isinstance(verifier, ChecksPrompt):
        return
    try:
        call(verifier.check, prompt)
    except (ValueError, TypeError):
        raise
    except Exception as error:
        raise VerifierFailed(_reason(verifier, error)) from error


def _in_parts(verifier: Verifier, images: Tensor, prompt: str, previews: Tensor | None, size: int) -> list[float]:
    """The scores of a batch that failed as a whole, asked for in parts; NaN where a part fails, if not all do."""
    found: list[float] = []
    errors: list[VerifierFailed] = []
    parts = images.split(size)
    beside = [None] * len(parts) if previews is None else previews.split(size)
    for part, some in zip(parts, beside, strict=True):
        try:
            found += score(verifier, part, prompt, some)
        except VerifierFailed as error:
            errors.append(error)
            found += [math.nan] * len(part)
    if len(errors) == len(parts):
        raise errors[0]
    if errors:
        bad = sum(math.isnan(value) for value in found)
        log.warning("%s (NaN for %d of %d images)", errors[0], bad, len(found))
    return found


def _reason(verifier: Verifier, error: Exception) -> str:
    if out_of_memory(error):
        return f"verifier {verifier.name} is out of memory for a single image"
    return f"verifier {verifier.name} raised {named(error)}: {said(error)}"
