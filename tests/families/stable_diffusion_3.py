"""Stable Diffusion 3: two CLIPs and a T5, without and with skip-layer guidance, which is given on some steps only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

import tiny
from families._flow import clip, letters, lively, t5, vae
from families.family import Family

def parts() -> dict[str, Any]:
    """The components."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=64, pooled_projection_dim=64, out_channels=4,
        pos_embed_max_size=32,
    )  # fmt: skip
    return {
        "transformer": lively(transformer), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0), "vae": vae(),
        "text_encoder": clip(projected=True), "text_encoder_2": clip(projected=True, seed=1),
        "text_encoder_3": t5(64), "tokenizer": tiny.tokenizer(), "tokenizer_2": tiny.tokenizer(),
        "tokenizer_3": letters(),
    }  # fmt: skip


def make() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(**parts())


def call(**more: Any) -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "max_sequence_length": 32, **more}


def call_skipping() -> dict[str, Any]:
    return call(skip_guidance_layers=[1], skip_layer_guidance_start=0.2, skip_layer_guidance_stop=0.6)


FAMILIES = (
    Family(
        "sd3", "Stable Diffusion 3", ("StableDiffusion3Pipeline",), make, call=call,
        models=("stabilityai/stable-diffusion-3-medium-diffusers", "stabilityai/stable-diffusion-3.5-large"),
    ),
    Family(
        "sd3-skip-layers", "Stable Diffusion 3.5 with skip-layer guidance", ("StableDiffusion3Pipeline",), make,
        call=call_skipping, steps=6, models=("stabilityai/stable-diffusion-3.5-medium",),
    ),
)  # fmt: skip
