"""The verifier protocol: batched, order-safe functions ``(images, prompt) -> scores``; higher is better.

A *judge* is a verifier that the search never sees. Both are somebody's code: they are asked through the functions here
alone, which give each call tensors of its own and take whatever goes wrong for a failed verifier.

What a verifier may have besides is in :mod:`~.verifiers.optional`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from noisewright.errors import VerifierFailed, out_of_memory
from noisewright.outside.messages import short
from noisewright.verifiers.answers import Unreadable, numbers
from noisewright.verifiers.first_call import HOW_NOT, grey_images, is_certain, may_be_tried
from noisewright.verifiers.guarded import call, named, raised_at, said
from noisewright.verifiers.optional import AcceptsImages as AcceptsImages
from noisewright.verifiers.optional import Billed as Billed
from noisewright.verifiers.optional import ChecksPrompt, GivesDetails, StandsAround, WantsPreviews
from noisewright.verifiers.optional import KeepsAnswers as KeepsAnswers
from noisewright.verifiers.optional import SaysItLasts as SaysItLasts
from noisewright.verifiers.optional import Usage as Usage
from noisewright.verifiers.optional import WaitsForServer as WaitsForServer
from noisewright.verifiers.optional import is_lasting as is_lasting
from noisewright.verifiers.optional import usage_of as usage_of
from noisewright.verifiers.optional import waits as waits

MOST_NAME = 500
"""Characters of a verifier's name, as journals hold it."""

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


class FunctionVerifier:
    """Any function ``(images, prompt) -> scores`` as a verifier, called by its own name.

    Its fingerprint is of its own source and its options. What it calls may change without that, so nothing of it is
    kept on disk.

    Args:
        function: a function, or an object that is called as one.
        name: what its scores are called; by default the function's.
        options: keyword arguments of each call; of an object, what it was made with.
        source: what the fingerprint is of in place of the function's source.
    """

    lasting = False

    def __init__(
        self, function: Callable[..., Any], name: str | None = None, *, options: Mapping[str, Any] | None = None,
        source: str | None = None,
    ) -> None:  # fmt: skip
        self.function = function
        self.options = dict(options or {}) if inspect.isroutine(function) else {}
        self.name = name or getattr(function, "__name__", type(function).__name__).strip("<>")
        try:
            text = source or inspect.getsource(function)
        except (OSError, TypeError):
            text = self.name
        if options:
            text += json.dumps(dict(options), sort_keys=True, default=repr)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return self.function(images, prompt, **self.options)

    def check(self, prompt: str) -> None:
        """Call the function once on small grey images, where it can be seen that this spoils and costs nothing.

        A mistake that has nothing to do with the images (a name that is not there, the wrong number of scores) is so
        said before anything is spent; of any other failure the first real images decide.

        Raises:
            VerifierFailed: with what it raised, and where.
        """
        if not may_be_tried(self.function):
            return
        try:
            ask(self, grey_images(), prompt)
        except Exception as error:
            if is_certain(error):
                reason = f"verifier {self.name}: {error}" if isinstance(error, Unreadable) else _reason(self, error)
                raise VerifierFailed(f"{reason}, in a first call on grey images ({HOW_NOT})") from error


def as_verifier(given: Any) -> Verifier:
    """A verifier from an object of the protocol or a plain function.

    Raises:
        TypeError: on anything else.
        ValueError: on a name that cannot stand in a line.
    """
    if isinstance(given, Verifier) and not inspect.isclass(given):
        return _named_well(given)
    if callable(given) and not inspect.isclass(given):
        return _named_well(FunctionVerifier(given))
    raise TypeError(
        f"expected a verifier name, a function (images, prompt) -> scores or a Verifier, got {short(given)}"
    )


def _named_well(verifier: Verifier) -> Verifier:
    """A verifier whose name and fingerprint can be written down and read back."""
    for name, value in (("name", verifier.name), ("fingerprint", verifier.fingerprint)):
        if not isinstance(value, str) or not value:
            raise TypeError(f"expected the {name} of a verifier as text, got {short(value)}")
        if len(value) > MOST_NAME:
            raise ValueError(f"expected the {name} of a verifier of at most {MOST_NAME} characters, got {len(value)}")
        if "\0" in value or (not value.isascii() and any(0xD800 <= ord(one) <= 0xDFFF for one in value)):
            raise ValueError(f"expected the {name} of a verifier without NUL and half surrogates, got {short(value)}")
    check_name(verifier.name)
    return verifier


def check_name(name: str) -> None:
    """Refuse what no table, file or option can have as a name of scores.

    Raises:
        ValueError: in one line.
    """
    if not name or not name.isprintable() or name != name.strip() or len(name) > MOST_NAME:
        said = f"a verifier's name as a line of at most {MOST_NAME} characters"
        raise ValueError(f"expected {said}, got {short(name)}")


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

    def one_call() -> list[float]:
        own = images.detach().clone()
        if isinstance(verifier, WantsPreviews):
            seen = None if previews is None else previews.detach().clone()
            given = verifier(own, prompt, seen)  # type: ignore[call-arg]
        else:
            given = verifier(own, prompt)
        return numbers(given, len(images), verifier.name)

    with torch.set_grad_enabled(torch.is_grad_enabled()):  # as it was, whatever the verifier sets
        return call(one_call)


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
    return f"verifier {verifier.name} raised {named(error)}: {said(error)}{raised_at(error, _file_of(verifier))}"


def _file_of(verifier: Any) -> str | None:
    """The file of a person's own verifier; None for what comes with the package."""
    while isinstance(verifier, StandsAround):
        verifier = verifier.verifier
    one = verifier.function if isinstance(verifier, FunctionVerifier) else type(verifier)
    one = one if inspect.isroutine(one) or inspect.isclass(one) else type(one)
    if str(getattr(one, "__module__", "")).split(".")[0] == "noisewright":
        return None
    try:
        return inspect.getfile(inspect.unwrap(one))
    except (TypeError, ValueError, OSError):
        return None
