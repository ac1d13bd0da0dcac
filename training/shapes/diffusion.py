"""The diffusion model: U-Net and text encoder, trained together on cached latents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout
import numpy as np
import torch
from autoencoder import encode
from data import training_set
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from loop import save_atomically, train
from tokenizer import MAX_TOKENS, tokens_of
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PICTURES = 120_000
STEPS = 4300
BATCH_SIZE = 64
RATE = 1e-3
CAPTION_DROPOUT = 0.1  # so that guidance has an unconditional model
MIN_SNR = 5.0  # gamma of Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"
KEEP_EVERY = 500
SEED = 12
TEXT_WIDTH = 128


class Denoiser(nn.Module):
    """The two trained networks as one module."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet


def build(tokenizer: CLIPTokenizer) -> Denoiser:
    """The untrained U-Net and text encoder."""
    torch.manual_seed(SEED)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = unet_of((64, 128), 16)
    return Denoiser(text, unet)


def unet_of(
    channels: tuple[int, int], groups: int, middle: bool = True, time_width: int | None = None
) -> UNet2DConditionModel:  # fmt: skip
    """An untrained U-Net on 16x16 latents, which reads the prompt at 8x8.

    Args:
        channels: at 16x16 and at 8x8.
        groups: of the group norms.
        middle: whether there is a block at 8x8 between the way down and the way up.
        time_width: of the embedded timestep; by default four times the channels at 16x16.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn" if middle else None,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # heads, as in Stable Diffusion 1.x configs
        norm_num_groups=groups,
        time_embedding_dim=time_width,
    )


def scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.x."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def cached_latents(
    work: Path, vae: AutoencoderKL, device: str, count: int | None = None
) -> tuple[list[str], Tensor]:  # fmt: skip
    """Prompts, and latents of their pictures: float16 (count, 4, 16, 16); ``PICTURES`` of them by default."""
    count = count or PICTURES
    texts, pictures = training_set(work, count)
    path = work / f"latents-{count}.pt"
    if not path.exists():
        save_atomically(encode(vae, pictures, device), path)
    return texts, torch.load(path, weights_only=True, mmap=True)


def noise_loss(
    unet: UNet2DConditionModel,
    latents: Tensor,
    context_of: Callable[[], Tensor],
    device: str,
    numbers: torch.dtype = torch.bfloat16,
) -> tuple[Tensor, dict[str, float]]:
    """How well a U-Net tells the noise of noisy latents, weighted by min-SNR, and figures to log.

    Args:
        unet: what is trained.
        latents: float32 (batch, 4, 16, 16) on the CPU, to which noise is added.
        context_of: gives the embeddings of their prompts, (batch, 24, 128) on ``device``, inside the autocast.
        device: "cpu" or "cuda".
        numbers: what is computed in; float32 is without autocast.
    """
    batch, alphas = len(latents), scheduler().alphas_cumprod
    snr = alphas / (1 - alphas)
    # One timestep from each of `batch` equal strata: less variance than independent draws.
    timesteps = ((torch.randperm(batch) + torch.rand(batch)) * 1000 / batch).long().clamp(max=999)
    noise = torch.randn(latents.shape)
    alpha = alphas[timesteps].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    weight = (snr[timesteps].clamp(max=MIN_SNR) / snr[timesteps]).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=numbers == torch.bfloat16):
        output = unet(noisy.to(device), timesteps.to(device), context_of()).sample
    error = (output.float() - noise.to(device)).square().mean(dim=(1, 2, 3))
    loss = (weight * error).mean()
    return loss, {"loss": loss.item(), "error": error.mean().item()}


def fit(
    work: Path,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    device: str,
    steps: int = STEPS,
    start: Denoiser | None = None,
    further: dict[str, Any] | None = None,
) -> Denoiser:
    """Trains the denoiser, its text encoder first on layouts.

    Args:
        work: folder of the data and the checkpoint.
        vae: the trained autoencoder.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps.
        start: networks to go on from, instead.
        further: arguments of the loop in place of the usual ones.
    """
    texts, cached = cached_latents(work, vae, device)
    tokens, empty = tokens_of(tokenizer, texts), tokens_of(tokenizer, [""])
    model = start if start is not None else build(tokenizer)
    if start is None:
        model.text_encoder = layout.fit(model.text_encoder, work, PICTURES, tokenizer, device)
    model = model.requires_grad_(True).to(device)

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        latents = cached[indices].float()
        ids = torch.where(torch.rand(len(indices), 1) < CAPTION_DROPOUT, empty, tokens[indices])
        return noise_loss(model.unet, latents, lambda: model.text_encoder(ids.to(device))[0], device)

    usual = {"steps": steps, "rate": RATE, "checkpoint": work / "diffusion.pt", "keep_every": KEEP_EVERY}
    return train(
        model, loss_of, count=len(texts), batch_size=BATCH_SIZE, seed=SEED, **{**usual, **(further or {})}
    )  # fmt: skip


def pipeline(vae: AutoencoderKL, tokenizer: CLIPTokenizer, model: Denoiser) -> StableDiffusionPipeline:
    """The parts as a Stable Diffusion pipeline."""
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=model.text_encoder.eval(),
        tokenizer=tokenizer,
        unet=model.unet.eval(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
