"""What a pipeline is conditioned on: a prompt, a class, embeddings that somebody made of a prompt, or nothing.

Embeddings (of compel, say) stand in place of the prompt's encoding; the prompt is then what verifiers are told. They
are of one prompt: each call repeats them for its images, as it does what it encodes itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.errors import UnsupportedPipeline
from noisewright.outside.messages import short
from noisewright.samplers.arguments import check_call_arguments
from noisewright.samplers.classes import is_class_conditional, is_unconditional, read_class
from noisewright.samplers.requirements import check_components, check_dtype, check_images

NEEDED = ("generator", "num_inference_steps", "output_type")
"""What a pipeline's call must take for a search to enter it."""

EMBEDS = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
"""Arguments of a pipeline's call that stand in place of encoded texts."""

TEXTS = {
    "prompt_embeds": ("prompt_2", "prompt_3", "prompt_4"),
    "negative_prompt_embeds": ("negative_prompt", "negative_prompt_2", "negative_prompt_3", "negative_prompt_4"),
}
"""Texts that embeddings stand in place of; the prompt itself is told to the verifiers."""

WIDTHS = ("cross_attention_dim", "joint_attention_dim")
POOLED_WIDTHS = ("pooled_projection_dim",)
"""Settings of a network that say how wide embeddings are."""


def condition_of(pipe: Any, prompt: str | None, label: str | int | None) -> tuple[str, int | None]:
    """What verifiers are told, and the number of the class where the pipeline is conditioned on classes.

    Raises:
        ValueError: in one line.
    """
    kind = type(pipe).__name__
    if is_unconditional(pipe):
        check_unconditional(kind, prompt, label)
        return "", None
    if not is_class_conditional(pipe):
        if label is not None:
            raise ValueError(f"{kind} is not class-conditional: expected a prompt, got the class {label!r}")
        if prompt is None:
            raise ValueError(f"expected a prompt for {kind}, got none")
        return prompt, None
    if label is None and prompt is None:
        raise ValueError(f"{kind} is class-conditional: expected a class_label, got none")
    number, name = read_class(pipe, prompt if label is None else label)  # type: ignore[arg-type]
    return name if label is None or prompt is None else prompt, number


def check_unconditional(kind: str, prompt: str | None, label: str | int | None) -> None:
    """Refuse what an unconditional pipeline would not look at; an empty prompt, which records have of it, is none.

    Raises:
        ValueError: in one line.
    """
    for name, value in (("prompt", prompt or None), ("class_label", label)):
        if value is not None:
            raise ValueError(f"expected no {name}, since {kind} is unconditional, got {short(value)}")


def check_call(pipe: Any, kind: str, settings: Mapping[str, Any], explicit: Sequence[str]) -> None:
    """Refuse a pipeline whose call cannot be entered, and settings that it does not take.

    Args:
        pipe: that is called.
        kind: the class that the person knows.
        settings: the arguments of its call; None means not given but for the ``explicit`` ones.
        explicit: the names of further arguments.

    Raises:
        UnsupportedPipeline, ValueError, TypeError: in one line.
    """
    accepted = inspect.signature(type(pipe).__call__).parameters
    given = [name for name, value in settings.items() if value is not None or name in explicit]
    check_call_arguments(pipe, given, kind=kind)
    check_components(pipe, kind, settings)
    check_images(pipe, kind, settings)
    missing = [name for name in NEEDED if name not in accepted]
    if not {"prompt", "class_labels", "image_embeds"} & set(accepted):
        missing.insert(0, "prompt")
    if "latents" not in accepted and not hasattr(pipe, "prepare_latents"):
        missing.insert(0, "latents")
    if missing:
        raise UnsupportedPipeline(
            f"{kind} cannot be entered through its scheduler: its call has no {', '.join(missing)}"
        )
    for name in ("height", "width"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise ValueError(f"expected a {name} above 0, got {value}")
    check_embeds(pipe, kind, settings)
    check_dtype(pipe, kind)


def check_embeds(pipe: Any, kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse embeddings that the pipeline would fail on in the middle of a run, or understand as something else.

    Raises:
        ValueError, TypeError: in one line.
    """
    given = {name: settings[name] for name in EMBEDS if settings.get(name) is not None}
    accepted = inspect.signature(type(pipe).__call__).parameters
    for name, value in given.items():
        _check_one(pipe, name, value)
    for side in ("", "negative_"):
        name, pooled = f"{side}prompt_embeds", f"{side}pooled_prompt_embeds"
        for text in TEXTS[name]:
            if name in given and settings.get(text) is not None:
                raise ValueError(f"expected no {text} beside {name}, got {short(settings[text])}")
        if pooled in accepted and (name in given) != (pooled in given):
            there, absent = (name, pooled) if name in given else (pooled, name)
            raise ValueError(f"expected {absent} beside {there} for {kind}, got none")
    both = [given.get("prompt_embeds"), given.get("negative_prompt_embeds")]
    if all(isinstance(one, Tensor) for one in both) and both[0].shape != both[1].shape:  # type: ignore[union-attr]
        shapes = " and ".join(str(tuple(one.shape)) for one in both)  # type: ignore[union-attr]
        raise ValueError(f"expected prompt_embeds and negative_prompt_embeds of one shape, got {shapes}")


def _check_one(pipe: Any, name: str, value: Any) -> None:
    """Refuse what are no embeddings of one prompt, or of another width than the network reads."""
    pooled = "pooled" in name
    wanted = "(1, width)" if pooled else "(1, tokens, width)"
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, Tensor) for one in value):
        if len(value) != 1:  # a list of one tensor a prompt, as some pipelines have it
            raise ValueError(f"expected {name} of one prompt, got a list of {len(value)}")
        checked = value[0]
    elif isinstance(value, Tensor):
        if value.ndim != (2 if pooled else 3) or value.shape[0] != 1 or 0 in value.shape:
            raise ValueError(f"expected {name} of one prompt, shaped {wanted}, got {tuple(value.shape)}")
        checked = value
    else:
        raise TypeError(f"expected {name} as a tensor {wanted}, got {type(value).__name__}")
    if not checked.is_floating_point():
        raise TypeError(f"expected {name} of floating-point numbers, got {str(checked.dtype).removeprefix('torch.')}")
    if checked.device.type == "meta" or not bool(torch.isfinite(checked.detach()).all()):
        raise ValueError(f"expected finite numbers in {name}, got others")
    width = _width(pipe, POOLED_WIDTHS if pooled else WIDTHS)
    if width is not None and checked.shape[-1] != width:
        raise ValueError(f"expected {name} of width {width}, as the network reads, got {tuple(checked.shape)}")


def _width(pipe: Any, keys: Sequence[str]) -> int | None:
    """How wide the embeddings are that a pipeline's network reads; None where nothing says it."""
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    config = getattr(network, "config", None) or {}
    if config.get("encoder_hid_dim") is not None:  # projected first
        return None
    found = next((config[key] for key in keys if config.get(key) is not None), None)
    return found if isinstance(found, int) else None


def placed_embeds(settings: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The embeddings among settings where the network is, and in its precision."""

    def placed(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, dtype)
        return type(value)(one.to(device, dtype) for one in value)

    return {name: placed(settings[name]) for name in EMBEDS if settings.get(name) is not None}
