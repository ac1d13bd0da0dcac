"""The exact oracle of the bundled world as a verifier: 1.0 = the whole scene is right."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import parse


class ShapesOracle:
    """Reads the scene from the pixels and grades it against the prompt, in [0, 1].

    Raises:
        ValueError: on a prompt outside the grammar of the shapes world, also from :meth:`check`.
    """

    name = "shapes-oracle"
    fingerprint = "shapes-oracle-1"
    lasting = True
    reads_prompt = True

    def check(self, prompt: str) -> None:
        """Refuse a prompt that it cannot read."""
        try:
            parse(prompt)
        except ValueError as error:
            wanted = f"expected a prompt of the shapes world for {self.name}, such as 'two red circles'"
            raise ValueError(f"{wanted}: {error}") from None

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        parse(prompt)
        return [found.score for found in grade(images, prompt)]
