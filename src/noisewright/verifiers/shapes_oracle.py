"""The exact oracle of the bundled world as a verifier: 1.0 = the whole scene is right."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import parse


class ShapesOracle:
    """Reads the scene from the pixels and grades it against the prompt, in [0, 1].

    Raises:
        ValueError: on a prompt outside the grammar of the shapes world.
    """

    name = "shapes-oracle"
    fingerprint = "shapes-oracle-1"
    lasting = True

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        parse(prompt)
        return [found.score for found in grade(images, prompt)]
