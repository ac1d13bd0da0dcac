"""HunyuanImage 2.1: guidance that remembers the steps before it, and a distilled one that looks at the next time."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
)
from transformers import ByT5Tokenizer

from families._flow import letters, lively, qwen_vl, t5
from families.family import Family


def parts(**more: Any) -> dict[str, Any]:
    """The components."""
    torch.manual_seed(0)
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, mlp_ratio=2.0, patch_size=(1, 1), text_embed_dim=16, text_embed_2_dim=32,
        rope_axes_dim=(8, 8), **more,
    )  # fmt: skip
    vae = AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32), layers_per_block=1,
        spatial_compression_ratio=2, sample_size=32, scaling_factor=0.75,
    )  # fmt: skip
    return {
        "transformer": lively(transformer, 1.4), "vae": lively(vae), "text_encoder": qwen_vl(), "text_encoder_2": t5(),
        "tokenizer": letters(), "tokenizer_2": ByT5Tokenizer(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
    }  # fmt: skip


def make() -> HunyuanImagePipeline:
    guider = AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2, guidance_scale=3.5)
    return short(HunyuanImagePipeline(guider=guider, **parts()))


def distilled() -> HunyuanImagePipeline:
    return short(HunyuanImagePipeline(**parts(guidance_embeds=True, use_meanflow=True)))


def short(pipe: HunyuanImagePipeline) -> HunyuanImagePipeline:
    """The pipeline with texts padded to less than their thousand tokens."""
    pipe.tokenizer_max_length = 192
    return pipe


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "negative_prompt": "blurred"}


def call_distilled() -> dict[str, Any]:
    return {"height": 32, "width": 32}


FAMILIES = (
    Family(
        "hunyuan-image", "HunyuanImage 2.1", ("HunyuanImagePipeline",), make, call=call,
        models=("hunyuanvideo-community/HunyuanImage-2.1-Diffusers",),
    ),
    Family(
        "hunyuan-image-distilled", "HunyuanImage 2.1 distilled", ("HunyuanImagePipeline",), distilled,
        call=call_distilled, models=("hunyuanvideo-community/HunyuanImage-2.1-Distilled-Diffusers",),
    ),
)  # fmt: skip
