"""The plain call of a pipeline, which a search is held to: untouched, from seeds, and as if it had not been made."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.samplers import chance
from noisewright.samplers.arguments import call_parameters
from noisewright.samplers.calling import Caller
from noisewright.samplers.condition import placed_embeds
from noisewright.samplers.identity import copied
from noisewright.samplers.optional import KnowsPlainCall, ShowsOtherwise
from noisewright.samplers.protocol import quantise
from noisewright.samplers.turns import reserved, turn


def plain_images(
    pipe: Any, entered: Any, caller: Caller, seeds: Sequence[int], steps: int, output_type: str = "pt"
) -> tuple[Tensor, bool]:
    """The images that a person's own ``pipe(...)`` makes of seeds.

    Args:
        pipe: the person's pipeline.
        entered: what is called in its place in a search; mostly the same object.
        caller: with the prompt and the settings.
        seeds: one an image, each with a generator of its own.
        steps: ``num_inference_steps``.
        output_type: ``pt``, or ``latent`` for the states before they are decoded.

    Returns:
        (batch, ...) rounded to 8 bits where they are pictures, and whether a safety checker blacked any out.

    Raises:
        Exception: whatever the pipeline raises.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    given = plain_arguments(pipe, entered, caller, len(seeds))
    given |= {
        "generator": generators[0] if len(seeds) == 1 else generators, "num_inference_steps": steps,
        "output_type": output_type,
    }  # fmt: skip
    if isinstance(entered, KnowsPlainCall):
        given = entered.plain_arguments(given)
    accepted = inspect.signature(type(pipe).__call__).parameters
    any_name = any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    given = {name: value for name, value in given.items() if any_name or name in accepted}
    with turn(pipe), reserved(pipe) as call, hidden_bar(pipe), torch.no_grad():
        output = call(pipe, **given)
    flags = getattr(output, "nsfw_content_detected", None) or getattr(output, "nsfw_detected", None) or []
    found = pictures_of(output)
    if output_type != "latent" and isinstance(entered, ShowsOtherwise):
        found = entered.shown_as_here(found)
    return (found.float().cpu() if output_type == "latent" else quantise(found.cpu())), any(map(bool, flags))


def plain_arguments(pipe: Any, entered: Any, caller: Caller, count: int) -> dict[str, Any]:
    """The arguments of a plain call for ``count`` images, but for steps, generators and the kind of output."""
    accepted = {one.name for one in call_parameters(pipe)}
    given: dict[str, Any] = {
        key: copied(value) for key, value in caller.settings.items() if value is not None or key in caller.explicit
    }
    given.update(placed_embeds(given, caller.device, entered.dtype))
    embedded = given.get("prompt_embeds") is not None
    if caller.class_label is not None:
        given["class_labels"] = [caller.class_label] * count
    elif "num_images_per_prompt" in accepted:
        given |= {"num_images_per_prompt": count} | ({} if embedded else {"prompt": caller.prompt})
    elif "prompt" in accepted:
        given |= {} if embedded else {"prompt": caller.prompt if count == 1 else [caller.prompt] * count}
    elif "batch_size" in accepted:
        given["batch_size"] = count
    return given


def pictures_of(output: Any) -> Tensor:
    """The images (or frames) of a pipeline's output as a tensor (batch, ..., height, width), whatever it gave.

    Raises:
        TypeError: where it is none of what pipelines give.
    """
    found = output
    for name in ("images", "frames", "image"):
        if hasattr(output, name):
            found = getattr(output, name)
            break
        if isinstance(output, Mapping) and name in output:
            found = output[name]
            break
    else:
        if isinstance(output, tuple) and output:
            found = output[0]
    if isinstance(found, Tensor):
        return found
    if isinstance(found, (list, tuple)) and found:
        return torch.stack([_picture(one) for one in found])
    if isinstance(found, np.ndarray):
        return torch.from_numpy(found.copy()).movedim(-1, -3)
    raise TypeError(f"expected images of {type(output).__name__}, got {type(found).__name__}")


def _picture(one: Any) -> Tensor:
    """A picture of PIL, an array or a tensor, or the frames of a video."""
    if isinstance(one, Tensor):
        return one
    if isinstance(one, (list, tuple)):
        return torch.stack([_picture(frame) for frame in one])
    array = np.asarray(one)
    whole = array.dtype == np.uint8
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.astype(np.float32) / (255 if whole else 1)).movedim(-1, -3)


@contextmanager
def hidden_bar(pipe: Any) -> Iterator[None]:
    """The pipeline without its progress bar; then with it as it was."""
    bar = getattr(pipe, "_progress_bar_config", None)
    if not hasattr(pipe, "set_progress_bar_config"):
        yield
        return
    pipe.set_progress_bar_config(**{**(bar or {}), "disable": True})
    try:
        yield
    finally:
        if bar is None:
            pipe.__dict__.pop("_progress_bar_config", None)
        else:
            pipe._progress_bar_config = bar


@contextmanager
def as_it_was(*pipes: Any) -> Iterator[None]:
    """Pipelines whose attributes, and the process's generators, are the same after as before.

    Inside each has a copy of its scheduler, whose state calls change.
    """
    before, alone = chance.states(), chance.others_wait()
    attributes = [dict(vars(pipe)) for pipe in pipes]
    for pipe in pipes:  # past its __setattr__, which would write into its config
        object.__setattr__(pipe, "scheduler", copy.deepcopy(pipe.scheduler))
    try:
        yield
    finally:
        for pipe, held in zip(pipes, attributes, strict=True):
            vars(pipe).clear()
            vars(pipe).update(held)
        if alone and chance.others_wait() and chance.moved(before, chance.states()):
            chance.put_back(before)
