"""A sampler that was made already, in place of a pipeline."""

from __future__ import annotations

from typing import Any

from noisewright.outside.messages import short
from noisewright.samplers.protocol import Sampler


def is_sampler(pipe: Any) -> bool:
    """Whether it is a sampler and no pipeline."""
    return isinstance(pipe, Sampler)


def given(sampler: Sampler, prompt: str | None, *, num_inference_steps: int | None = None) -> Sampler:
    """The sampler as it is, which has its own prompt and settings, or with another number of steps.

    Raises:
        ValueError: where the prompt is not the sampler's.
    """
    own = sampler.description.get("prompt")
    if own != prompt:
        raise ValueError(f"expected the prompt of the sampler, {short(own)}, got {short(prompt)}")
    return sampler if num_inference_steps is None else sampler.with_steps(num_inference_steps)
