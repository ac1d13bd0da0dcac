"""What a pipeline's sampler refuses, since its images would silently be others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from noisewright.errors import UnsupportedPipeline

if TYPE_CHECKING:
    from noisewright.samplers.pipeline import PipelineSampler


def check_split(sampler: PipelineSampler, start: int, stop: int) -> None:
    """Refuse a part of a way where it is not what that part of the whole one is.

    Raises:
        UnsupportedPipeline: in one line.
    """
    if not sampler.can_split and (start, stop) != (0, sampler.schedule.steps):
        raise UnsupportedPipeline(
            f"expected the way of {type(sampler.pipe).__name__} from start to end, since a part of it is another one, "
            f"got the steps from {start} to {stop} of {sampler.schedule.steps}"
        )


def check_origins(sampler: PipelineSampler, origins: Sequence[int | None] | None) -> None:
    """Refuse states without the seeds that they come from, where a call draws more than the starting noise.

    Raises:
        ValueError: in one line.
    """
    if sampler.entry.draws and origins is None:
        raise ValueError(
            f"expected the origins of states, the seeds of the noises that they come from, for "
            f"{type(sampler.pipe).__name__}, which draws more than its starting noise, got none"
        )
