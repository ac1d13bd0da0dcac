"""Trains a bundled model of the shapes further from its present weights, and keeps what is better on the dev prompts.

    python training/shapes/further.py shapes --minutes 10 --device cuda --work runs/further

``shapes`` is compared by its success (the oracle, the same seeds), the two verifiers by the share of pairs of generated
pictures that they put into the oracle's order. What was trained replaces what is there only where the 95 % interval of
the paired difference over prompts lies above 0. ``WORK/further-NAME.json`` says what came of it.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import clip
import clip_further
import data
import generated
import numpy as np
import placed
import reward
import torch
from diffusers import AutoencoderKL
from train import forget_places, load_float32
from transformers import CLIPModel, CLIPTokenizer

import diffusion
from evaluate import GUIDANCE, MODELS, STEPS, by_kind, grades_of, load_pipe, pictures_of
from noisewright import registry
from noisewright.measures.bootstrap import interval
from noisewright.shapes.prompts import load_prompts
from noisewright.verifiers.imagereward import ImageRewardVerifier

sys.path.append(str(Path(__file__).parents[1]))

from common import keep, report, trained

RATES = {"shapes": 3e-4, "shapes-clip": 3e-4, "shapes-reward": 1e-4}
"""A third of what they were trained with first: the weights are good already."""

SEEDS = 8
PICKED_FROM = 16
PICK_STEPS = 10
MANY = 10**9  # steps: the minutes end it


def make_tiny() -> None:
    """Sizes with which everything runs in seconds and nothing is learned."""
    data.CHUNK, diffusion.PICTURES, diffusion.BATCH_SIZE = 20, 40, 4
    clip.CHUNK, clip.GROUPS, clip.BATCH_GROUPS = 10, 20, 2
    clip_further.GROUPS, clip_further.BATCH_GROUPS, placed.PROMPTS = 20, 2, 4
    generated.PARTS, generated.PROMPTS, generated.SEEDS, generated.BATCH_PROMPTS = 1, 4, 2, 4
    generated.FEW_STEPS = generated.STEPS = 2
    reward.GROUPS, reward.BATCH_GROUPS = range(0, 8), 2


def make_small() -> None:
    """As much data as shows how fast training is, made in seconds."""
    diffusion.PICTURES, clip.GROUPS, reward.GROUPS = 4 * data.CHUNK, 4 * clip.CHUNK, range(0, clip.CHUNK)
    clip_further.GROUPS, generated.PARTS, placed.PROMPTS = 4 * clip.CHUNK, 2, 80


# Training


def train_shapes(work: Path, models: Path, device: str, further: dict[str, Any]) -> tuple[Any, int]:
    """The pipeline with new weights of U-Net and text encoder, and the batch size."""
    pipe = load_pipe(models / "shapes")
    start = diffusion.Denoiser(pipe.text_encoder, pipe.unet)
    vae = pipe.vae.to(device)
    model = diffusion.fit(work, vae, pipe.tokenizer, device, MANY, start, further)
    pipe.unet, pipe.text_encoder = model.unet.cpu(), model.text_encoder.cpu()
    return pipe, diffusion.BATCH_SIZE


def write_shapes(pipe: Any, folder: Path) -> None:
    for name in ("unet", "text_encoder"):
        getattr(pipe, name).half().save_pretrained(folder / name)
    load_float32(folder / "text_encoder")
    forget_places(folder)


def train_clip(work: Path, models: Path, device: str, further: dict[str, Any]) -> tuple[Any, int]:
    words = CLIPTokenizer.from_pretrained(models / "shapes-clip")
    model = clip_further.fit(work, models, words, device, MANY, further, reads=True)
    return model.cpu(), clip_further.BATCH_GROUPS * clip.GROUP_SIZE


def train_reward(work: Path, models: Path, device: str, further: dict[str, Any]) -> tuple[Any, int]:
    start = CLIPModel.from_pretrained(models / "shapes-clip", dtype=torch.float32)
    own = ImageRewardVerifier(models / "shapes-reward", name="shapes-reward").model.float().requires_grad_(True).train()
    model, prompts, pictures = reward.fit(work, _vae(models, device), start, device, MANY, 0, own, further)
    return (model.cpu(), prompts, pictures), reward.BATCH_GROUPS * reward.SIZE


def _vae(models: Path, device: str) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(models / "shapes" / "vae", torch_dtype=torch.float32).to(device)


def written(name: str, made: Any, models: Path, folder: Path) -> Path:
    """A copy of the bundled model with the new weights."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / name, folder)
    if name == "shapes":
        write_shapes(made, folder)
    elif name == "shapes-clip":
        clip.save(made, models / name, folder)
        load_float32(folder)
    else:
        reward.save(*made, folder)
    forget_places(folder)
    return folder


# Comparing


def success(folder: Path, device: str, prompts: list[str], seeds: int, steps: int) -> np.ndarray:
    """The share of right pictures for each prompt, (prompts,)."""
    pipe = load_pipe(folder).to(device)
    right, _ = grades_of(pictures_of(pipe, prompts, seeds, steps, GUIDANCE, batch=200), prompts)
    return right.mean(axis=1)


def orders(name: str, folder: Path, pictures: np.ndarray, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What a verifier makes of the pictures of each prompt.

    Returns:
        The share of pairs in the oracle's order, NaN where all are alike, and whether the pick of all is right,
        (prompts,) each.
    """
    if name == "shapes-clip":
        verifier = registry.make_verifier(f"clip:{folder}")
    else:
        verifier = ImageRewardVerifier(folder, name=name)
    right, scores = grades_of(pictures, prompts)
    images = torch.from_numpy(pictures).float() / 255
    said = np.array([list(verifier(shown, prompt)) for shown, prompt in zip(images, prompts, strict=True)])
    return reward.agreement(said, scores)[0], right[np.arange(len(prompts)), said.argmax(axis=1)]


def compared(name: str, models: Path, candidate: Path, device: str, tiny: bool) -> dict[str, Any]:
    """Figures on the dev prompts before and after, and whether it is better."""
    prompts = list(load_prompts("dev"))[:: 40 if tiny else 1]  # 40 of each kind, one kind after the other
    folders = {"before": models / name, "after": candidate}
    if name == "shapes":
        size = (2, 2) if tiny else (SEEDS, STEPS)
        rows = {when: success(folder, device, prompts, *size) for when, folder in folders.items()}
        found: dict[str, Any] = {when: by_kind(row, prompts) for when, row in rows.items()}
    else:
        pipe, count = load_pipe(models / "shapes").to(device), 4 if tiny else PICKED_FROM
        pictures = pictures_of(pipe, prompts, count, 2 if tiny else PICK_STEPS, GUIDANCE, batch=200)
        judged = {when: orders(name, folder, pictures, prompts) for when, folder in folders.items()}
        rows = {when: pairs for when, (pairs, _) in judged.items()}
        found = {
            when: {"pairs": float(np.nanmean(pairs)), "picked": float(picked.mean())}
            for when, (pairs, picked) in judged.items()
        }
    low, high = interval(rows["after"], rows["before"])
    return {**found, "change": [low, high], "better": bool(low > 0)}


def main() -> None:
    """Reads the command line, trains, compares and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(RATES))
    parser.add_argument("--minutes", type=float, required=True, help="of training; data and measuring come on top")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/further"))
    parser.add_argument("--models", type=Path, default=MODELS, help="the present weights, and where better ones go")
    parser.add_argument("--tiny", action="store_true", help="at a size at which nothing is learned")
    parser.add_argument("--speed", action="store_true", help="train only: compare nothing, keep nothing")
    options = parser.parse_args()
    name, work = options.name, options.work
    work.mkdir(parents=True, exist_ok=True)
    if options.tiny:
        make_tiny()
    elif options.speed:
        make_small()
    torch.set_float32_matmul_precision("high")
    checkpoint = work / f"further-{name}.pt"
    checkpoint.unlink(missing_ok=True)  # from the present weights, whatever was tried before
    further = {"checkpoint": checkpoint, "minutes": options.minutes, "rate": RATES[name], "keep_every": 0}
    works = {"shapes": train_shapes, "shapes-clip": train_clip, "shapes-reward": train_reward}
    began = time.monotonic()
    made, batch = works[name](work, options.models, options.device, further)
    took = trained(checkpoint, batch)
    found = {"device": options.device, "all_seconds": round(time.monotonic() - began, 1), **took}
    report(work, name, found)
    if options.speed:
        return
    candidate = written(name, made, options.models, work / "candidate" / name)
    found |= compared(name, options.models, candidate, options.device, options.tiny)
    allowed = options.models != MODELS or not options.tiny  # nothing was learned at that size
    found["kept"] = keep(candidate, options.models / name, found["better"] and allowed)
    report(work, name, found)
    low, high = found["change"]
    print(f"{name}: {found['before']} before, {found['after']} after, change {low:+.4f} to {high:+.4f}: "
          f"{'kept' if found['kept'] else 'not kept'}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
