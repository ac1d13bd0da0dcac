"""Images as a search makes them, in segments and batches, and how far they are from others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.samplers.optional import draws_inside
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import StepNoise


def marks_of(steps: int, cuts: int = 3) -> list[int]:
    """Where a way of ``steps`` is cut: ``cuts`` places inside it, as far as there are so many."""
    inside = {round(steps * (one + 1) / (cuts + 1)) for one in range(cuts)}
    return sorted(inside & set(range(1, steps)))


def through(sampler: PipelineSampler, seeds: Sequence[int], marks: Sequence[int] = ()) -> Tensor:
    """The images of seeds as a search makes them: noise, steps in segments, decode.

    Args:
        sampler: of any solver.
        seeds: one an image.
        marks: the indices at which the way is cut.
    """
    x, state, more = sampler.noise(seeds), None, origins_of(sampler, seeds)
    noise = seeded_noise(seeds, x.shape[1:]) if sampler.stochastic else None
    for start, stop in pairwise([0, *marks, sampler.schedule.steps]):
        x, state = sampler.denoise(x, start, stop, state, noise, list(seeds) if start == 0 else None, **more)
    return sampler.decode(x, **more)


def origins_of(sampler: PipelineSampler, seeds: Sequence[int]) -> dict[str, Any]:
    """The argument of the seeds that states come from, where the sampler's calls draw more than the starting noise."""
    return {"origins": list(seeds)} if draws_inside(sampler) else {}


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> StepNoise:
    """The step noise of seeds, as plain diffusers draws it: each generator goes on where the starting noise ended."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    drawn = [[torch.randn(tuple(shape), generator=one)] for one in generators]

    def noise(index: int) -> Tensor:
        for generator, row in zip(generators, drawn, strict=True):
            while len(row) <= index + 1:
                row.append(torch.randn(tuple(shape), generator=generator))
        return torch.stack([row[index + 1] for row in drawn])

    return noise


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of two images in steps of 1/255; infinite where they are not of one size."""
    if one.numel() != other.numel():
        return math.inf
    apart = one.nan_to_num().double().reshape(-1) - other.nan_to_num().double().reshape(-1)
    return round(float(apart.abs().max()) * 255, 3) if apart.numel() else 0.0
