"""What the images endpoint offers, as whoever starts the server says it: a request names nothing besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from noisewright.web.settings import TIERS

SAME_QUALITY = {"auto": "medium", "standard": "medium", "hd": "high"}
"""Words of other models for them."""

MOST_AT_ONCE = 10
"""Images of one answer, as OpenAI has it."""

OF_PIXELS = ("brightness", "sharpness", "compressibility", "incompressibility")
"""Verifiers that load nothing."""


@dataclass(frozen=True)
class ImagesSettings:
    """What is offered, and how much of it one request may ask for.

    Attributes:
        runs: the directory of the runs' directories; what was accepted is noted in its folder ``.requests``.
        models: what a request may name, and what is loaded for it (as ``--model`` takes it); the first is for requests
            that name none.
        verifiers: what a request may name besides those of the models' cards. The first is what is searched for where
            neither a request nor the model's card says it.
        searches: what a request may name; empty for all that come with noisewright.
        tiers: images of a search by ``quality``: low, medium, high.
        most_images: of a request's budget.
        most_seconds: of a request's budget in seconds.
        most_n: images of one answer.
        most_steps: denoising steps.
        most_side: pixels of a side.
        most_body: bytes of a request as JSON.
        most_upload: bytes of a request with images.
        queue: how many requests may wait; the next one is told to come again.
        at_once: how many take turns at the model, a micro-batch each.
        device, dtype: where and how models are loaded; None is the best there is.
        load_first: load the first model when the service starts, so that what is wrong with it is said then.
    """

    runs: Path
    models: Mapping[str, str] = field(default_factory=lambda: {"noisewright/shapes": "noisewright/shapes"})
    verifiers: tuple[str, ...] = OF_PIXELS
    searches: tuple[str, ...] = ()
    tiers: Mapping[str, int] = field(default_factory=lambda: dict(TIERS))
    most_images: int = 64
    most_seconds: float = 600.0
    most_n: int = MOST_AT_ONCE
    most_steps: int = 200
    most_side: int = 2048
    most_body: int = 2**18
    most_upload: int = 2**25
    queue: int = 64
    at_once: int = 4
    device: str | None = None
    dtype: str | None = None
    load_first: bool = True

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("expected at least one model to serve, got none")
        if sorted(self.tiers) != sorted(TIERS):
            raise ValueError(f"expected images for {', '.join(TIERS)}, got {', '.join(self.tiers) or 'none'}")
        if self.most_n > MOST_AT_ONCE:
            raise ValueError(f"expected most_n of at most {MOST_AT_ONCE}, got {self.most_n}")
        for name in ("most_images", "most_n", "most_seconds", "most_steps", "most_side", "most_body", "most_upload",
                     "queue", "at_once"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name, images in self.tiers.items():
            if not 1 <= images <= self.most_images:
                raise ValueError(f"expected {name} as 1 to {self.most_images} images, got {images}")

    @property
    def notes(self) -> Path:
        """Where what was accepted is noted."""
        return self.runs / ".requests"

    def images_of(self, quality: str) -> int:
        """Images of a search for a ``quality`` of a request."""
        return self.tiers[tier_of(quality)]


def tier_of(quality: str | None) -> str:
    """Which of low, medium and high a ``quality`` of a request means."""
    return SAME_QUALITY.get(quality or "auto", quality or "auto")
