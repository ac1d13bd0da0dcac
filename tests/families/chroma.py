"""Chroma: FLUX without embedded guidance, with a negative prompt and a mask of the text."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from families._flow import letters, lively, t5, vae
from families.family import Family


def make() -> ChromaPipeline:
    torch.manual_seed(0)
    transformer = ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=32,
        approximator_layers=1,
    )  # fmt: skip
    return ChromaPipeline(
        transformer=lively(transformer), vae=vae(), text_encoder=t5(), tokenizer=letters(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "negative_prompt": "blurred", "max_sequence_length": 32}


FAMILY = Family("chroma", "Chroma", ("ChromaPipeline",), make, call=call, models=("lodestones/Chroma1-HD",))
