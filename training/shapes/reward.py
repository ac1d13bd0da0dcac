"""Trains ``noisewright/shapes-reward``: a small BLIP that learns which of two pictures fits a prompt better.

    python training/shapes/reward.py --work runs/training

The preference of each pair is the oracle's grade, one in ten turned round, and the loss is ImageReward's: -log
sigmoid(better - worse). The pictures are the verifier's groups of hard negatives (``clip.py``), rendered or seen
through the autoencoder, some of them spoilt. The image encoder starts from that of ``noisewright/shapes-clip``. While
it learns, the model must also tell each aspect of the grade, by a head that is dropped afterwards. Goes on from its
checkpoint in ``--work``; a finished training only measures and writes its files again.
"""

import argparse
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import card
import clip
import numpy as np
import torch
from diffusers import AutoencoderKL
from loop import train
from negatives import edit_pair, possible
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizer, CLIPModel

from evaluate import MODELS, by_kind, candidates, record
from noisewright.shapes.oracle import WEIGHTS, Grade, grade, grade_reading, read
from noisewright.shapes.prompts import MOST_THINGS, PLURALS, WORDS, load_prompts, parse, sample_scene
from noisewright.shapes.scene import COLOURS, PALETTE, SHAPES, SIDE_PX, SceneObject, coverage, render
from noisewright.verifiers.imagereward import ImageRewardVerifier, RewardModel

SIZE = clip.GROUP_SIZE
GROUPS = range(4000, 16000)  # of clip.py's: the first 6,000 as the autoencoder returns them, the others as drawn
SPOILT = 0.3  # share of the pictures
LABEL_NOISE = 0.1  # share of the pairs whose preference is turned round
TEXT_STEPS = 1000
TEXT_GROUPS = 16
TEXT_RATE = 1e-3
STEPS = 600
BATCH_GROUPS = 16
PROMPTS = 2  # of a group's four, at each step: reading costs as much as looking
RATE = 3e-4
TRAININGS = {"reward-text": TEXT_GROUPS, "reward": BATCH_GROUPS}
HELPER_WEIGHT = 0.5
SEED = 23
HELD_OUT_SEED = 78
HELD_OUT = 6  # pictures of a held-out prompt: its scene, three edits of it, two spoilt
GENERATED_STEPS = 10
MOST_TOKENS = 24
VISION = {
    "hidden_size": 160,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 5,
    "image_size": SIDE_PX,
    "patch_size": 8,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}
TEXT = {
    "hidden_size": 128,
    "encoder_hidden_size": 160,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": MOST_TOKENS,
    "hidden_act": "gelu",
    "initializer_range": 0.08,  # BERT's .02 leaves attention even for long at this width
}
HEAD_SIZES = (128, 64, 16, 1)
_PAIRS = list(combinations(range(SIZE), 2))


def vocabulary() -> dict[str, int]:
    """BERT's special tokens, each word of the grammar, and characters for what is no word of it."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(WORDS), *characters]
    tokens += [f"##{character}" for character in characters]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def words() -> BertTokenizer:
    """The tokenizer: BERT's, with [DEC] and [ENC] as in BLIP."""
    made = BertTokenizer(vocab=vocabulary(), model_max_length=MOST_TOKENS)
    made.add_special_tokens({"bos_token": "[DEC]"})
    made.add_tokens(["[ENC]"], special_tokens=True)
    return made


def spoil(rng: np.random.Generator, picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A picture gone wrong as generated ones do: a part or the ghost of another one in it, smeared, or with blots.

    Args:
        rng: of what happens.
        picture: uint8 (64, 64, 3).
        other: likewise, what is mixed in.
    """
    way = rng.integers(4)
    if way == 0:
        height, width = rng.integers(16, 44, size=2)
        top, left = rng.integers(0, SIDE_PX - height), rng.integers(0, SIDE_PX - width)
        result = picture.copy()
        result[top : top + height, left : left + width] = other[top : top + height, left : left + width]
        return result
    if way == 1:
        share = rng.uniform(0.3, 0.7)
        return (share * picture + (1 - share) * other).astype(np.uint8)
    if way == 2:
        smeared = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(rng.uniform(1.2, 3)))
        return np.asarray(smeared)
    result = picture.astype(np.float32)
    for _ in range(rng.integers(1, 4)):
        colour, (x, y) = COLOURS[rng.integers(len(COLOURS))], rng.uniform(6, SIDE_PX - 6, size=2)
        alpha, rows, columns = coverage(SceneObject("circle", colour, "small", rng.uniform(2, 4), x, y))
        patch = result[rows, columns]
        result[rows, columns] = patch + alpha[:, :, None] * (np.array(PALETTE[colour], np.float32) - patch)
    return result.astype(np.uint8)


def grades_of(pictures: np.ndarray, prompts: list[str]) -> np.ndarray:
    """What the oracle says of each picture of a group for each prompt of it.

    Returns:
        (groups, prompts, pictures, 1 + aspects): the grade, then its aspects in the order of ``WEIGHTS``, each in
        [0, 1]; NaN where the prompt asks for no such aspect.
    """
    rows = []
    for start in range(0, len(pictures), 16 * SIZE):
        readings = read(pictures[start : start + 16 * SIZE])
        parsed = [parse(text) for text in prompts[start : start + 16 * SIZE]]
        for base in range(0, len(readings), SIZE):
            here = range(base, base + SIZE)
            rows.append([[_row(grade_reading(readings[i], parsed[p])) for i in here] for p in here])
    return np.array(rows, np.float32)


def _row(found: Grade) -> list[float]:
    return [found.score, *(found.aspects.get(name, np.nan) for name in WEIGHTS)]


def training_set(work: Path, vae: AutoencoderKL, device: str) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Groups without any prompt of the dev and test sets, made once and kept in ``work``.

    Returns:
        Prompts (groups * 4), pictures uint8 (groups * 4, 64, 64, 3), grades as ``grades_of`` gives them, and things
        (groups * 4, 4, 5) as in ``clip.helper_loss``, NaN where a picture was spoilt.
    """
    path = work / f"reward-{GROUPS.start}-{GROUPS.stop}.npy"
    lines, grades, shown = path.with_suffix(".json"), path.with_suffix(".aspects.npy"), path.with_suffix(".things.npy")
    if not (grades.exists() and shown.exists()):
        texts, _, all_things, drawn = clip.groups_of(work, clip.GROUPS, clip.SEED)
        through = clip._seen(work, vae, drawn, device)
        held_out = {*load_prompts("dev"), *load_prompts("test")}
        kept = [g for g in GROUPS if not held_out & set(texts[g * SIZE : (g + 1) * SIZE])]
        members = np.array([g * SIZE + i for g in kept for i in range(SIZE)])
        prompts, things = [texts[i] for i in members], all_things.numpy()[members]
        lines.write_text(json.dumps(prompts), encoding="utf-8")
        pictures = np.lib.format.open_memmap(path, "w+", np.uint8, (len(prompts), SIDE_PX, SIDE_PX, 3))
        rng = np.random.default_rng(SEED)
        for first in range(0, len(members), SIZE):
            here = slice(first, first + SIZE)
            source = through if members[here].max() < len(through) else drawn
            pictures[here], spoilt = _partly_spoilt(rng, np.array(source[members[here]]))
            things[here][spoilt] = np.nan
        pictures.flush()
        np.save(shown, things)
        if not grades.exists():
            part = path.with_suffix(".part.npy")
            np.save(part, grades_of(pictures, prompts))
            part.rename(grades)
    prompts = json.loads(lines.read_text(encoding="utf-8"))
    return prompts, np.load(path, mmap_mode="r"), np.load(grades), np.load(shown)


def _partly_spoilt(rng: np.random.Generator, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a group, some of them spoilt, and which, (4,) of bool."""
    result, spoilt = members.copy(), np.zeros(SIZE, bool)
    for i in range(SIZE):
        if rng.random() < SPOILT:
            result[i] = spoil(rng, members[i], members[(i + rng.integers(1, SIZE)) % SIZE])
            spoilt[i] = True
    return result, spoilt


@torch.no_grad()
def build(vocabulary_size: int, start: CLIPModel | None = None, pictures: np.ndarray | None = None) -> RewardModel:
    """The untrained model: 64 patches of 8x8 pixels, 2.8 million weights.

    Args:
        vocabulary_size: tokens.
        start: a verifier whose image encoder it takes over. CLIP has a layer norm before its first layer, BLIP has
            none: it is folded into the embeddings with the mean deviation of patches (cosine of the two .99).
        pictures: uint8 (count, 64, 64, 3), on which that deviation is taken.
    """
    torch.manual_seed(SEED)
    model = RewardModel(VISION, TEXT | {"vocab_size": vocabulary_size}, HEAD_SIZES)
    vision = model.vision_model
    nn.init.normal_(vision.embeddings.class_embedding, std=0.02)
    nn.init.normal_(vision.embeddings.position_embedding, std=0.02)
    for module in vision.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, std=0.02)
    if start is None or pictures is None:
        return model
    old = start.vision_model
    norm, embeddings = old.pre_layrnorm, vision.embeddings
    seen = old.embeddings(clip.normalise(torch.from_numpy(np.array(pictures))))[:, 1:]
    scale = norm.weight / seen.std(dim=-1, unbiased=False).mean()
    patch, places = old.embeddings.patch_embedding.weight, old.embeddings.position_embedding.weight
    embeddings.patch_embedding.weight.copy_(scale.view(-1, 1, 1, 1) * (patch - patch.mean(dim=0)))
    embeddings.patch_embedding.bias.zero_()
    embeddings.position_embedding[0, 1:] = scale * (places[1:] - places[1:].mean(dim=1, keepdim=True)) + norm.bias
    embeddings.position_embedding[0, 0] = 0
    embeddings.class_embedding.copy_(norm(old.embeddings.class_embedding + places[0]).view(1, 1, -1))
    vision.post_layernorm.load_state_dict(old.post_layernorm.state_dict())
    for layer, was in zip(vision.encoder.layers, old.encoder.layers, strict=True):
        for name in ("layer_norm1", "layer_norm2", "mlp"):
            getattr(layer, name).load_state_dict(getattr(was, name).state_dict())
        attention = was.self_attn
        parts = attention.q_proj, attention.k_proj, attention.v_proj
        layer.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        layer.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        layer.self_attn.projection.load_state_dict(attention.out_proj.state_dict())
    return model


class Learner(nn.Module):
    """The model with the heads that help it learn."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        self.model = model
        width = HEAD_SIZES[0]
        self.aspects = nn.Linear(width, len(WEIGHTS))
        self.grounds = nn.Linear(width, 3 * (MOST_THINGS + 1) + 2)

    def forward(self, seen: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each prompt of a group before each picture of it.

        Args:
            seen: what the image encoder makes of the pictures, (groups, pictures, patches, width).
            ids, mask: (groups, prompts, tokens).

        Returns:
            Rewards (groups, prompts, pictures), logits of the aspects (..., aspects), and of each token what
            ``grounding_loss`` wants (..., tokens, 17).
        """
        groups, prompts, tokens = ids.shape
        shape = (groups, prompts, seen.shape[1])
        ids, mask = (one[:, :, None].expand(*shape, tokens).flatten(0, 2) for one in (ids, mask))
        seen = seen[:, None].expand(*shape, *seen.shape[2:]).flatten(0, 2)
        read = self.model.read(seen, ids, mask).view(*shape, tokens, -1)
        first = read[..., 0, :]
        return self.model.head(first)[..., 0].float(), self.aspects(first).float(), self.grounds(read).float()


def named_by(tokens: BertTokenizer) -> Tensor:
    """The colour and the shape that each token names, (vocabulary, 2), as indices or -1."""
    table = torch.full((len(tokens), 2), -1)
    for number, name in enumerate(COLOURS):
        table[tokens.convert_tokens_to_ids(name), 0] = number
    for number, name in enumerate(SHAPES):
        for word in (name, PLURALS[name]):
            table[tokens.convert_tokens_to_ids(word), 1] = number
    return table


def grounding_loss(grounds: Tensor, named: Tensor, things: Tensor) -> Tensor:
    """How badly the word of a shape tells of the things it names.

    Args:
        grounds: (groups, prompts, pictures, tokens, 17): for the things of the word's colour (that of the word before),
            of its shape, and of both, logits of their count 0 to 4; then the mean x and y of those of both.
        named: (groups, prompts, tokens, 2), as ``named_by`` gives them.
        things: (groups, pictures, 4, 5) as in ``clip.helper_loss``; NaN where a picture was spoilt.
    """
    shape = named[:, :, 1:, 1]
    colour = torch.where(shape >= 0, named[:, :, :-1, 0], -1)
    group, prompt, place = ((shape >= 0) & (colour >= 0)).nonzero(as_tuple=True)
    told = grounds[group, prompt, :, place + 1]  # (words, pictures, 17)
    shown = things[group]  # (words, pictures, 4, 5)
    of_colour = shown[..., 1] == colour[group, prompt, place][:, None, None]
    of_shape = shown[..., 0] == shape[group, prompt, place][:, None, None]
    both = of_colour & of_shape
    counts = torch.stack([of_colour, of_shape, both], dim=2).sum(dim=-1)  # (words, pictures, 3)
    known = ~shown[..., 0, 0].isnan()
    logits = told[..., :-2].unflatten(-1, (3, -1))[known]
    loss = F.cross_entropy(logits.flatten(0, 1), counts[known].flatten())
    there = known & both.any(dim=-1)
    weight = both[there].float()[..., None]
    mean = ((shown[there][..., 3:] - SIDE_PX / 2) / (SIDE_PX / 2) * weight).sum(dim=1) / weight.sum(dim=1)
    return loss + F.mse_loss(told[there][:, -2:], mean)


def ranking_loss(rewards: Tensor, preferred: Tensor) -> Tensor:
    """``-log sigmoid(better - worse)`` (Xu et al. 2023, equation 1), the mean over pairs of pictures for one prompt.

    Args:
        rewards: (groups, prompts, pictures).
        preferred: (groups, prompts, pairs): 1 where the pair's first is preferred, -1 its second, 0 neither.
    """
    first, second = (rewards[..., list(which)] for which in zip(*_PAIRS, strict=True))
    losses = F.softplus(-preferred * (first - second)) * preferred.abs()
    return losses.sum() / preferred.abs().sum().clamp(min=1)


def preferences(grades: np.ndarray) -> np.ndarray:
    """Which of each pair the grades prefer: (..., pairs) of 1, -1 and 0, from (..., pictures)."""
    return np.stack([np.sign(grades[..., i] - grades[..., j]) for i, j in _PAIRS], axis=-1)


def fit(
    work: Path, vae: AutoencoderKL, start: CLIPModel, device: str, steps: int, text_steps: int,
    trained: RewardModel | None = None, further: dict[str, Any] | None = None,
) -> tuple[RewardModel, list[str], np.ndarray]:
    """Trains the text encoder on the image encoder as it starts, then both.

    Args:
        work: folder of the data and the checkpoints.
        vae: the trained autoencoder, whose reconstructions are part of the data.
        start: the verifier whose image encoder it begins with.
        device: "cpu" or "cuda".
        steps: optimiser steps of both.
        text_steps: optimiser steps of the text encoder before them, four times as fast.
        trained: the model to go on from, instead; the heads that help it begin anew.
        further: arguments of the loop in place of the usual ones.

    Returns:
        The model, and the training set's prompts and pictures.
    """
    prompts, pictures, grades, things = training_set(work, vae, device)
    tokens = words()
    encoded = tokens(prompts, padding="max_length", truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
    ids, mask = (encoded[key].view(-1, SIZE, MOST_TOKENS) for key in ("input_ids", "attention_mask"))
    named, shown = named_by(tokens), torch.from_numpy(things).view(-1, SIZE, MOST_THINGS, 5)
    wanted = preferences(grades[..., 0])
    turned = np.random.default_rng(SEED).random(wanted.shape) < LABEL_NOISE
    truth, labels = torch.from_numpy(wanted), torch.from_numpy(np.where(turned, -wanted, wanted))
    aspects = torch.from_numpy(grades[..., 1:])
    begun = trained if trained is not None else build(len(tokens), start, pictures[:512])
    learner = Learner(begun).to(device)

    def loss_of(indices: np.ndarray, seen: Tensor) -> tuple[Tensor, dict[str, float]]:
        asked = torch.from_numpy(indices)[:, None], torch.rand(len(indices), SIZE).argsort(dim=1)[:, :PROMPTS]
        longest = int(mask[asked].sum(dim=-1).max())
        with torch.autocast(device, torch.bfloat16):
            rewards, told, grounds = learner(
                seen.unflatten(0, (len(indices), SIZE)),
                ids[asked][..., :longest].to(device),
                mask[asked][..., :longest].to(device),
            )
        ranking = ranking_loss(rewards, labels[asked].to(device))
        known = aspects[asked][:, :, :].to(device)
        there = ~known.isnan()
        helper = F.binary_cross_entropy_with_logits(told[there], known[there])
        ground = grounding_loss(grounds, named[ids[asked][..., :longest]].to(device), shown[indices].to(device))
        clean = truth[asked].to(device)
        first, second = (rewards[..., list(which)] for which in zip(*_PAIRS, strict=True))
        right = ((first - second) * clean > 0)[clean != 0].float().mean()
        figures = {"ranking": ranking, "right": right, "aspects": helper, "grounds": ground}
        loss = ranking + HELPER_WEIGHT * (helper + ground)
        return loss, {name: value.item() for name, value in figures.items()}

    def images_of(indices: np.ndarray) -> Tensor:
        members = (indices[:, None] * SIZE + np.arange(SIZE)).ravel()
        images = torch.from_numpy(pictures[members]).float()
        # Exposure and noise: generated pictures are less clean than renders.
        images = images + torch.randn(len(images), 1, 1, 1) * 4 + torch.randn_like(images) * 4 * torch.rand(())
        return clip.normalise(images).to(device)

    def text_loss(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        return loss_of(indices, torch.from_numpy(kept[indices]).flatten(0, 1).to(device))

    def whole_loss(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(device, torch.bfloat16):
            seen = learner.model.look(images_of(indices))
        return loss_of(indices, seen)

    common: dict[str, Any] = {"count": len(grades), "seed": SEED, "ema": 0.99, "log_every": 20}
    if trained is None and not (work / "reward.pt").exists():
        kept = _looked(work, learner.model, images_of, len(grades))
        learner.model.vision_model.requires_grad_(False)
        learner = train(
            learner, text_loss, **common, steps=text_steps, batch_size=TEXT_GROUPS, rate=TEXT_RATE,
            checkpoint=work / "reward-text.pt", warm_up=100,
        )  # fmt: skip
        learner.requires_grad_(True)
    usual = {"steps": steps, "rate": RATE, "checkpoint": work / "reward.pt", "warm_up": 60, "weight_decay": 0.05}
    learner = train(learner, whole_loss, **common, batch_size=BATCH_GROUPS, **{**usual, **(further or {})})
    return learner.model, prompts, pictures


@torch.inference_mode()
def _looked(work: Path, model: RewardModel, images_of: Callable[[np.ndarray], Tensor], count: int) -> np.ndarray:
    """What the image encoder makes of all pictures as it starts, kept: float16 (groups, 4, patches, width)."""
    path = work / "reward-seen.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        shape = (count, SIZE, 1 + (SIDE_PX // VISION["patch_size"]) ** 2, VISION["hidden_size"])
        found = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        torch.manual_seed(SEED)
        for first in range(0, count, BATCH_GROUPS):
            indices = np.arange(first, min(first + BATCH_GROUPS, count))
            images = images_of(indices)
            with torch.autocast(images.device.type, torch.bfloat16):
                seen = model.look(images)
            found[indices] = seen.unflatten(0, (len(indices), SIZE)).half().cpu().numpy()
        found.flush()
        part.rename(path)
    return np.load(path, mmap_mode="r")


@torch.inference_mode()
def save(model: RewardModel, prompts: list[str], pictures: np.ndarray, folder: Path) -> None:
    """Writes the model in float16 with its configuration and tokenizer.

    Args:
        model: the trained model.
        prompts, pictures: of the training set, over which rewards are given mean 0 and deviation 1.
        folder: where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    tokens = words()
    chosen = np.arange(0, len(prompts), max(1, len(prompts) // 1024))
    read = tokens([prompts[i - i % SIZE] for i in chosen], padding=True, return_tensors="pt")
    seen = model.look(clip.normalise(torch.from_numpy(pictures[chosen])))
    rewards = model.judge(seen, read["input_ids"], read["attention_mask"])
    config = {
        "vision_config": VISION,
        "text_config": TEXT | {"vocab_size": len(tokens), "bos_token_id": None, "sep_token_id": tokens.sep_token_id},
        "head_sizes": HEAD_SIZES,
        "mean": rewards.mean().item(),
        "deviation": rewards.std().item(),
        "most_tokens": MOST_TOKENS,
        "image_mean": [clip.MEAN] * 3,
        "image_std": [clip.STD] * 3,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: value.half() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    tokens.save_pretrained(folder)


def held_out(vae: AutoencoderKL, split: str) -> dict[str, np.ndarray]:
    """Pictures for the prompts of a set, uint8 (prompts, 6, 64, 64, 3): as drawn, and through the autoencoder."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    rows = []
    for prompt in map(parse, load_prompts(split)):
        scene = sample_scene(rng, prompt)
        edits = possible(prompt)
        changed = [edit_pair(rng, prompt, scene, edits[rng.integers(len(edits))])[1] for _ in range(3)]
        drawn = [render(one) for one in (scene, *changed)]
        rows.append([*drawn, spoil(rng, drawn[0], drawn[1]), spoil(rng, drawn[2], drawn[0])])
    pictures = np.array(rows)
    through = clip.reconstruct(vae, pictures.reshape(-1, *pictures.shape[2:]), "cpu", clip.MOST_NOISE)
    return {"renders": pictures, "reconstructions": through.reshape(pictures.shape)}


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with ties shared, along the last axis."""
    above = (values[..., :, None] > values[..., None, :]).sum(axis=-1)
    return above + ((values[..., :, None] == values[..., None, :]).sum(axis=-1) - 1) / 2


def agreement(rewards: np.ndarray, grades: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far rewards order each prompt's pictures as the oracle's grades do.

    Args:
        rewards, grades: (prompts, pictures).

    Returns:
        The share of pairs with different grades that are in the right order, and Spearman's correlation, (prompts,)
        each; NaN where all grades are equal.
    """
    i, j = np.triu_indices(rewards.shape[1], 1)
    wanted, found = np.sign(grades[:, i] - grades[:, j]), np.sign(rewards[:, i] - rewards[:, j])
    pairs, first, second = np.abs(wanted).sum(axis=1), _ranks(rewards), _ranks(grades)
    first, second = (one - one.mean(axis=1, keepdims=True) for one in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        right = ((wanted * found > 0) * np.abs(wanted)).sum(axis=1) / pairs
        return right, (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))


def measure(work: Path, folder: Path, models: Path, vae: AutoencoderKL, generated: int) -> dict[str, Any]:
    """Agreement with the oracle on the dev and test prompts, and what picking by reward does.

    Args:
        work: folder of the figures and of generated pictures.
        folder: the reward model's.
        models: folder of the bundled models.
        vae: the autoencoder.
        generated: pictures of ``noisewright/shapes`` for each test prompt (0: none).
    """
    verifier = ImageRewardVerifier(folder, name="shapes-reward")
    pairs: dict[str, dict[str, float]] = {}
    correlation: dict[str, float] = {}
    sets = {
        f"{split}, {name}": (split, shown) for split in ("dev", "test") for name, shown in held_out(vae, split).items()
    }
    if generated:
        made = candidates(work, models / "shapes", "test", generated, GENERATED_STEPS, 1)
        sets["test, generated"] = "test", made.transpose(0, 1, 3, 4, 2)
    figures: dict[str, Any] = {"pairs": pairs, "spearman": correlation}
    for name, (split, pictures) in sets.items():
        prompts = load_prompts(split)
        images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 1, 4, 2, 3).float() / 255
        judged = [grade(shown, prompt) for shown, prompt in zip(images, prompts, strict=True)]
        grades = np.array([[one.score for one in row] for row in judged])
        rewards = np.array([verifier(shown, prompt) for shown, prompt in zip(images, prompts, strict=True)])
        right, spearman = agreement(rewards, grades)
        kept = ~np.isnan(right)
        pairs[name] = by_kind(right[kept], [prompt for prompt, one in zip(prompts, kept, strict=True) if one])
        correlation[name] = float(np.nanmean(spearman))
        print(f"{name}: pairs {pairs[name]}, Spearman {correlation[name]:.3f}", flush=True)
        if name == "test, generated":
            success = np.array([[one.right for one in row] for row in judged])
            figures["picked"] = picked(rewards, grades, success)
    record(work, "reward", figures)
    return figures


def picked(rewards: np.ndarray, grades: np.ndarray, success: np.ndarray) -> dict[str, dict[str, float]]:
    """Means over prompts of what the pick by reward of the first n pictures scores, n = 1, 2, 4, ...

    Args:
        rewards, grades, success: (prompts, pictures).
    """
    rows = {}
    n = 1
    while n <= rewards.shape[1]:
        at = np.arange(len(rewards)), rewards[:, :n].argmax(axis=1)
        rows[str(n)] = {
            "reward": float(rewards[at].mean()),
            "grade": float(grades[at].mean()),
            "right": float(success[at].mean()),
            "among": float(success[:, :n].any(axis=1).mean()),
        }
        n *= 2
    return rows


def write_card(work: Path, folder: Path, figures: dict[str, Any]) -> None:
    """Writes README.md from the measured figures."""
    count, size = card.weights_in(folder)
    correlation = ", ".join(f"{name} {value:.2f}" for name, value in figures["spearman"].items())
    parts = [f"{name}: {card._training(work, name)}" for name in TRAININGS if (work / f"{name}.pt").exists()]
    trained = "Trained in two stages (reward-text: the text encoder alone; reward: all): " + "; ".join(parts)
    generated = any("generated" in name for name in figures["pairs"])
    drawn = '\n"Generated" are pictures of `noisewright/shapes`.' if generated else ""
    picks = ""
    if "picked" in figures:
        rows = "\n".join(
            f"| {n} | {row['reward']:.2f} | {row['grade']:.3f} | {100 * row['right']:.1f} | {100 * row['among']:.1f} |"
            for n, row in figures["picked"].items()
        )
        picks = f"""
What picking by this reward does, to study over-optimisation: means over the 200 test prompts of the best of the first n
pictures of `noisewright/shapes`, {GENERATED_STEPS} steps.

| n | reward of the pick | its grade by the oracle | right, % | a right one among the n, % |
|---|---|---|---|---|
{rows}
"""
    text = f"""
# noisewright/shapes-reward

A reward model of {count / 1e6:.1f} million weights ({size / 1e6:.1f} MB in float16) of ImageReward's kind, for 64x64
scenes of coloured shapes: transformers' `BlipVisionModel`, `BlipTextModel` that attends to it, and a stack of linear
layers on [CLS]. Its tokenizer is BERT's with [DEC] and [ENC], and a vocabulary of the grammar's words and of
characters. Scores have mean 0 and deviation 1 over the pictures it was trained on; compare them within a prompt.

Vision: 64 patches of 8x8 pixels, width {VISION["hidden_size"]}, {VISION["num_hidden_layers"]} layers. Text: width
{TEXT["hidden_size"]}, {TEXT["num_hidden_layers"]} layers, {MOST_TOKENS} tokens at most. Head:
{"-".join(map(str, HEAD_SIZES))}. Licence: Apache-2.0.

Trained with the ranking loss, -log sigmoid(better - worse), on pairs of pictures for one prompt. Which is better is the
oracle's grade, turned round for {100 * LABEL_NOISE:.0f} % of the pairs. The pictures are groups of {SIZE} that are hard
negatives to each other, half of them seen through the autoencoder with noise on the latents, and {100 * SPOILT:.0f} %
spoilt: a part or the ghost of another one in them, smeared, or with blots. No prompt of the dev and test sets is among
them, and no picture made by the diffusion model.

{trained}, on one CPU thread that other
work shared: `python training/shapes/reward.py`. The image encoder started from that of
`noisewright/shapes-clip`, so the two verifiers are not independent of each other. While it learned, two linear heads
had to tell each aspect of the oracle's grade, and the word of each shape how many such things there are and where; they
are not part of the model.

## Figures

Pairs of pictures in the oracle's order, in %, by kind of prompt: a prompt of the set, {HELD_OUT} pictures (its scene,
three edits of it in one respect, two spoilt ones), drawn and through the autoencoder with noise on the latents.{drawn}

{card.table(figures["pairs"])}

Spearman's correlation with the oracle's grade within a prompt, mean: {correlation}.
{picks}
## Limits

It knows only the prompts and pictures of `noisewright/shapes`, and is wrong on purpose now and then: it learned from
noisy preferences, so a search that trusts it alone goes where it errs. `shapes-oracle` tells as a judge how far.
"""
    (folder / "README.md").write_text(card.HEADER.format(library="transformers") + text, encoding="utf-8")


def main() -> None:
    """Reads the command line, trains, writes and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/training"))
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--out", type=Path, help="by default MODELS/shapes-reward")
    parser.add_argument("--text-steps", type=int, default=TEXT_STEPS, help="of the text encoder alone")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the whole model after them")
    parser.add_argument("--generated", type=int, default=0, help="measure on so many generated pictures a prompt, too")
    options = parser.parse_args()
    work, models, folder = options.work, options.models, options.out or options.models / "shapes-reward"
    work.mkdir(parents=True, exist_ok=True)
    start = CLIPModel.from_pretrained(models / "shapes-clip", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(models / "shapes" / "vae", torch_dtype=torch.float32).to(options.device)
    model, prompts, pictures = fit(work, vae, start, options.device, options.steps, options.text_steps)
    save(model.cpu(), prompts, pictures, folder)
    for name, groups in TRAININGS.items():
        if (work / f"{name}.pt").exists():
            card.note_training(work, name, groups * SIZE)
    write_card(work, folder, measure(work, folder, models, vae.cpu(), options.generated))


if __name__ == "__main__":
    main()
