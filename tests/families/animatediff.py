"""AnimateDiff: Stable Diffusion whose frames are tied by a motion adapter; latents (batch, channels, frames, ...)."""

from __future__ import annotations

from typing import Any

import torch

import tiny
from families._video import stirred
from families.family import Family

SIDE, FRAMES = 32, 6


def make() -> Any:
    from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, norm_num_groups=8, attention_head_dim=4,
    ).eval()  # fmt: skip
    motion = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1,
        timestep_spacing="linspace",
    )  # fmt: skip
    return AnimateDiffPipeline(
        vae=tiny.sd().vae, text_encoder=CLIPTextModel(tiny.text_config()).eval(), tokenizer=tiny.tokenizer(), unet=unet,
        motion_adapter=stirred(motion), scheduler=scheduler,
    )  # fmt: skip


def call() -> dict[str, Any]:
    return {"height": SIDE, "width": SIDE, "num_frames": FRAMES, "negative_prompt": "blurred"}


FAMILY = Family(
    "animatediff", "AnimateDiff", ("AnimateDiffPipeline",), make, call=call,
    models=("guoyww/animatediff-motion-adapter-v1-5-2",),
)  # fmt: skip
