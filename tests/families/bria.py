"""Bria 3.2."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import BriaPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_bria import BriaTransformer2DModel

from families._flow import letters, lively, t5, vae
from families.family import Family


def make() -> BriaPipeline:
    torch.manual_seed(0)
    transformer = BriaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return BriaPipeline(
        transformer=lively(transformer), vae=vae(shift_factor=0.0), text_encoder=t5(), tokenizer=letters(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "max_sequence_length": 32}


FAMILY = Family("bria", "Bria 3.2", ("BriaPipeline",), make, call=call, models=("briaai/BRIA-3.2",))
