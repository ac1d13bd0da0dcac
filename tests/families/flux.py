"""FLUX.1: dev with its embedded guidance, with true guidance, and schnell."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

import tiny
from families._flow import clip, letters, lively, t5, vae
from families.family import Family

SHIFTED = {"use_dynamic_shifting": True, "shift": 3.0, "base_image_seq_len": 256, "max_image_seq_len": 4096}


def transformer(guidance: bool = True, **more: Any) -> FluxTransformer2DModel:
    """The network, for packed latents of four channels."""
    torch.manual_seed(0)
    config = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, **more}
    return lively(FluxTransformer2DModel(
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=guidance, **config,
    ))  # fmt: skip


def parts(guidance: bool = True, **more: Any) -> dict[str, Any]:
    """The components of dev, or of schnell, which has no guidance and an unshifted schedule."""
    scheduler = FlowMatchEulerDiscreteScheduler(**SHIFTED if guidance else {"shift": 1.0})
    return {
        "transformer": transformer(guidance, **more), "scheduler": scheduler, "vae": vae(), "text_encoder": clip(),
        "text_encoder_2": t5(), "tokenizer": tiny.tokenizer(), "tokenizer_2": letters(),
    }  # fmt: skip


def dev() -> FluxPipeline:
    return FluxPipeline(**parts())


def schnell() -> FluxPipeline:
    return FluxPipeline(**parts(guidance=False))


def call(**more: Any) -> dict[str, Any]:
    return {"height": 32, "width": 32, "max_sequence_length": 32, **more}


def call_dev() -> dict[str, Any]:
    return call(guidance_scale=3.5)


def call_true() -> dict[str, Any]:
    return call(guidance_scale=3.5, true_cfg_scale=3.0, negative_prompt="blurred")


def call_schnell() -> dict[str, Any]:
    return call(guidance_scale=0.0)


FAMILIES = (
    Family(
        "flux-dev", "FLUX.1 dev", ("FluxPipeline",), dev, call=call_dev,
        models=("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-Krea-dev"),
    ),
    Family("flux-true-guidance", "FLUX.1 dev with a negative prompt", ("FluxPipeline",), dev, call=call_true),
    Family(
        "flux-schnell", "FLUX.1 schnell", ("FluxPipeline",), schnell, call=call_schnell,
        models=("black-forest-labs/FLUX.1-schnell",),
    ),
)  # fmt: skip
