"""Tiny randomly initialised unconditional pipelines of real diffusers components."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    PNDMPipeline,
    PNDMScheduler,
    UNet2DModel,
    VQModel,
)


def unet(seed: int = 0, channels: int = 3, **more: Any) -> UNet2DModel:
    """16x16; its output depends on its input and on the time."""
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=16, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8, **more,
    ).eval()  # fmt: skip


def ddpm(scheduler: Any = None) -> DDPMPipeline:
    """DDPM in pixel space at 16x16."""
    return DDPMPipeline(unet=unet(), scheduler=scheduler or DDPMScheduler())


def ddim() -> DDIMPipeline:
    """DDIM in pixel space at 16x16."""
    return DDIMPipeline(unet=unet(), scheduler=DDIMScheduler())


def pndm() -> PNDMPipeline:
    """PNDM in pixel space at 16x16."""
    return PNDMPipeline(unet=unet(), scheduler=PNDMScheduler())


def ldm() -> LDMPipeline:
    """Latent diffusion at 32x32, f = 2."""
    net = unet()
    vqvae = VQModel(
        block_out_channels=(16, 32), in_channels=3, out_channels=3, latent_channels=3, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    torch.nn.init.normal_(vqvae.quantize.embedding.weight)  # as made, all of its codes are nearly one
    return LDMPipeline(vqvae=vqvae, unet=net, scheduler=DDIMScheduler(clip_sample=False))


def consistency(classes: int | None = None) -> ConsistencyModelPipeline:
    """A consistency model at 16x16, with classes or without."""
    net = unet(num_class_embeds=classes)
    scheduler = CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return ConsistencyModelPipeline(unet=net, scheduler=scheduler)
