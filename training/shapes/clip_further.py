"""The verifier's second training: relations, and pictures of the diffusion model.

After its first one the verifier is at chance on relations, of which a quarter of its groups told, and pictures that are
generated go wrong in other ways than edited scenes. So first the text tower learns to read (``reading.py``). Then most
groups are of relations, what counts most is to tell the members of a group apart, and the pictures that the diffusion
model made for a prompt are to come in the oracle's order. Both towers keep heads that help them, dropped afterwards.
"""

import os
from pathlib import Path
from typing import Any

import clip
import numpy as np
import reading
import torch
from diffusers import AutoencoderKL
from generated import judged, ranking_loss
from loop import train
from tokenizer import tokens_of
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from noisewright.shapes.prompts import kind, load_prompts, parse

GROUPS = 8000
KIND_WEIGHTS = {"relation": 0.62, "count": 0.12, "two": 0.08, "three": 0.08, "single": 0.10}
SIZED = 0.7  # share of the prompts without a size and a relation that get a size
STEPS = 500
BATCH_GROUPS = 24
BATCH_PROMPTS = 8  # whose generated pictures are ranked at each step
EVERYONE_WEIGHT = 0.25  # of the contrast over all, beside the 1 of that within the group and of the ranking
HELPER_WEIGHT, TEXT_WEIGHT = 0.1, 0.05
EXPOSURE, NOISE = 3.0, 4.0
RATE = 5e-4
SEED = 79


class Verifier(clip.Learner):
    """The model with heads on both towers."""

    def __init__(self, model: CLIPModel, reader: nn.Linear) -> None:
        super().__init__(model)
        self.reader = reader

    def everything(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What ``clip.Learner`` gives, and the text tower's answers (texts, 79)."""
        logits, seen, read = clip.logits_of(self.clip, pixels, ids)
        return logits, *self.told(seen), self.reader(read.pooler_output)


def kept(prompts: list[str]) -> np.ndarray:
    """Indices of the groups that hold no prompt of the dev or test sets but those of one object.

    Of one object there are 120 prompts only, so that nothing would be left.
    """
    held_out = {text for name in ("dev", "test") for text in load_prompts(name) if kind(parse(text)) != "single"}
    groups = [prompts[i : i + clip.GROUP_SIZE] for i in range(0, len(prompts), clip.GROUP_SIZE)]
    return np.array([number for number, texts in enumerate(groups) if not held_out & set(texts)])


def fit(
    work: Path,
    models: Path,
    tokenizer: CLIPTokenizer,
    device: str,
    steps: int | None = None,
    further: dict[str, Any] | None = None,
    reads: bool = False,
) -> CLIPModel:
    """Trains the verifier that ``models`` holds further.

    Args:
        work: folder of the data and the checkpoint.
        models: folder of the bundled models: the pipeline that makes pictures, the verifier to start from.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps; None takes ``STEPS``.
        further: arguments of the loop in place of the usual ones.
        reads: whether the text tower has learned to read already, and begins with what it knows.
    """
    vae = AutoencoderKL.from_pretrained(models / "shapes" / "vae", torch_dtype=torch.float32).to(device)
    start = CLIPModel.from_pretrained(models / "shapes-clip", dtype=torch.float32)
    torch.manual_seed(SEED)
    reader = reading.Reader(start.text_model)
    if not reads:
        reader = reading.fit(work, start.text_model, tokenizer, device)
        start.text_model.load_state_dict(reader.tower.state_dict())
    model = Verifier(start, reader.head).to(device).requires_grad_(True)
    prompts, _, things, pictures = clip.groups_of(work, GROUPS, SEED, KIND_WEIGHTS, SIZED)
    through = clip._seen(work, vae, pictures, device)
    made = judged(work, models / "shapes", device, os.cpu_count() or 1)
    good, telling = kept(prompts), made.telling()
    tokens, keys = tokens_of(tokenizer, prompts).short(), clip.keys_of(prompts)
    made_tokens = tokens_of(tokenizer, made.prompts)
    asked = torch.from_numpy(np.stack([reading.answers(parse(text)) for text in prompts]))
    scores, right = torch.from_numpy(made.scores).float(), torch.from_numpy(made.right)

    def batch(indices: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
        """Members of the groups, which prompts' generated pictures, and images and tokens of both."""
        members = (good[indices][:, None] * clip.GROUP_SIZE + np.arange(clip.GROUP_SIZE)).ravel()
        drawn = np.stack([through[i] if i < len(through) else pictures[i] for i in members])
        some = np.random.default_rng((SEED, step)).choice(telling, min(BATCH_PROMPTS, len(telling)), replace=False)
        shown = torch.from_numpy(made.pictures[some]).flatten(0, 1).float()
        first = clip.spoilt_a_little(torch.from_numpy(drawn).float(), EXPOSURE, NOISE)
        images = torch.cat([first, clip.spoilt_a_little(shown, EXPOSURE, 0)])
        return members, some, images, torch.cat([tokens[members].long(), made_tokens[some]])

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        members, some, images, ids = batch(indices, step)
        count = len(members)
        with torch.autocast(device, torch.bfloat16):
            logits, patches, scene, said = model.everything(clip.normalise(images).to(device), ids.to(device))
        everyone, group, told = clip.contrast(logits[:count, :count], keys[members])
        ranked = logits[count:, count:].unflatten(0, (len(some), -1)).diagonal(dim1=0, dim2=2).T
        order = ranking_loss(ranked, scores[some].to(device), right[some].to(device))
        helpers = clip.helper_loss(patches[:count], scene[:count], things[members].to(device))
        texts = reading.answers_loss(said[:count], asked[members].to(device))
        loss = EVERYONE_WEIGHT * everyone + group + order + HELPER_WEIGHT * helpers + TEXT_WEIGHT * texts
        best = right[some].gather(1, ranked.detach().cpu().argmax(dim=1, keepdim=True)).float().mean()
        figures = {
            "all": everyone, "group": group, "right": told, "order": order, "picked": best, "helpers": helpers,
            "texts": texts,
        }  # fmt: skip
        return loss, {name: value.item() for name, value in figures.items()}

    usual = {
        "steps": steps or STEPS, "rate": RATE, "checkpoint": work / "clip-further.pt", "weight_decay": 0.05,
        "warm_up": 30, "decay_from": 0.0, "ema": 0.99, "log_every": 20,
    }  # fmt: skip
    average = train(
        model, loss_of, count=len(good), batch_size=BATCH_GROUPS, seed=SEED, **{**usual, **(further or {})}
    )  # fmt: skip
    return average.clip
