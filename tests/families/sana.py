"""Sana, and SanaSprint, which takes trigonometric steps between times of its own."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from transformers import Gemma2Config, Gemma2Model

from families._flow import decoder_config, letters, lively
from families.family import Family


def parts(**more: Any) -> dict[str, Any]:
    """What both have."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=16, **more,
    )  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=4, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", scaling_factor=0.41407,
    )  # fmt: skip
    text_encoder = lively(Gemma2Model(Gemma2Config(**decoder_config(), query_pre_attn_scalar=8)))
    return {
        "transformer": lively(transformer), "vae": lively(vae), "text_encoder": text_encoder, "tokenizer": letters(),
    }  # fmt: skip


def make() -> SanaPipeline:
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=2
    )
    return SanaPipeline(scheduler=scheduler, **parts())


def sprint() -> SanaSprintPipeline:
    return SanaSprintPipeline(
        scheduler=SCMScheduler(prediction_type="trigflow", sigma_data=0.5),
        **parts(guidance_embeds=True, qk_norm="rms_norm_across_heads"),
    )


def call() -> dict[str, Any]:
    return {
        "height": 32, "width": 32, "guidance_scale": 4.5, "max_sequence_length": 32, "complex_human_instruction": None,
        "use_resolution_binning": False,
    }  # fmt: skip


FAMILIES = (
    Family(
        "sana", "Sana", ("SanaPipeline",), make, call=call,
        models=("Efficient-Large-Model/Sana_1600M_1024px_diffusers",),
    ),
    Family(
        "sana-sprint", "Sana Sprint", ("SanaSprintPipeline",), sprint, call=call, steps=2,
        models=("Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers",),
    ),
)  # fmt: skip
