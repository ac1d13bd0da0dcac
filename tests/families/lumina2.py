"""Lumina-Image 2.0, which guides all the way or, with ``cfg_trunc_ratio``, only a part of it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Config, Gemma2Model

from families._flow import decoder_config, letters, lively, vae
from families.family import Family


def make() -> Lumina2Pipeline:
    torch.manual_seed(0)
    transformer = Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=2, num_refiner_layers=1,
        num_attention_heads=2, num_kv_heads=2, multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64),
        cap_feat_dim=16,
    )  # fmt: skip
    text_encoder = lively(Gemma2Model(Gemma2Config(**decoder_config(), query_pre_attn_scalar=8)))
    return Lumina2Pipeline(
        transformer=lively(transformer), vae=vae(halvings=3), text_encoder=text_encoder, tokenizer=letters(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
    )  # fmt: skip


def call(**more: Any) -> dict[str, Any]:
    return {
        "height": 64,
        "width": 64,
        "guidance_scale": 4.0,
        "max_sequence_length": 64,
        "system_prompt": "Paint",
        **more,
    }


def call_truncated() -> dict[str, Any]:
    return call(cfg_trunc_ratio=0.5, cfg_normalization=True)


FAMILIES = (
    Family(
        "lumina2", "Lumina-Image 2.0", ("Lumina2Pipeline",), make, call=call,
        models=("Alpha-VLLM/Lumina-Image-2.0",),
    ),
    Family(
        "lumina2-truncated", "Lumina-Image 2.0 with guidance on a part of the way", ("Lumina2Pipeline",), make,
        call=call_truncated,
    ),
)  # fmt: skip
