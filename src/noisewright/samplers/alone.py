"""The verbs of a pipeline whose images must not share a call: in a batch one's random numbers depend on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisewright.run.rows import joined, row_of
from noisewright.samplers.protocol import StepNoise

if TYPE_CHECKING:
    from noisewright.samplers.pipeline import PipelineSampler

Seeds = Sequence[int | None] | None


def denoised(
    sampler: PipelineSampler, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None, seeds: Seeds,
    origins: Seeds,
) -> tuple[Tensor, Any]:  # fmt: skip
    """:meth:`~.PipelineSampler.denoise`, a call a row."""

    def of_row(row: int) -> tuple[Tensor, Any]:
        own = row_of(state, row, len(x))
        drawn = (lambda index: noise(index)[row : row + 1]) if noise is not None else None
        return sampler.denoise(x[row : row + 1], start, stop, own, drawn, _one(seeds, row), _one(origins, row))

    found = [of_row(row) for row in range(len(x))]
    return torch.cat([one for one, _ in found]), joined([after for _, after in found])


def predicted(sampler: PipelineSampler, x: Tensor, index: int, origins: Seeds) -> Tensor:
    """:meth:`~.PipelineSampler.predict`, a call a row."""
    return torch.cat([sampler.predict(x[row : row + 1], index, _one(origins, row)) for row in range(len(x))])


def decoded(sampler: PipelineSampler, x: Tensor, origins: Seeds) -> tuple[Tensor, list[bool]]:
    """:meth:`~.PipelineSampler.decode`, a call a row, and what a safety checker said of each."""
    images, flagged = [], []
    for row in range(len(x)):
        images.append(sampler.decode(x[row : row + 1], _one(origins, row)))
        flagged += sampler.flagged
    return torch.cat(images), flagged


def _one(seeds: Seeds, row: int) -> Seeds:
    return None if seeds is None else seeds[row : row + 1]
