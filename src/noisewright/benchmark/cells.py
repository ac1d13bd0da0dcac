"""The cells of a grid: a request each, by its coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from noisewright.benchmark.spec import SetPrompt, Spec
from noisewright.request import Request


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        request: what is asked for.
        coordinates: the label of each axis by its name.
        prompt: of the set.
        repeat: which of the prompt's seeds, from 0.
    """

    request: Request
    coordinates: Mapping[str, str]
    prompt: SetPrompt
    repeat: int = 0

    @cached_property
    def digest(self) -> str:
        """16 hex digits: the request's, which names the run directory."""
        return self.request.digest


def seed_of(spec: Spec, prompt: SetPrompt, repeat: int) -> int:
    """The seed of a prompt's n-th repeat."""
    return spec.seed + spec.seed_step * (prompt.number - 1) + repeat


def cells_of(spec: Spec) -> Iterator[Cell]:
    """The cells, prompt by prompt: all of a prompt and seed stand together, since they share work.

    Raises:
        ValueError, TypeError: in one line, on a request that is wrong.
    """
    for prompt in spec.prompts:
        for repeat in range(spec.seeds):
            first = Request(**spec.base, prompt=prompt.text, seed=seed_of(spec, prompt, repeat)).located()
            for point in product(*(axis.values for axis in spec.axes)):
                changes = {name: value for one in point for name, value in one.changes.items()}
                labels = {axis.name: one.label for axis, one in zip(spec.axes, point, strict=True)}
                yield Cell(first.changed(**changes).located(), labels, prompt, repeat)
