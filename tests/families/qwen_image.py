"""Qwen-Image: from text, with its true guidance, and editing."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from families._flow import letters, lively, picture, qwen_vl, reader
from families.family import Family

SCHEDULE = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256,
    "max_image_seq_len": 8192, "shift_terminal": 0.02, "time_shift_type": "exponential",
}  # fmt: skip


def parts(halvings: int) -> dict[str, Any]:
    """The components, with an autoencoder that halves the sides so many times."""
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=2 if halvings > 1 else 8, z_dim=4, dim_mult=[1] * (halvings + 1), num_res_blocks=1, temperal_downsample=[False] * halvings,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULE)
    return {
        "transformer": lively(transformer), "vae": lively(vae), "scheduler": scheduler, "text_encoder": qwen_vl(),
        "tokenizer": letters(longest=1100),
    }  # fmt: skip


def make() -> QwenImagePipeline:
    return QwenImagePipeline(**parts(1))


def edit() -> QwenImageEditPipeline:
    """It reads every image at 1024x1024, so that only an autoencoder that makes it small at once is quick."""
    found = parts(5)
    return QwenImageEditPipeline(processor=reader(found["tokenizer"]), **found)


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "true_cfg_scale": 4.0, "negative_prompt": "blurred"}


def call_edit() -> dict[str, Any]:
    return {**call(), "height": 128, "width": 128, "image": picture((64, 64))}


FAMILIES = (
    Family("qwen-image", "Qwen-Image", ("QwenImagePipeline",), make, call=call, models=("Qwen/Qwen-Image",)),
    Family(
        "qwen-image-edit", "Qwen-Image-Edit", ("QwenImageEditPipeline",), edit, call=call_edit,
        models=("Qwen/Qwen-Image-Edit",),
    ),
)  # fmt: skip
