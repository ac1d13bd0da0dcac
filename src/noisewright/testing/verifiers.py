"""What every verifier must hold."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.verifiers.answers import numbers
from noisewright.verifiers.protocol import (
    DifferentiableVerifier,
    GivesDetails,
    Verifier,
    WantsPreviews,
    as_verifier,
)

TOLERANCE = 1e-4
"""Relative and absolute: how far a score may move with its batch mates, by the order of sums alone."""


def pictures(count: int, size: int) -> Tensor:
    """Different pictures in 8 bits, (count, 3, size, size): smooth colours, and noise on some."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images[::2] += 0.2 * torch.randn(images[::2].shape, generator=generator)
    return (images.clamp(0, 1) * 255).round() / 255


def check_verifier(verifier: Any, prompt: str = "two red circles", *, count: int = 4, size: int = 64) -> None:
    """A verifier gives each image its own score, whatever stands beside it, and the same one twice.

    Args:
        verifier: an object of the protocol, or a function.
        prompt: one that it can score.
        count: of images.
        size: pixels of their sides.

    Raises:
        AssertionError: with what does not hold.
    """
    one = as_verifier(verifier)
    images = pictures(count, size)
    scores = _asked(one, images, prompt)
    assert any(not math.isnan(score) for score in scores), f"{one.name} gave no number for any of {count} images"
    assert _alike(scores, _asked(one, images, prompt)), f"{one.name} gave other scores when asked again"
    order = list(reversed(range(count)))
    turned = _asked(one, images[order], prompt)
    assert _alike([scores[row] for row in order], turned), f"the scores of {one.name} depend on the images' order"
    alone = [_asked(one, images[row : row + 1], prompt)[0] for row in range(count)]
    assert _alike(scores, alone), f"the scores of {one.name} depend on batch mates: {scores} together, {alone} alone"
    if isinstance(one, DifferentiableVerifier):
        _check_gradient(one, images, prompt, scores)
    if isinstance(one, GivesDetails):
        details = one.details(images.clone(), prompt)
        assert len(details) == count, f"{one.name} gave details of {len(details)} images for {count}"
        json.dumps(details)


def _asked(one: Verifier, images: Tensor, prompt: str) -> list[float]:
    """Scores, by a call of the verifier itself, which must leave images and global state alone."""
    given, state = images.clone(), torch.get_rng_state()
    if isinstance(one, WantsPreviews):
        answer = one(given, prompt, images.clone())  # type: ignore[call-arg]
    else:
        answer = one(given, prompt)
    assert torch.equal(torch.get_rng_state(), state), f"{one.name} changed torch's global random state"
    return numbers(answer, len(images), one.name)


def _check_gradient(one: DifferentiableVerifier, images: Tensor, prompt: str, scores: Sequence[float]) -> None:
    given = images.clone().requires_grad_()
    found = one.gradient_scores(given, prompt)
    assert found.shape == (len(images),), f"{one.name} gave gradient_scores of {tuple(found.shape)}"
    (slope,) = torch.autograd.grad(found.sum(), given)
    assert bool(slope.isfinite().all()), f"{one.name} has a gradient that is not finite"
    assert bool(slope.any()), f"{one.name} has a gradient of zero everywhere"
    rows = sorted(range(len(images)), key=scores.__getitem__)
    ranks = sorted(range(len(images)), key=found.detach().tolist().__getitem__)
    assert rows == ranks, f"{one.name} ranks images by gradient_scores as {ranks}, by its scores as {rows}"


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs
    )
