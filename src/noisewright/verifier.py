"""The verifier protocol: batched, order-safe functions ``(images, prompt) -> scores``; higher is better.

A *judge* is a verifier that the search never sees.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from noisewright.errors import VerifierFailed, out_of_memory
from noisewright.schemas.reading import short

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
    """Any function ``(images, prompt) -> scores`` as a verifier, called by its own name."""

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
    :class:`VerifierFailed` has tried by itself what can be tried, and is not asked again.

    Args:
        verifier: whom to ask.
        images: (batch, 3, height, width) in [0, 1].
        prompt: what they should show.
        previews: their clean estimates on the way, for a verifier that has a ``preview_sigma``; others do not see them.

    Returns:
        The scores in the images' order; NaN where the verifier has none (ranked last).

    Raises:
        VerifierFailed: where it raises for every image, gives the wrong number of scores, or something that is no
            number.
    """
    try:
        if hasattr(verifier, "preview_sigma"):
            given = verifier(images, prompt, previews)  # type: ignore[call-arg]
        else:
            given = verifier(images, prompt)
    except VerifierFailed:
        raise
    except Exception as error:
        if len(images) == 1:
            raise VerifierFailed(_reason(verifier, error)) from error
        if out_of_memory(error):
            return _in_parts(verifier, images, prompt, previews, (len(images) + 1) // 2)
        return _in_parts(verifier, images, prompt, previews, 1)
    if isinstance(given, Tensor):
        given = given.detach().flatten().tolist()
    try:
        scores = [float(value) for value in given]
    except (TypeError, ValueError):
        raise VerifierFailed(
            f"verifier {verifier.name}: expected {len(images)} numbers, got {type(given).__name__} {str(given)[:60]}"
        ) from None
    if len(scores) != len(images):
        raise VerifierFailed(f"verifier {verifier.name}: expected {len(images)} scores, got {len(scores)}")
    return [value if math.isfinite(value) else math.nan for value in scores]


def score_whole(
    verifier: Verifier, images: Tensor, prompt: str, whole: Sequence[bool], previews: Tensor | None = None
) -> list[float]:
    """As :func:`score`, asking about ``whole`` images only; NaN for the others."""
    if all(whole):
        return score(verifier, images, prompt, previews)
    rows = [row for row, one in enumerate(whole) if one]
    asked = score(verifier, images[rows], prompt, None if previews is None else previews[rows]) if rows else []
    found = dict(zip(rows, asked, strict=True))
    return [found.get(row, math.nan) for row in range(len(images))]


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
    first = next(iter(str(error).strip().splitlines()), "")
    return f"verifier {verifier.name} raised {type(error).__name__}: {first}"
