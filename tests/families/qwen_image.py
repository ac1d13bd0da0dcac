"""Qwen-Image: from text, with its true guidance, and editing."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

from families._flow import letters, lively, qwen_vl, reader
from families.family import Family
from families.parts import mask, picture

calculate_dimensions = pipeline_qwenimage_edit.calculate_dimensions

SCHEDULE = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256,
    "max_image_seq_len": 8192, "shift_terminal": 0.02, "time_shift_type": "exponential",
}  # fmt: skip


def parts() -> dict[str, Any]:
    """The components."""
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULE)
    return {
        "transformer": lively(transformer), "vae": lively(vae), "scheduler": scheduler, "text_encoder": qwen_vl(),
        "tokenizer": letters(longest=1100),
    }  # fmt: skip


def make() -> QwenImagePipeline:
    return QwenImagePipeline(**parts())


def edit() -> QwenImageEditPipeline:
    """It reads every image at 1024x1024, which takes a second: here at 64x64."""
    pipeline_qwenimage_edit.calculate_dimensions = sixteenth
    found = parts()
    return QwenImageEditPipeline(processor=reader(found["tokenizer"]), **found)


def sixteenth(area: int, ratio: float) -> tuple[float, float, None]:
    """A sixteenth of the sides that the pipeline would work with."""
    width, height, _ = calculate_dimensions(area, ratio)
    return width // 16, height // 16, None


def img2img() -> QwenImageImg2ImgPipeline:
    return QwenImageImg2ImgPipeline(**parts())


def inpaint() -> QwenImageInpaintPipeline:
    return QwenImageInpaintPipeline(**parts())


def call() -> dict[str, Any]:
    return {"height": 32, "width": 32, "true_cfg_scale": 4.0, "negative_prompt": "blurred"}


def call_edit() -> dict[str, Any]:
    return {**call(), "image": picture(64)}


def call_img2img() -> dict[str, Any]:
    return {**call(), "image": picture(), "strength": 0.7}


def call_inpaint() -> dict[str, Any]:
    return {**call_img2img(), "mask_image": mask()}


FAMILIES = (
    Family("qwen-image", "Qwen-Image", ("QwenImagePipeline",), make, call=call, models=("Qwen/Qwen-Image",)),
    Family(
        "qwen-image-edit", "Qwen-Image-Edit", ("QwenImageEditPipeline",), edit, call=call_edit,
        models=("Qwen/Qwen-Image-Edit",),
    ),
    Family(
        "qwen-image-img2img", "Qwen-Image image to image", ("QwenImageImg2ImgPipeline",), img2img, call=call_img2img,
        steps=6,
    ),
    Family(
        "qwen-image-inpaint", "Qwen-Image inpainting", ("QwenImageInpaintPipeline",), inpaint, call=call_inpaint,
        steps=6,
    ),
)  # fmt: skip
