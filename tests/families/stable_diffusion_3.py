"""Stable Diffusion 3: two CLIPs and a T5, without and with skip-layer guidance, which is given on some steps only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3PAGPipeline,
    StableDiffusion3Pipeline,
)

import tiny
from families._flow import clip, letters, lively, t5, vae
from families.family import Family
from families.parts import edges, mask, picture


def sizes(channels: int) -> dict[str, Any]:
    """What the network and its control network share."""
    return {
        "sample_size": 16, "patch_size": 2, "in_channels": channels, "out_channels": channels, "num_layers": 3,
        "attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 64,
        "pooled_projection_dim": 64, "pos_embed_max_size": 32,
    }  # fmt: skip


def parts(channels: int = 4) -> dict[str, Any]:
    """The components."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(**sizes(channels))
    return {
        "transformer": lively(transformer), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(channels),
        "text_encoder": clip(projected=True), "text_encoder_2": clip(projected=True, seed=1),
        "text_encoder_3": t5(64), "tokenizer": tiny.tokenizer(), "tokenizer_2": tiny.tokenizer(),
        "tokenizer_3": letters(),
    }  # fmt: skip


def make() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(**parts())


def img2img() -> StableDiffusion3Img2ImgPipeline:
    return StableDiffusion3Img2ImgPipeline(**parts())


def inpaint() -> StableDiffusion3InpaintPipeline:
    return StableDiffusion3InpaintPipeline(**parts(16))  # the pipeline knows this number only


def controlnet() -> StableDiffusion3ControlNetPipeline:
    torch.manual_seed(0)
    network = lively(SD3ControlNetModel(**{**sizes(4), "num_layers": 1}), seed=3)
    return StableDiffusion3ControlNetPipeline(controlnet=network, **parts())


def pag() -> StableDiffusion3PAGPipeline:
    return StableDiffusion3PAGPipeline(**parts(), pag_applied_layers="blocks.1")


def call(**more: Any) -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "max_sequence_length": 32, **more}


def call_skipping() -> dict[str, Any]:
    return call(skip_guidance_layers=[1], skip_layer_guidance_start=0.2, skip_layer_guidance_stop=0.6)


def call_img2img() -> dict[str, Any]:
    return call(image=picture(), strength=0.7)


def call_inpaint() -> dict[str, Any]:
    return call(image=picture(), mask_image=mask(), strength=0.8)


def call_controlnet() -> dict[str, Any]:
    return call(control_image=edges(), control_guidance_start=0.2, control_guidance_end=0.6)


def call_pag() -> dict[str, Any]:
    return call(pag_scale=2.0, pag_adaptive_scale=0.002)


FAMILIES = (
    Family(
        "sd3", "Stable Diffusion 3", ("StableDiffusion3Pipeline",), make, call=call,
        models=("stabilityai/stable-diffusion-3-medium-diffusers", "stabilityai/stable-diffusion-3.5-large"),
    ),
    Family(
        "sd3-skip-layers", "Stable Diffusion 3.5 with skip-layer guidance", ("StableDiffusion3Pipeline",), make,
        call=call_skipping, steps=6, models=("stabilityai/stable-diffusion-3.5-medium",),
    ),
    Family(
        "sd3-img2img", "Stable Diffusion 3 image to image", ("StableDiffusion3Img2ImgPipeline",), img2img,
        call=call_img2img, steps=6,
    ),
    Family(
        "sd3-inpaint", "Stable Diffusion 3 inpainting", ("StableDiffusion3InpaintPipeline",), inpaint,
        call=call_inpaint, steps=6,
    ),
    Family(
        "sd3-controlnet", "ControlNet for Stable Diffusion 3, on a part of the way",
        ("StableDiffusion3ControlNetPipeline",), controlnet, call=call_controlnet, steps=6,
        models=("InstantX/SD3-Controlnet-Canny",),
    ),
    Family(
        "sd3-pag", "Stable Diffusion 3 with perturbed attention", ("StableDiffusion3PAGPipeline",), pag, call=call_pag,
    ),
)  # fmt: skip
