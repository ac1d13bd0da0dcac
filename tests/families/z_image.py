"""Z-Image, with guidance and, as Turbo, without."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImageImg2ImgPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import Qwen3Config, Qwen3Model

from families._flow import CHAT, decoder_config, letters, lively, vae
from families.family import Family
from families.parts import picture


def parts() -> dict[str, Any]:
    """The components."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    text_encoder = Qwen3Model(Qwen3Config(**decoder_config()))
    return {
        "transformer": lively(transformer), "vae": vae(), "text_encoder": lively(text_encoder),
        "tokenizer": letters(CHAT), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }  # fmt: skip


def make() -> ZImagePipeline:
    return ZImagePipeline(**parts())


def img2img() -> ZImageImg2ImgPipeline:
    return ZImageImg2ImgPipeline(**parts())


def call(**more: Any) -> dict[str, Any]:
    return {"height": 32, "width": 32, "guidance_scale": 4.0, "max_sequence_length": 64, **more}


def call_turbo() -> dict[str, Any]:
    return call(guidance_scale=0.0)


def call_truncated() -> dict[str, Any]:
    return call(cfg_truncation=0.2, cfg_normalization=True)


def call_img2img() -> dict[str, Any]:
    return call(image=picture(), strength=0.7)


FAMILIES = (
    Family("z-image", "Z-Image", ("ZImagePipeline",), make, call=call, models=("Tongyi-MAI/Z-Image",)),
    Family(
        "z-image-turbo", "Z-Image Turbo", ("ZImagePipeline",), make, call=call_turbo,
        models=("Tongyi-MAI/Z-Image-Turbo",),
    ),
    Family(
        "z-image-truncated", "Z-Image with guidance on a part of the way", ("ZImagePipeline",), make,
        call=call_truncated,
    ),
    Family(
        "z-image-img2img", "Z-Image image to image", ("ZImageImg2ImgPipeline",), img2img, call=call_img2img, steps=6,
    ),
)  # fmt: skip
