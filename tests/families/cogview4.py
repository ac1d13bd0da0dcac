"""CogView4, whose text is padded on its left."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import GlmConfig, GlmModel

from families._flow import decoder_config, letters, lively, vae
from families.family import Family


def make() -> CogView4Pipeline:
    torch.manual_seed(0)
    transformer = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        text_embed_dim=16, time_embed_dim=8, condition_dim=4, rope_axes_dim=(16, 16), sample_size=16,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return CogView4Pipeline(
        transformer=lively(transformer), vae=vae(), scheduler=scheduler, tokenizer=letters(),
        text_encoder=lively(GlmModel(GlmConfig(**decoder_config(), attention_bias=True))),
    )  # fmt: skip


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "negative_prompt": "blurred", "max_sequence_length": 32}


FAMILY = Family("cogview4", "CogView4", ("CogView4Pipeline",), make, call=call, models=("THUDM/CogView4-6B",))
