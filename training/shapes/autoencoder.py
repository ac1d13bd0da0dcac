"""The autoencoder: 64x64 RGB to 16x16 latents of 4 channels, and back."""

import math
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
WHITENED_ON = 4000  # pictures
POSTERIOR_DEVIATION = 0.01
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
    whiten(average, encode(average, pictures[:WHITENED_ON], device))
    return average


@torch.no_grad()
def whiten(model: AutoencoderKL, latents: Tensor) -> None:
    """Gives the latents zero mean and unit covariance over ``latents``, in place, and the scaling factor 1.

    The channels that an autoencoder learns are far from alike: of ours one had a fourteenth of another's deviation,
    and under noise of one level for all it was decided only in the last of the sampler's steps. The affine map is
    folded into the 1x1 convolutions on both sides of the latents, so pictures decode as before. The posterior's
    deviation, which a rotation would leave correlated, becomes ``POSTERIOR_DEVIATION`` throughout.

    Args:
        model: the trained autoencoder; its two 1x1 convolutions are changed.
        latents: posterior means, (count, channels, height, width).
    """
    channels = latents.shape[1]
    values = latents.float().movedim(1, -1).reshape(-1, channels).double().cpu()
    variances, axes = torch.linalg.eigh(torch.cov(values.T))
    into = (axes / variances.sqrt()).T  # whitened = into @ (latent - mean)
    out_of, mean = torch.linalg.inv(into), values.mean(dim=0)
    before, after = model.quant_conv, model.post_quant_conv
    first, second = before.weight[:, :, 0, 0].double().cpu(), after.weight[:, :, 0, 0].double().cpu()
    first_bias, second_bias = before.bias.double().cpu(), after.bias.double().cpu()
    first[:channels], first_bias[:channels] = into @ first[:channels], into @ (first_bias[:channels] - mean)
    first[channels:], first_bias[channels:] = 0.0, 2 * math.log(POSTERIOR_DEVIATION)
    second_bias += second @ mean
    second = second @ out_of
    for layer, weight, bias in ((before, first, first_bias), (after, second, second_bias)):
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(bias)
    model.register_to_config(scaling_factor=1.0)


@torch.inference_mode()
def encode(model: AutoencoderKL, pictures: np.ndarray, device: str, batch_size: int = 100) -> Tensor:
    """Posterior means: float16 (count, 4, 16, 16) on the CPU."""
    parts = []
    for start in range(0, len(pictures), batch_size):
        images = to_tensor(pictures[start : start + batch_size], device)
        parts.append(model.encode(images).latent_dist.mean.half().cpu())  # in float32: whitening magnifies rounding
    return torch.cat(parts)
