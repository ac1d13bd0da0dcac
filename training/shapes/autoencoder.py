"""The autoencoder: 64x64 RGB to 16x16 latents of 4 channels, and back.

A diffusion model never gives latents exactly, so the decoder learns with noise on them, and their variance is held at
1. An autoencoder without that wins nothing by robustness: with a faint KL term instead, a tenth of a deviation on the
latents spoilt one shape in ten, and three tenths nearly all, which no diffusion model of this size can hit.
"""

import math
from pathlib import Path

import numpy as np
import torch
from data import training_set
from diffusers import AutoencoderKL
from loop import train
from torch import Tensor
from torch.nn import functional as F

PICTURES = 120_000
STEPS = 7400
BATCH_SIZE = 16
RATE = 1.6e-3
SPREAD_WEIGHT = 0.05
LATENT_NOISE = 0.3
EDGE_WEIGHT = 0.5
STANDARDISED_ON = 4000  # pictures
POSTERIOR_DEVIATION = 0.01
UNREAD = 1e-2
OBJECT_WEIGHT = 4.0  # of a fully chromatic pixel, over a grey one's 1: most of a picture is background
SEED = 11


def build() -> AutoencoderKL:
    """The untrained autoencoder."""
    torch.manual_seed(SEED)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def to_tensor(pictures: np.ndarray, device: str) -> Tensor:
    """uint8 (batch, 64, 64, 3) to float (batch, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.diff(dim=2), images.diff(dim=3)


def fit(work: Path, device: str, steps: int = STEPS) -> AutoencoderKL:
    """Trains the autoencoder and sets its scaling factor.

    Args:
        work: folder of the data and the checkpoint.
        device: "cpu" or "cuda".
        steps: optimiser steps.
    """
    _, pictures = training_set(work, PICTURES)
    model = build().to(device).to(memory_format=torch.channels_last)

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        images = to_tensor(pictures[indices], device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            latents = model.encode(images).latent_dist.mean.float()
            noise = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1) * torch.randn(latents.shape)
            output = model.decode(latents + noise.to(device)).sample
        output = output.float()
        error = (output - images).abs()
        weight = 1 + OBJECT_WEIGHT / 2 * (images.amax(dim=1) - images.amin(dim=1))[:, None]
        pixel = (weight * (error + error.square())).mean()
        edge = sum(F.l1_loss(a, b) for a, b in zip(_edges(output), _edges(images), strict=True))
        spread = (latents.var(dim=(0, 2, 3)) - 1).square().mean() + latents.mean(dim=(0, 2, 3)).square().mean()
        loss = pixel + EDGE_WEIGHT * edge + SPREAD_WEIGHT * spread
        return loss, {"pixel": pixel.item(), "edge": edge.item(), "spread": spread.item()}

    average = train(
        model,
        loss_of,
        count=len(pictures),
        batch_size=BATCH_SIZE,
        steps=steps,
        rate=RATE,
        checkpoint=work / "autoencoder.pt",
        seed=SEED,
        ema=0.998,
    )
    standardise(average, encode(average, pictures[:STANDARDISED_ON], device))
    mute_unread(average, to_tensor(pictures[:64], device))
    return average


@torch.no_grad()
def standardise(model: AutoencoderKL, latents: Tensor) -> None:
    """Gives each channel of the latents zero mean and unit deviation over ``latents``, in place; scaling factor 1.

    The affine map is folded into the 1x1 convolutions on both sides of the latents, so pictures decode as before. The
    posterior's deviation becomes ``POSTERIOR_DEVIATION`` throughout.

    Args:
        model: the trained autoencoder; its two 1x1 convolutions are changed.
        latents: posterior means, (count, channels, height, width).
    """
    channels = latents.shape[1]
    values = latents.float().movedim(1, -1).reshape(-1, channels).double().cpu()
    mean, deviation = values.mean(dim=0), values.std(dim=0)
    before, after = model.quant_conv, model.post_quant_conv
    first, second = before.weight[:, :, 0, 0].double().cpu(), after.weight[:, :, 0, 0].double().cpu()
    first_bias, second_bias = before.bias.double().cpu(), after.bias.double().cpu()
    first[:channels] /= deviation[:, None]
    first_bias[:channels] = (first_bias[:channels] - mean) / deviation
    first[channels:], first_bias[channels:] = 0.0, 2 * math.log(POSTERIOR_DEVIATION)
    second_bias += second @ mean
    second *= deviation
    for layer, weight, bias in ((before, first, first_bias), (after, second, second_bias)):
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(bias)
    model.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def mute_unread(model: AutoencoderKL, images: Tensor) -> None:
    """Holds at zero, in place, the channels of the latents that the decoder does not read.

    Unit noise on such a channel changes the decoded pictures by less than ``UNREAD`` of what it changes them by on the
    most read channel. Left alone it would be something to predict for nothing.

    Args:
        model: the standardised autoencoder.
        images: (batch, 3, 64, 64) in [-1, 1].
    """
    latents = model.encode(images).latent_dist.mean
    plain = model.decode(latents).sample
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(latents.shape[0], 1, *latents.shape[2:], generator=generator).to(latents)
    changes = []
    for channel in range(latents.shape[1]):
        noisy = latents.clone()
        noisy[:, channel : channel + 1] += noise
        changes.append(float((model.decode(noisy).sample - plain).square().mean()))
    for channel, change in enumerate(changes):
        if change < UNREAD * max(changes):
            model.quant_conv.weight[channel] = 0.0
            model.quant_conv.bias[channel] = 0.0


@torch.inference_mode()
def encode(model: AutoencoderKL, pictures: np.ndarray, device: str, batch_size: int = 100) -> Tensor:
    """Posterior means: float16 (count, 4, 16, 16) on the CPU."""
    parts = []
    for start in range(0, len(pictures), batch_size):
        images = to_tensor(pictures[start : start + batch_size], device)
        with torch.autocast(device, torch.bfloat16):
            parts.append(model.encode(images).latent_dist.mean.half().cpu())
    return torch.cat(parts)
