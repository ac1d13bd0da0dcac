"""HiDream-I1, which reads its prompt four times and predicts the way back."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HiDreamImagePipeline, HiDreamImageTransformer2DModel
from transformers import LlamaConfig, LlamaForCausalLM

import tiny
from families._flow import clip, decoder_config, letters, lively, t5, vae
from families.family import Family


def make() -> HiDreamImagePipeline:
    torch.manual_seed(0)
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=64, num_routed_experts=4,
        num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(32, 32), llama_layers=(0, 1),
    )  # fmt: skip
    llama = lively(LlamaForCausalLM(LlamaConfig(**decoder_config(), attn_implementation="eager")))
    pipe = HiDreamImagePipeline(
        transformer=lively(transformer), vae=vae(), text_encoder=clip(True, max_position_embeddings=64),
        tokenizer=tiny.tokenizer(), text_encoder_2=clip(True, 1, max_position_embeddings=64),
        tokenizer_2=tiny.tokenizer(), text_encoder_3=t5(), tokenizer_3=letters(longest=64), text_encoder_4=llama,
        tokenizer_4=letters(longest=64), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.default_sample_size = 16  # it makes every image as large as that says
    return pipe


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "negative_prompt": "blurred", "max_sequence_length": 32}


FAMILY = Family(
    "hidream", "HiDream-I1", ("HiDreamImagePipeline",), make, call=call, models=("HiDream-ai/HiDream-I1-Full",)
)
