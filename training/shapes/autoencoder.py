"""The autoencoder: 64x64 RGB to 16x16 latents of 4 channels, and back."""

from pathlib import Path

import numpy as np
import torch
from data import training_set
from diffusers import AutoencoderKL
from loop import train
from torch import Tensor
from torch.nn import functional as F

PICTURES = 60_000
STEPS = 5200
BATCH_SIZE = 16
RATE = 1.6e-3
KL_WEIGHT = 1e-5
EDGE_WEIGHT = 0.5
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
            posterior = model.encode(images).latent_dist
            output = model.decode(posterior.sample()).sample
        output = output.float()
        error = (output - images).abs()
        weight = 1 + OBJECT_WEIGHT / 2 * (images.amax(dim=1) - images.amin(dim=1))[:, None]
        pixel = (weight * (error + error.square())).mean()
        edge = sum(F.l1_loss(a, b) for a, b in zip(_edges(output), _edges(images), strict=True))
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = pixel + EDGE_WEIGHT * edge + KL_WEIGHT * kl
        return loss, {"pixel": pixel.item(), "edge": edge.item(), "kl": kl.item()}

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
    latents = encode(average, pictures[:2000], device)
    average.register_to_config(scaling_factor=round(1 / float(latents.float().std()), 5))
    return average


@torch.inference_mode()
def encode(model: AutoencoderKL, pictures: np.ndarray, device: str, batch_size: int = 100) -> Tensor:
    """Posterior means and log variances, unscaled: float16 (count, 8, 16, 16) on the CPU."""
    parts = []
    for start in range(0, len(pictures), batch_size):
        images = to_tensor(pictures[start : start + batch_size], device)
        with torch.autocast(device, torch.bfloat16):
            parts.append(model.encode(images).latent_dist.parameters.half().cpu())
    return torch.cat(parts)
