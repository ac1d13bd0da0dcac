"""Models without prompts: DDPM, DDIM, an unconditional LDM, consistency models."""

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    UNet2DModel,
    VQModel,
)

from families.family import Family


def unet(channels=3, **more):
    """A U-Net of images of 16 pixels."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8, **more,
    ).eval()  # fmt: skip


def latent_diffusion():
    """LDM of unconditional images: a U-Net in the latents of a VQ-GAN."""
    net = unet()
    vqvae = VQModel(
        block_out_channels=(16, 32), latent_channels=3, norm_num_groups=8, num_vq_embeddings=16, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    return LDMPipeline(vqvae=vqvae, unet=net, scheduler=DDIMScheduler(beta_end=0.0195, beta_start=0.0015))


FAMILIES = (
    Family(
        name="ddpm",
        title="DDPM",
        classes=("DDPMPipeline",),
        make=lambda: DDPMPipeline(unet(), DDPMScheduler()),
        prompt=None,
        models=("google/ddpm-cifar10-32", "google/ddpm-celebahq-256"),
    ),
    Family(
        name="ddim",
        title="DDIM",
        classes=("DDIMPipeline",),
        make=lambda: DDIMPipeline(unet(), DDIMScheduler()),
        prompt=None,
        models=("google/ddpm-church-256",),
    ),
    Family(
        name="ldm-unconditional",
        title="Unconditional LDM",
        classes=("LDMPipeline",),
        make=latent_diffusion,
        prompt=None,
        models=("CompVis/ldm-celebahq-256",),
    ),
    Family(
        name="consistency-model",
        title="Consistency models",
        classes=("ConsistencyModelPipeline",),
        make=lambda: ConsistencyModelPipeline(
            unet(resnet_time_scale_shift="scale_shift"), CMStochasticIterativeScheduler(num_train_timesteps=40)
        ),
        prompt=None,
        models=("openai/diffusers-cd_bedroom256_lpips",),
    ),
    Family(
        name="consistency-model-classes",
        title="Class-conditional consistency models",
        classes=("ConsistencyModelPipeline",),
        make=lambda: ConsistencyModelPipeline(
            unet(resnet_time_scale_shift="scale_shift", num_class_embeds=10),
            CMStochasticIterativeScheduler(num_train_timesteps=40),
        ),
        prompt=None,
        call=lambda: {"class_label": 1},
        models=("openai/diffusers-cd_imagenet64_l2", "openai/diffusers-ct_imagenet64"),
    ),
)
