"""Pipelines of diffusers as they are, entered through their scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import Rule
from noisewright.diffusion.solvers import AnySolver
from noisewright.outside.bounds import MOST_STEPS, at_most
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.requirements import check_size, said_of_size

STEPS = 50
"""What diffusers takes where nothing says how many."""


def has_scheduler(pipe: Any) -> bool:
    """Whether it is called, and has a scheduler."""
    return callable(pipe) and hasattr(pipe, "scheduler")


def default_steps(pipe: Any) -> int:
    """How many steps a pipeline takes where nothing is said."""
    parameter = inspect.signature(type(pipe).__call__).parameters.get("num_inference_steps")
    return int(parameter.default) if parameter is not None and isinstance(parameter.default, int) else STEPS


def plain(
    pipe: Any,
    prompt: str | None,
    *,
    num_inference_steps: int | None = None,
    class_label: str | int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    solver: AnySolver | None = None,
    schedule: Schedule | Rule | str | None = None,
    model: str | None = None,
    pipe_kwargs: dict[str, Any] | None = None,
    prompt_embeds: Tensor | None = None,
    pooled_prompt_embeds: Tensor | None = None,
    negative_prompt_embeds: Tensor | None = None,
    negative_pooled_prompt_embeds: Tensor | None = None,
    entered: Any = None,
    states: str | None = None,
    made: Callable[..., PipelineSampler] = PipelineSampler,
) -> PipelineSampler:
    """The :class:`~.PipelineSampler` of a pipeline; without a number of steps it takes the pipeline's own.

    ``made`` makes it: the class, or one of its kind.
    """
    embeds = {
        "prompt_embeds": prompt_embeds, "pooled_prompt_embeds": pooled_prompt_embeds,
        "negative_prompt_embeds": negative_prompt_embeds,
        "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
    }  # fmt: skip
    steps = default_steps(entered or pipe) if num_inference_steps is None else num_inference_steps
    at_most(MOST_STEPS, num_inference_steps=steps)
    try:
        sampler = made(
            pipe, prompt, num_inference_steps=steps, class_label=class_label, guidance_scale=guidance_scale,
            negative_prompt=negative_prompt, height=height, width=width, solver=solver, schedule=schedule, model=model,
            pipe_kwargs=pipe_kwargs, entered=entered, states=states or "model",
            **{name: one for name, one in embeds.items() if one is not None},
        )  # fmt: skip
    except ValueError as error:
        found = said_of_size(error, type(pipe).__name__, height, width)
        if found is None:
            raise
        raise ValueError(found) from error
    binned = {key: one for key, one in (pipe_kwargs or {}).items() if key == "use_resolution_binning"}
    check_size(entered or pipe, type(pipe).__name__, {**binned, "height": height, "width": width})
    return sampler
