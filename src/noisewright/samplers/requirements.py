"""What a pipeline's call needs and says late, in its own words, or not at all: components, images, sizes, numbers.

Everything here is looked at before anything is spent.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch

from noisewright.samplers.arguments import HasBlocks

IMAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Inpaint", ("image", "mask_image")),
    ("Fill", ("image", "mask_image")),
    ("Img2Img", ("image",)),
    ("Edit", ("image",)),
    ("Pix2Pix", ("image",)),
    ("Depth2Img", ("image",)),
    ("Upscale", ("image",)),
    ("Adapter", ("image",)),
    ("Control", ("control_image",)),
)
"""Images that pipelines need, by a word in the name of their class; those of them that the call takes."""

TEXT_PARTS = ("text_encoder", "tokenizer")
OF_EVERY_CALL = ("vae", "unet", "transformer", "scheduler", "text_encoder", "tokenizer")
"""Components of modular pipelines that their text-to-image blocks ask."""

MAY_BE_LEFT_OUT = ("text_encoder_3", "tokenizer_3")
"""Components that a pipeline does without though its class does not say so: Stable Diffusion 3's T5."""

DIVISIBLE = re.compile(r"divisible by `?(\d+)")
"""How pipelines say which sizes they make."""


def check_components(pipe: Any, kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse a pipeline that lacks a component that its call will ask.

    Args:
        pipe: that is called.
        kind: the class that the person knows.
        settings: of the call: with embeddings no text is encoded.

    Raises:
        ValueError: in one line, with the component's name.
    """
    parts = getattr(pipe, "components", {})
    if isinstance(pipe, HasBlocks):  # whose blocks are of more kinds of call than one
        parts = {name: one for name, one in parts.items() if name in OF_EVERY_CALL}
    made_with = inspect.signature(type(pipe).__init__).parameters.values()
    left_out = [one.name for one in made_with if one.default is None]
    optional = {*getattr(pipe, "_optional_components", ()), *left_out, *MAY_BE_LEFT_OUT}
    encoded = settings.get("prompt_embeds") is not None
    texts = [name for name in parts if name.startswith("text_encoder")]
    if texts and all(parts[name] is None for name in texts):
        optional -= set(texts)
    for name, one in parts.items():
        text = name.startswith(TEXT_PARTS)
        if one is None and name not in optional and not (text and encoded):
            more = ", or prompt_embeds in place of a text" if text else ""
            raise ValueError(f"expected a {kind} with a {name}{more}, got one whose {name} is None")
        if isinstance(one, torch.nn.Module) and _is_empty(one):
            raise ValueError(f"expected a {kind} with weights, got a {name} on the meta device, which has none")


def _is_empty(network: torch.nn.Module) -> bool:
    """Whether a network has parameters without values, and nothing (accelerate's hooks) that brings them."""
    away = any(one.device.type == "meta" for one in network.parameters())
    return away and not any(hasattr(one, "_hf_hook") for one in network.modules())


def images_needed(pipe: Any) -> list[str]:
    """The images that a pipeline's call cannot do without."""
    accepted = list(inspect.signature(type(pipe).__call__).parameters.values())[1:]
    found = [one.name for one in accepted if one.default is one.empty and one.name in ("image", "mask_image")]
    names = {one.name for one in accepted}
    kinds = [one.__name__ for one in type(pipe).__mro__ if one.__name__.endswith("Pipeline")]  # but no mixins
    for word, images in IMAGES:
        if any(word in kind for kind in kinds):
            found += [name for name in images if name in names]
            if word == "Control" and "control_image" not in names and "image" in names:
                found.append("image")
    return list(dict.fromkeys(found))


def check_images(pipe: Any, kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse a call without an image that the pipeline begins with or is guided by.

    Raises:
        ValueError: in one line, which says how to give it.
    """
    for name in images_needed(pipe):
        if settings.get(name) is None:
            raise ValueError(
                f"expected an image as {name} for {kind}, got none: --pipeline-arg {name}=FILE, or {name}=... in Python"
            )


def check_size(pipe: Any, kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse a size that the pipeline would make smaller by itself.

    Raises:
        ValueError: in one line, with the nearest sizes that it makes.
    """
    height, width = settings.get("height"), settings.get("width")
    step = getattr(getattr(getattr(pipe, "image_processor", None), "config", None), "vae_scale_factor", 1)
    bins = inspect.signature(type(pipe).__call__).parameters.get("use_resolution_binning")
    binned = bins is not None and settings.get("use_resolution_binning", bins.default)  # it resizes afterwards
    if isinstance(step, int) and step > 1 and not binned:
        for one in (height, width):
            if isinstance(one, int) and one % step:
                raise ValueError(_other_size(kind, height, width, step))


def said_of_size(error: ValueError, kind: str, height: int | None, width: int | None) -> str | None:
    """What a pipeline says of a size that it does not make, with the nearest that it does; None of other errors."""
    found = DIVISIBLE.search(str(error))
    if found is None or height is None or width is None or int(found[1]) < 1:
        return None
    return _other_size(kind, height, width, int(found[1]))


def _other_size(kind: str, height: Any, width: Any, step: int) -> str:
    def near(side: Any) -> list[int]:
        return sorted({max(step, side // step * step), -(-side // step) * step}) if isinstance(side, int) else []

    sizes = [f"{name} {' or '.join(map(str, near(side)))}" for name, side in (("height", height), ("width", width))
             if isinstance(side, int) and side % step]  # fmt: skip
    got = " x ".join(str(one) for one in (height, width) if one is not None)
    return f"expected a height and a width divisible by {step} for {kind} (nearest: {', '.join(sizes)}), got {got}"


def check_dtype(pipe: Any, kind: str) -> None:
    """Refuse a number type that the device does not compute in, which some operation would say in the middle of a run.

    Raises:
        ValueError: in one line.
    """
    dtype, device = getattr(pipe, "dtype", None), getattr(pipe, "_execution_device", None)
    if dtype not in (torch.float16, torch.bfloat16) or device is None or torch.device(device).type != "cpu":
        return
    try:
        x = torch.ones(1, 4, 4, 4, dtype=dtype)
        torch.nn.functional.conv2d(x, torch.ones(4, 4, 3, 3, dtype=dtype))
        torch.nn.functional.group_norm(x, 2)
        torch.nn.functional.scaled_dot_product_attention(x, x, x)
        torch.nn.functional.interpolate(x, scale_factor=2.0)
    except RuntimeError as error:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"expected a {kind} in float32 on a CPU, got {name}, which torch has not here") from error
