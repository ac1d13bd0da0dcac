"""``human:RUN``: what a person said of a run's candidates, as a verifier of their images.

An image is known by its pixels. One that was never compared has no score.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noisewright.images.metadata import pixel_hash, pixels_of
from noisewright.outside.messages import short
from noisewright.run.follow import Watch
from noisewright.web.choices import human_scores, read_choices

if TYPE_CHECKING:
    from torch import Tensor


class Human:
    """Bradley and Terry's log strengths of a run's candidates, from ``choices.jsonl``.

    Args:
        model: the run's directory.
        name: what its scores are called.

    Raises:
        ValueError: in one line, where it is no run, or nobody has compared any of its candidates.
    """

    lasting = False

    def __init__(self, model: str = "", name: str = "human") -> None:
        root = Path(model)
        watch = Watch(root)
        watch.look()
        votes = read_choices(root).votes
        if not votes:
            raise ValueError(f"expected a run with choices between its candidates, got {short(model)}, which has none "
                             "(noisewright serve: Choose)")  # fmt: skip
        images = watch.ledger.images
        self.name = name
        self._scores = {images[one.item].pixels: one.value for one in human_scores(votes) if one.item in images}
        text = repr(sorted(self._scores.items()))
        self.fingerprint = f"human-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return [self._scores.get(pixel_hash(one), math.nan) for one in pixels_of(images)]
