"""FLUX.1 with an image beside the prompt: control, Kontext, image to image, inpainting, Fill, ControlNet."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextPipeline,
)

from families._flow import lively
from families.family import Family
from families.flux import call, parts
from families.parts import mask, picture


def control() -> FluxControlPipeline:
    return FluxControlPipeline(**parts(in_channels=32, out_channels=16))


def call_control() -> dict[str, Any]:
    return call(guidance_scale=10.0, control_image=picture())


def kontext() -> FluxKontextPipeline:
    return FluxKontextPipeline(**parts())


def call_kontext() -> dict[str, Any]:
    return call(guidance_scale=2.5, image=picture(), max_area=32 * 32, _auto_resize=False)


def img2img() -> FluxImg2ImgPipeline:
    return FluxImg2ImgPipeline(**parts())


def call_img2img() -> dict[str, Any]:
    return call(guidance_scale=3.5, image=picture(), strength=0.7)


def inpaint() -> FluxInpaintPipeline:
    return FluxInpaintPipeline(**parts())


def call_inpaint() -> dict[str, Any]:
    return call(guidance_scale=3.5, image=picture(), mask_image=mask(), strength=0.8)


def fill() -> FluxFillPipeline:
    return FluxFillPipeline(**parts(in_channels=2 * 16 + 4 * 4, out_channels=16))


def call_fill() -> dict[str, Any]:
    return call(guidance_scale=30.0, image=picture(), mask_image=mask())


def controlnet() -> FluxControlNetPipeline:
    torch.manual_seed(0)
    network = FluxControlNetModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return FluxControlNetPipeline(controlnet=lively(network, seed=3), **parts())


def call_controlnet() -> dict[str, Any]:
    return call(guidance_scale=3.5, control_image=picture(), controlnet_conditioning_scale=0.6)


def call_controlnet_part() -> dict[str, Any]:
    return {**call_controlnet(), "control_guidance_start": 0.2, "control_guidance_end": 0.6}


FAMILIES = (
    Family(
        "flux-control", "FLUX.1 Depth and Canny", ("FluxControlPipeline",), control, call=call_control,
        models=("black-forest-labs/FLUX.1-Depth-dev", "black-forest-labs/FLUX.1-Canny-dev"),
    ),
    Family(
        "flux-kontext", "FLUX.1 Kontext", ("FluxKontextPipeline",), kontext, call=call_kontext,
        models=("black-forest-labs/FLUX.1-Kontext-dev",),
    ),
    Family("flux-img2img", "FLUX.1 image to image", ("FluxImg2ImgPipeline",), img2img, call=call_img2img, steps=6),
    Family("flux-inpaint", "FLUX.1 inpainting", ("FluxInpaintPipeline",), inpaint, call=call_inpaint, steps=6),
    Family(
        "flux-fill", "FLUX.1 Fill", ("FluxFillPipeline",), fill, call=call_fill,
        models=("black-forest-labs/FLUX.1-Fill-dev",),
    ),
    Family(
        "flux-controlnet", "FLUX.1 with a ControlNet", ("FluxControlNetPipeline",), controlnet, call=call_controlnet,
        models=("InstantX/FLUX.1-dev-Controlnet-Canny", "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0"),
    ),
    Family(
        "flux-controlnet-part", "FLUX.1 with a ControlNet on a part of the way", ("FluxControlNetPipeline",),
        controlnet, call=call_controlnet_part, steps=6,
    ),
)  # fmt: skip
