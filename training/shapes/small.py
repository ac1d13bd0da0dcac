"""The U-Net of ``noisewright/shapes-small``: a fifth of the weights of that of ``noisewright/shapes``, trained alone.

Autoencoder, text encoder, tokenizer and scheduler are those of ``noisewright/shapes``, so what the two models make of
one prompt and one noise differs by the U-Net alone. Prompts and pictures are encoded once.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from loop import save_atomically, train
from tokenizer import tokens_of
from torch import Tensor

import diffusion

PICTURES = 60_000
STEPS = 4000
RATE = 2e-3
CHANNELS, GROUPS, TIME_WIDTH = (32, 64), 8, 64
SEED = 21
PART = "unet"


def build() -> UNet2DConditionModel:
    """The untrained U-Net."""
    torch.manual_seed(SEED)
    return diffusion.unet_of(CHANNELS, GROUPS, middle=False, time_width=TIME_WIDTH)


def embeddings(pipe: StableDiffusionPipeline, texts: list[str], path: Path, batch: int = 256) -> tuple[Tensor, Tensor]:
    """What the text encoder makes of each distinct prompt, made once and kept.

    Args:
        pipe: with the text encoder and its tokenizer.
        texts: prompts, many of them more than once.
        path: the file that it is kept in.
        batch: prompts at once.

    Returns:
        Embeddings float16 (distinct + 1, 24, 128), the last one that of the empty prompt, and for each text its row.
    """
    distinct = sorted(set(texts))
    if not path.exists():
        ids = tokens_of(pipe.tokenizer, [*distinct, ""])
        with torch.inference_mode():
            encoder = pipe.text_encoder
            some = [ids[n : n + batch].to(encoder.device) for n in range(0, len(ids), batch)]
            parts = [encoder(one)[0].half().cpu() for one in some]
        save_atomically(torch.cat(parts), path)
    place = {text: n for n, text in enumerate(distinct)}
    return torch.load(path, weights_only=True), torch.tensor([place[text] for text in texts])


def fit(
    work: Path, models: Path, device: str, steps: int | None = None, further: dict[str, Any] | None = None
) -> UNet2DConditionModel:  # fmt: skip
    """Trains the U-Net on the noise that was added, as the large one was; goes on from its checkpoint in ``work``.

    Args:
        work: folder of the data and the checkpoint.
        models: folder of the bundled models, of which ``shapes`` encodes pictures and prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps; ``STEPS`` by default.
        further: arguments of the loop in place of the usual ones.
    """
    pipe = StableDiffusionPipeline.from_pretrained(models / "shapes")
    texts, cached = diffusion.cached_latents(work, pipe.vae.to(device), device, PICTURES)
    pipe.text_encoder.to(device)
    contexts, rows = embeddings(pipe, texts, work / f"embeddings-{PICTURES}.pt")
    unet = build().to(device)

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        picks = rows[indices].masked_fill(torch.rand(len(indices)) < diffusion.CAPTION_DROPOUT, len(contexts) - 1)
        context = contexts[picks].float().to(device)
        # So narrow a network is not faster in bfloat16 on a CPU.
        return diffusion.noise_loss(unet, cached[indices].float(), lambda: context, device, torch.float32)

    usual = {"steps": steps or STEPS, "rate": RATE, "checkpoint": work / "small.pt", "keep_every": 500}
    return train(
        unet, loss_of, count=len(texts), batch_size=diffusion.BATCH_SIZE, seed=SEED, **{**usual, **(further or {})}
    )  # fmt: skip


def write(unet: UNet2DConditionModel, models: Path, manifest: dict[str, Any]) -> Path:
    """Writes the model in float16: its U-Net, and what says that the other parts are those of ``shapes``.

    Args:
        unet: trained.
        models: folder of the bundled models.
        manifest: of ``noisewright/shapes``.
    """
    folder = models / "shapes-small"
    unet.half().save_pretrained(folder / PART)
    shutil.copyfile(models / "shapes" / "model_index.json", folder / "model_index.json")
    text = json.dumps({**manifest, "name": "noisewright/shapes-small"}, indent=2)
    (folder / "noisewright.json").write_text(text + "\n", encoding="utf-8")
    return folder
