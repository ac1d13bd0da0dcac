"""AuraFlow."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import UMT5Config, UMT5EncoderModel

from families._flow import WORDS, letters, lively, vae
from families.family import Family


def make() -> AuraFlowPipeline:
    torch.manual_seed(0)
    transformer = AuraFlowTransformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32,
        out_channels=4, pos_embed_max_size=256,
    )  # fmt: skip
    config = UMT5Config(
        vocab_size=WORDS, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return AuraFlowPipeline(
        transformer=lively(transformer), vae=vae(), text_encoder=lively(UMT5EncoderModel(config)), tokenizer=letters(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )  # fmt: skip


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 3.5, "negative_prompt": "blurred", "max_sequence_length": 32}


FAMILY = Family("aura-flow", "AuraFlow", ("AuraFlowPipeline",), make, call=call, models=("fal/AuraFlow-v0.3",))
