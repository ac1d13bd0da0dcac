"""The verifier: a small CLIP, trained on groups of scenes that are each other's hard negatives.

Contrast alone teaches a small image tower slowly what an object is. So while it learns, its patches are also asked
what stands on them and its pooled output what the whole picture holds; these heads are dropped afterwards. The text
tower starts from the diffusion model's text encoder.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoder import to_tensor
from data import KIND_WEIGHTS
from diffusers import AutoencoderKL
from loop import train
from negatives import EDITS, group, key, sized
from tokenizer import MAX_TOKENS, tokens_of
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from noisewright.shapes.prompts import MOST_THINGS, parse, sample_prompt
from noisewright.shapes.scene import COLOURS, SHAPES, SIDE_PX, SIZES, SceneObject, render

GROUPS = 20_000
GROUP_SIZE = 4
CHUNK = 500  # groups a worker makes at a time
RECONSTRUCTED = 0.5  # share of the groups seen through the autoencoder, as generated pictures are
MOST_NOISE = 0.6  # on their latents, which spoils shapes a little, as generated pictures are spoilt
STEPS = 2000
BATCH_GROUPS = 32
RATE = 1e-3
HELPER_WEIGHT = 0.5
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
        "num_hidden_layers": 3,
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


def logits_of(clip: CLIPModel, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Any, Any]:
    """Scaled cosines (images, texts) in float32, and the outputs of the vision and the text tower."""
    seen = clip.vision_model(pixel_values=pixels)
    read = clip.text_model(input_ids=ids)
    image = F.normalize(clip.visual_projection(seen.pooler_output).float(), dim=-1)
    text = F.normalize(clip.text_projection(read.pooler_output).float(), dim=-1)
    return clip.logit_scale.exp().clamp(max=100) * image @ text.T, seen, read


def contrast(logits: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How badly prompts and pictures find each other.

    Args:
        logits: (pictures, prompts), group by group.
        keys: a number for what each prompt names (``key``). Prompts that name the same things may hold for each
            other's pictures, unless they are of one group.

    Returns:
        Cross entropy over all and over the own group alone, both the mean of the two directions, and the share of
        prompts whose own picture is their best of the group.
    """
    target = torch.arange(len(logits), device=logits.device)
    own = target[:, None] // GROUP_SIZE == target[None] // GROUP_SIZE
    allowed = own | (keys[:, None] != keys[None]).to(own.device)
    everyone, within = logits.masked_fill(~allowed, -1e4), logits.masked_fill(~own, -1e4)
    both = [(F.cross_entropy(some, target) + F.cross_entropy(some.T, target)) / 2 for some in (everyone, within)]
    return both[0], both[1], (within.T.argmax(dim=1) == target).float().mean()


def spoilt_a_little(images: Tensor, exposure: float, noise: float) -> Tensor:
    """Pictures (batch, 64, 64, 3) in 0 to 255 with another exposure and noise: generated ones are less clean."""
    images = images + torch.randn(len(images), 1, 1, 1) * exposure
    return images + torch.randn_like(images) * noise * torch.rand(())


class Learner(nn.Module):
    """The model with the heads that help it learn."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.patch_head = nn.Linear(width, 1 + len(COLOURS) + len(SHAPES) + 2)
        self.scene_head = nn.Linear(width, len(COLOURS) * len(SHAPES) + 2 * (len(COLOURS) + len(SHAPES)))

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (images, texts), patch predictions (images, 64, 16) and scene predictions (images, 66)."""
        logits, seen, _ = logits_of(self.clip, pixels, ids)
        return logits, *self.told(seen)

    def told(self, seen: Any) -> tuple[Tensor, Tensor]:
        """What the heads say of the vision tower's output."""
        return self.patch_head(seen.last_hidden_state[:, 1:]), self.scene_head(seen.pooler_output)


def helper_loss(patches: Tensor, scene: Tensor, things: Tensor) -> Tensor:
    """How badly the heads tell what a picture holds.

    Args:
        patches: (images, 64, 16): is an object's centroid here, its colour, shape and size.
        scene: (images, 66): logarithm of the count of each (colour, shape), then the mean x and y of the objects of
            each colour and of each shape.
        things: (images, 4, 5): shape, colour and size as indices, x and y in pixels; shape -1 where there is none.
    """
    image, which = (things[:, :, 0] >= 0).nonzero(as_tuple=True)
    thing = things[image, which]
    shape, colour, size = thing[:, :3].long().unbind(dim=1)
    cell = (thing[:, 4] // 8 * 8 + thing[:, 3] // 8).long()
    there = torch.zeros(patches.shape[:2], device=patches.device)
    there[image, cell] = 1
    at = patches[image, cell].float()
    loss = F.binary_cross_entropy_with_logits(patches[:, :, 0].float(), there) * 4
    # Shapes are the slowest to learn, so they weigh double.
    aspects = zip(at[:, 1:].split([8, 5, 2], dim=1), (colour, shape, size), (1, 2, 1), strict=True)
    for logits, target, weight in aspects:
        loss = loss + weight * F.cross_entropy(logits, target)
    scene = scene.float()
    counts = torch.zeros(len(scene), 40, device=scene.device)
    counts.index_put_((image, colour * 5 + shape), torch.ones_like(thing[:, 0]), accumulate=True)
    loss = loss + 10 * F.poisson_nll_loss(scene[:, :40], counts)
    places = torch.zeros(len(scene), 13, 3, device=scene.device)
    row = torch.cat([torch.ones(len(thing), 1, device=scene.device), (thing[:, 3:] - 32) / 32], dim=1)
    for slot in (colour, shape + 8):
        places.index_put_((image, slot), row, accumulate=True)
    present = places[:, :, 0] > 0
    mean = places[present][:, 1:] / places[present][:, :1]
    return loss + 10 * F.mse_loss(scene[:, 40:].unflatten(1, (13, 2))[present], mean)


def _row(things: tuple[SceneObject, ...]) -> list[list[float]]:
    rows = [[SHAPES.index(t.shape), COLOURS.index(t.colour), SIZES.index(t.size), t.x, t.y] for t in things]
    return rows + [[-1.0] * 5] * (MOST_THINGS - len(rows))


def _chunk(seed: int, weights: dict[str, float] | None = None, sizes: float = 0) -> tuple[
    list[str], list[str], np.ndarray, np.ndarray
]:  # fmt: skip
    rng = np.random.default_rng(seed)
    weights = weights or KIND_WEIGHTS
    kinds, odds = list(weights), list(weights.values())
    members = [
        member
        for _ in range(CHUNK)
        for member in group(rng, sized(rng, sample_prompt(rng, str(rng.choice(kinds, p=odds))), sizes), GROUP_SIZE)
    ]
    pictures = np.stack([render(scene) for _, scene, _ in members])
    things = np.array([_row(scene.things) for _, scene, _ in members], np.float32)
    return [prompt.text for prompt, _, _ in members], [edit for _, _, edit in members], things, pictures


def groups_of(
    work: Path, count: int, seed: int, weights: dict[str, float] | None = None, sizes: float = 0
) -> tuple[list[str], list[str], Tensor, np.ndarray]:
    """Groups of hard negatives, made once and kept in ``work``.

    Args:
        work: folder that keeps them, by count and seed.
        count: groups.
        seed: of all of them.
        weights: of the kinds of prompts; None takes ``KIND_WEIGHTS``.
        sizes: share of the prompts without a size and a relation that get a size.

    Returns:
        Prompts and edits (count * 4 each, group by group), things as ``helper_loss`` takes them, and pictures as
        uint8 (count * 4, 64, 64, 3).
    """
    path, lines = work / f"groups-{seed}-{count}.npy", work / f"groups-{seed}-{count}.json"
    if not lines.exists():
        part = path.with_suffix(".part")
        pictures = np.lib.format.open_memmap(part, "w+", np.uint8, (count * GROUP_SIZE, SIDE_PX, SIDE_PX, 3))
        prompts: list[str] = []
        edits: list[str] = []
        rows = []
        with ProcessPoolExecutor() as pool:
            seeds = [seed * 1_000_000 + i for i in range(count // CHUNK)]
            made = pool.map(_chunk, seeds, [weights] * len(seeds), [sizes] * len(seeds))
            for i, (texts, kinds, things, chunk) in enumerate(made):
                pictures[i * len(chunk) : (i + 1) * len(chunk)] = chunk
                prompts += texts
                edits += kinds
                rows.append(things)
        pictures.flush()
        part.rename(path)
        np.save(path.with_suffix(".things.npy"), np.concatenate(rows))
        lines.write_text(json.dumps([prompts, edits]), encoding="utf-8")
    prompts, edits = json.loads(lines.read_text(encoding="utf-8"))
    held = torch.from_numpy(np.load(path.with_suffix(".things.npy")))
    return prompts, edits, held, np.load(path, mmap_mode="r")


@torch.inference_mode()
def reconstruct(
    vae: AutoencoderKL, pictures: np.ndarray, device: str, most_noise: float = 0.0, batch_size: int = 64
) -> np.ndarray:
    """Pictures through the autoencoder and back, uint8 of the same shape.

    Args:
        vae: the trained autoencoder.
        pictures: uint8 (count, 64, 64, 3).
        device: where it runs.
        most_noise: each picture's latents get noise of a deviation drawn evenly between 0 and this.
        batch_size: pictures at a time.
    """
    parts, generator = [], torch.Generator().manual_seed(SEED)
    for start in range(0, len(pictures), batch_size):
        images = to_tensor(pictures[start : start + batch_size], device)
        with torch.autocast(device, torch.bfloat16):
            latents = vae.encode(images).latent_dist.mode()
            level = most_noise * torch.rand(len(latents), 1, 1, 1, generator=generator)
            noise = level * torch.randn(latents.shape, generator=generator)
            output = vae.decode(latents + noise.to(latents)).sample
        output = ((output.float() + 1) * 127.5).round().clamp(0, 255).byte()
        parts.append(output.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


def keys_of(prompts: list[str]) -> Tensor:
    """A number for what each prompt names, (prompts,): the same where ``key`` is."""
    names: dict[object, int] = {}
    return torch.tensor([names.setdefault(key(parse(prompt)), len(names)) for prompt in prompts])


def _seen(work: Path, vae: AutoencoderKL, pictures: np.ndarray, device: str) -> np.ndarray:
    """The training pictures, the first ``RECONSTRUCTED`` of them as the autoencoder returns them."""
    count = int(RECONSTRUCTED * len(pictures)) // GROUP_SIZE * GROUP_SIZE
    path = work / f"reconstructed-{len(pictures)}.npy"
    if not path.exists():
        part = path.with_suffix(".part.npy")
        np.save(part, reconstruct(vae, pictures[:count], device, MOST_NOISE))
        part.rename(path)
    return np.load(path, mmap_mode="r")


def normalise(images: Tensor) -> Tensor:
    """uint8 (batch, 64, 64, 3) to the model's input (batch, 3, 64, 64)."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def fit(
    work: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    device: str,
    steps: int = STEPS,
) -> CLIPModel:
    """Trains the verifier.

    Args:
        work: folder of the data and the checkpoint.
        vae: the trained autoencoder, whose reconstructions are part of the data.
        text_encoder: the diffusion model's, to start from.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps.
    """
    prompts, _, things, pictures = groups_of(work, GROUPS, SEED)
    through = _seen(work, vae, pictures, device)
    tokens = tokens_of(tokenizer, prompts).short()
    keys = keys_of(prompts)
    model = build(tokenizer)
    model.text_model.load_state_dict(text_encoder.state_dict())
    learner = Learner(model).to(device)

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        members = (indices[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel()
        chosen = np.stack([through[i] if i < len(through) else pictures[i] for i in members])
        images = spoilt_a_little(torch.from_numpy(chosen).float(), exposure=4, noise=4)
        with torch.autocast(device, torch.bfloat16):
            logits, patches, scene = learner(normalise(images).to(device), tokens[members].long().to(device))
        helpers = helper_loss(patches, scene, things[members].to(device))
        everyone, group_only, right = contrast(logits, keys[members])
        loss = (everyone + group_only) / 2 + HELPER_WEIGHT * helpers
        figures = {"all": everyone, "group": group_only, "right": right, "helpers": helpers}
        return loss, {name: value.item() for name, value in figures.items()}

    average = train(
        learner, loss_of, count=GROUPS, batch_size=BATCH_GROUPS, steps=steps, rate=RATE, checkpoint=work / "clip.pt",
        seed=SEED, weight_decay=0.05,
    )  # fmt: skip
    return average.clip


@torch.inference_mode()
def similarities(model: CLIPModel, tokens: Tensor, images: Tensor) -> Tensor:
    """Cosine of each image with each text, (images, texts), in float32."""
    output = model(input_ids=tokens, pixel_values=images)
    return output.image_embeds @ output.text_embeds.T


def hard_negative_accuracy(
    model: CLIPModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL, work: Path, count: int = 500
) -> dict[str, dict[str, float]]:
    """Share of held-out pairs told apart, by edit, on renders and on reconstructions.

    A pair is a base and one edit of it. "image": the base's prompt scores the base's picture above the
    edited one (what a search asks); "text": the base's picture scores its own prompt above the edited one.
    """
    prompts, edits, _, pictures = groups_of(work, count, HELD_OUT_SEED)
    table: dict[str, dict[str, float]] = {}
    for name, shown in (("renders", np.asarray(pictures)), ("reconstructions", reconstruct(vae, pictures, "cpu"))):
        image_right: dict[str, list[bool]] = {edit: [] for edit in EDITS}
        text_right: dict[str, list[bool]] = {edit: [] for edit in EDITS}
        for start in range(0, len(prompts), 80):
            ids = tokens_of(tokenizer, prompts[start : start + 80])
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
