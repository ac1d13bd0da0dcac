"""The cells of a grid: a request each, by its coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from noisewright.benchmark.spec import SetPrompt, Spec
from noisewright.outside.messages import short
from noisewright.request import Request
from noisewright.schemas.request import AUTO

MOST_CELLS, MOST_SEEDS = 1_000_000, 10_000
OWN = ("prompt", "seed", "given_pipeline")
"""Fields that no base and no axis sets: prompts and seeds have places of their own."""

NO_AUTO = "expected a dtype that is the same on every machine (float32, float16, bfloat16) in a grid, got auto"


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


def count_cells(spec: Spec) -> int:
    """How many cells a grid has."""
    return len(spec.prompts) * spec.seeds * math.prod(len(axis.values) for axis in spec.axes)


def cells_of(spec: Spec) -> Iterator[Cell]:
    """The cells, prompt by prompt: all of a prompt and seed stand together, since they share work.

    A point of the axes is checked once, for all prompts and seeds.

    Raises:
        ValueError, TypeError: in one line, on a request that is wrong.
    """
    if (count := count_cells(spec)) > MOST_CELLS:
        raise ValueError(f"expected a grid of at most {MOST_CELLS} cells, got {count}")
    points = list(points_of(spec))
    for prompt in spec.prompts:
        for repeat in range(spec.seeds):
            own = Request(prompt=prompt.text, seed=seed_of(spec, prompt, repeat))
            changes = {"prompt": own.prompt, "seed": own.seed}
            for labels, request in points:
                yield Cell(request.model_copy(update=changes), labels, prompt, repeat)


def points_of(spec: Spec) -> Iterator[tuple[dict[str, str], Request]]:
    """The points of the axes, by their labels: requests that lack their prompts.

    Raises:
        ValueError, TypeError: in one line, on a request that is wrong.
    """
    for point in product(*(axis.values for axis in spec.axes)):
        changes = {name: value for one in point for name, value in one.changes.items()}
        fields = {**spec.base, **changes}
        if (own := next((name for name in OWN if name in fields), None)) is not None:
            raise ValueError(f"expected no {own} in a grid's fields, got {short(fields[own])}")
        if fields.get("dtype") == AUTO:
            raise ValueError(NO_AUTO)
        labels = {axis.name: one.label for axis, one in zip(spec.axes, point, strict=True)}
        yield labels, Request(**fields).located()
