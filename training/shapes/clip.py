"""The verifier: a small CLIP, trained on groups of scenes that are each other's hard negatives."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from autoencoder import to_tensor
from data import KIND_WEIGHTS
from diffusers import AutoencoderKL
from loop import train
from negatives import EDITS, group, key
from tokenizer import MAX_TOKENS
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from noisewright.shapes.prompts import parse, sample_prompt
from noisewright.shapes.scene import SIDE_PX, render

GROUPS = 48_000
GROUP_SIZE = 4
CHUNK = 500  # groups a worker makes at a time
RECONSTRUCTED = 0.25  # share of the groups seen through the autoencoder, as generated pictures are
STEPS = 6000
BATCH_GROUPS = 32
RATE = 1e-3
SEED = 13
HELD_OUT_SEED = 77
MEAN, STD = 0.5, 0.25


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """The untrained model: 64 patches of 8x8 pixels, 2.6 million weights."""
    torch.manual_seed(SEED)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": 128,
    }
    vision = {
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_hidden_layers": 6,
        "num_attention_heads": 5,
        "image_size": SIDE_PX,
        "patch_size": 8,
        "hidden_act": "gelu",
        "projection_dim": 128,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def _chunk(seed: int) -> tuple[list[str], list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds, odds = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    members = [
        member
        for _ in range(CHUNK)
        for member in group(rng, sample_prompt(rng, str(rng.choice(kinds, p=odds))), GROUP_SIZE)
    ]
    pictures = np.stack([render(scene) for _, scene, _ in members])
    return [prompt.text for prompt, _, _ in members], [edit for _, _, edit in members], pictures


def groups_of(work: Path, count: int, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Groups of hard negatives, made once and kept in ``work``.

    Returns:
        Prompts and edits (count * 4 each, group by group), and pictures as uint8 (count * 4, 64, 64, 3).
    """
    path, lines = work / f"groups-{seed}-{count}.npy", work / f"groups-{seed}-{count}.json"
    if not lines.exists():
        part = path.with_suffix(".part")
        pictures = np.lib.format.open_memmap(part, "w+", np.uint8, (count * GROUP_SIZE, SIDE_PX, SIDE_PX, 3))
        prompts: list[str] = []
        edits: list[str] = []
        with ProcessPoolExecutor() as pool:
            seeds = [seed * 1_000_000 + i for i in range(count // CHUNK)]
            for i, (texts, kinds, chunk) in enumerate(pool.map(_chunk, seeds)):
                pictures[i * len(chunk) : (i + 1) * len(chunk)] = chunk
                prompts += texts
                edits += kinds
        pictures.flush()
        part.rename(path)
        lines.write_text(json.dumps([prompts, edits]), encoding="utf-8")
    prompts, edits = json.loads(lines.read_text(encoding="utf-8"))
    return prompts, edits, np.load(path, mmap_mode="r")


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, pictures: np.ndarray, device: str, batch_size: int = 64) -> np.ndarray:
    """Pictures through the autoencoder and back, uint8 of the same shape."""
    parts = []
    for start in range(0, len(pictures), batch_size):
        images = to_tensor(pictures[start : start + batch_size], device)
        with torch.autocast(device, torch.bfloat16):
            output = vae.decode(vae.encode(images).latent_dist.mode()).sample
        output = ((output.float() + 1) * 127.5).round().clamp(0, 255).byte()
        parts.append(output.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


def _seen(work: Path, vae: AutoencoderKL, pictures: np.ndarray, device: str) -> np.ndarray:
    """The training pictures, the first ``RECONSTRUCTED`` of them as the autoencoder returns them."""
    count = int(RECONSTRUCTED * len(pictures)) // GROUP_SIZE * GROUP_SIZE
    path = work / f"reconstructed-{len(pictures)}.npy"
    if not path.exists():
        part = path.with_suffix(".part.npy")
        np.save(part, reconstruct(vae, pictures[:count], device))
        part.rename(path)
    return np.load(path, mmap_mode="r")


def normalise(images: Tensor) -> Tensor:
    """uint8 (batch, 64, 64, 3) to the model's input (batch, 3, 64, 64)."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def fit(work: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, device: str, steps: int = STEPS) -> CLIPModel:
    """Trains the verifier.

    Args:
        work: folder of the data and the checkpoint.
        vae: the trained autoencoder, whose reconstructions are part of the data.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps.
    """
    prompts, _, pictures = groups_of(work, GROUPS, SEED)
    through = _seen(work, vae, pictures, device)
    tokens = tokenizer(
        prompts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids.short()
    names: dict[object, int] = {}
    keys = torch.tensor([names.setdefault(key(parse(prompt)), len(names)) for prompt in prompts])
    model = build(tokenizer).to(device)
    own = torch.block_diag(*[torch.ones(GROUP_SIZE, GROUP_SIZE)] * BATCH_GROUPS).bool()

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        members = (indices[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel()
        chosen = np.stack([through[i] if i < len(through) else pictures[i] for i in members])
        images = torch.from_numpy(chosen).float()
        # Exposure, noise and a shift of at most two pixels: generated pictures are less clean than renders.
        images = images + torch.randn(len(images), 1, 1, 1) * 4 + torch.randn_like(images) * 4 * torch.rand(())
        with torch.autocast(device, torch.bfloat16):
            output = model(input_ids=tokens[members].long().to(device), pixel_values=normalise(images).to(device))
        logits = output.logits_per_image.float()
        # Prompts that name the same things may hold for each other's pictures, unless they are of one group.
        same = keys[members][:, None] == keys[members][None]
        allowed = own | ~same
        logits = logits.masked_fill(~allowed.to(device), -1e4)
        target = torch.arange(len(logits), device=device)
        within = logits.masked_fill(~own.to(device), -1e4)
        everyone = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        group_only = F.cross_entropy(within, target) + F.cross_entropy(within.T, target)
        right = (within.T.argmax(dim=1) == target).float().mean()
        loss = (everyone + group_only) / 4
        return loss, {"all": everyone.item() / 2, "group": group_only.item() / 2, "right": right.item()}

    return train(
        model,
        loss_of,
        count=GROUPS,
        batch_size=BATCH_GROUPS,
        steps=steps,
        rate=RATE,
        checkpoint=work / "clip.pt",
        seed=SEED,
        weight_decay=0.05,
    )


@torch.inference_mode()
def similarities(model: CLIPModel, tokens: Tensor, images: Tensor) -> Tensor:
    """Cosine of each image with each text, (images, texts), in float32."""
    output = model(input_ids=tokens, pixel_values=images)
    return output.image_embeds @ output.text_embeds.T


def hard_negative_accuracy(
    model: CLIPModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL, work: Path, count: int = 1000
) -> dict[str, dict[str, float]]:
    """Share of held-out pairs told apart, by edit, on renders and on reconstructions.

    A pair is a base and one edit of it. "image": the base's prompt scores the base's picture above the
    edited one (what a search asks); "text": the base's picture scores its own prompt above the edited one.
    """
    prompts, edits, pictures = groups_of(work, count, HELD_OUT_SEED)
    table: dict[str, dict[str, float]] = {}
    for name, shown in (("renders", np.asarray(pictures)), ("reconstructions", reconstruct(vae, pictures, "cpu"))):
        image_right: dict[str, list[bool]] = {edit: [] for edit in EDITS}
        text_right: dict[str, list[bool]] = {edit: [] for edit in EDITS}
        for start in range(0, len(prompts), 80):
            ids = tokenizer(
                prompts[start : start + 80], padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids
            cosines = similarities(model, ids, normalise(torch.from_numpy(shown[start : start + 80])))
            for base in range(0, len(ids), GROUP_SIZE):
                for i in range(base + 1, base + GROUP_SIZE):
                    edit = edits[start + i]
                    image_right[edit].append(bool(cosines[base, base] > cosines[i, base]))
                    text_right[edit].append(bool(cosines[base, base] > cosines[base, i]))
        for way, right in (("image", image_right), ("text", text_right)):
            row = {edit: float(np.mean(values)) for edit, values in right.items()}
            row["all"] = float(np.mean([value for values in right.values() for value in values]))
            table[f"{name}, {way}"] = row
    return table


def save(model: CLIPModel, tokenizer_folder: Path, folder: Path) -> None:
    """Writes the model in float16 with its own copy of the tokenizer and an image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    model.float()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizer_folder / name).read_bytes())
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIDE_PX},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE_PX, "width": SIDE_PX},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
