"""The verifier's second training: relations, and pictures of the diffusion model.

After its first one the verifier is at chance on relations, of which a quarter of its groups told, and pictures that are
generated go wrong in other ways than edited scenes. So first the text tower learns to read (``reading.py``). Then most
groups are of relations, what counts most is to tell the members of a group apart, and the pictures that the diffusion
model made for a prompt, or that were drawn for it nearly right, are to come in the oracle's order. Both towers have
heads that help them and are dropped afterwards.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clip
import generated
import numpy as np
import placed
import reading
import torch
from diffusers import AutoencoderKL
from generated import Judged, ranking_loss
from loop import train
from tokenizer import tokens_of
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from noisewright.shapes.prompts import kind, load_prompts, parse
from noisewright.shapes.scene import COLOURS

GROUPS = 8000
KIND_WEIGHTS = {"relation": 0.62, "count": 0.12, "two": 0.08, "three": 0.08, "single": 0.10}
SIZE_TIMES = 3
SIZED = 0.7  # share of the prompts without a size and a relation that get a size
STEPS = 500
BATCH_GROUPS = 20
BATCH_PROMPTS = 5  # of each source, whose pictures are ranked at each step
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
        self.size_head = nn.Linear(model.config.vision_config.hidden_size, reading.NAMES)

    def everything(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What ``clip.Learner`` gives, sizes in the images (images, 13), and answers of the texts (texts, 79)."""
        logits, seen, read = clip.logits_of(self.clip, pixels, ids)
        return logits, *self.told(seen), self.size_head(seen.pooler_output), self.reader(read.pooler_output)


@dataclass(frozen=True)
class Ranked:
    """Prompts with several pictures each, to be put into the oracle's order, of some sources.

    Attributes:
        sources: the pictures and verdicts.
        telling: of each source, the numbers of prompts whose pictures differ, counted over all sources.
        tokens: of all prompts, (prompts, 24).
        scores: of all pictures, (prompts, pictures).
        right: whether each is right, likewise.
    """

    sources: list[Judged]
    telling: list[np.ndarray]
    tokens: Tensor
    scores: Tensor
    right: Tensor

    @classmethod
    def of(cls, sources: list[Judged], tokenizer: CLIPTokenizer) -> "Ranked":
        """All of the sources together."""
        starts = np.cumsum([0, *(len(one.prompts) for one in sources)])
        return cls(
            sources,
            [start + one.telling() for start, one in zip(starts, sources, strict=False)],
            torch.cat([tokens_of(tokenizer, one.prompts) for one in sources]),
            torch.cat([torch.from_numpy(one.scores).float() for one in sources]),
            torch.cat([torch.from_numpy(one.right) for one in sources]),
        )

    def choose(self, step: int) -> np.ndarray:
        """The prompts of a step: ``BATCH_PROMPTS`` of each source."""
        rng = np.random.default_rng((SEED, step))
        return np.concatenate(
            [rng.choice(some, min(BATCH_PROMPTS, len(some)), replace=False) for some in self.telling]
        )

    def shown(self, prompts: np.ndarray) -> Tensor:
        """Their pictures, prompt by prompt: (prompts * pictures, 64, 64, 3) in 0 to 255."""
        rows = []
        for number in prompts:
            for source in self.sources:
                if number < len(source.prompts):
                    rows.append(source.pictures[number])
                    break
                number -= len(source.prompts)
        return torch.from_numpy(np.concatenate(rows)).float()

    def loss(self, logits: Tensor, prompts: np.ndarray) -> tuple[Tensor, Tensor]:
        """The ranking loss, and the share of the prompts whose highest picture is right.

        Args:
            logits: (prompts * pictures, prompts).
            prompts: their numbers.
        """
        right = self.right[prompts].to(logits.device)
        own = logits.unflatten(0, right.shape).diagonal(dim1=0, dim2=2).T
        loss = ranking_loss(own, self.scores[prompts].to(logits.device), right)
        return loss, right.gather(1, own.detach().argmax(dim=1, keepdim=True)).float().mean()


def sizes_of(things: Tensor) -> Tensor:
    """Large less small things of each colour and of each shape, (images, 13).

    Args:
        things: as in ``clip.helper_loss``.
    """
    image, which = (things[:, :, 0] >= 0).nonzero(as_tuple=True)
    shape, colour, size = things[image, which][:, :3].long().unbind(dim=1)
    found = torch.zeros(len(things), reading.NAMES, device=things.device)
    for slot in (colour, len(COLOURS) + shape):
        found.index_put_((image, slot), 2.0 * size - 1, accumulate=True)
    return found


def kept(prompts: list[str], edits: list[str]) -> np.ndarray:
    """Indices of the groups that hold no prompt of the dev or test sets but those of one object.

    Of one object there are 120 prompts only, so that nothing would be left. Groups that tell sizes apart, the edit that
    is learned last, are there ``SIZE_TIMES``.
    """
    held_out = {text for name in ("dev", "test") for text in load_prompts(name) if kind(parse(text)) != "single"}
    groups = [prompts[i : i + clip.GROUP_SIZE] for i in range(0, len(prompts), clip.GROUP_SIZE)]
    good = [number for number, texts in enumerate(groups) if not held_out & set(texts)]
    size = clip.GROUP_SIZE
    times = [SIZE_TIMES if "size" in edits[size * number : size * (number + 1)] else 1 for number in good]
    return np.repeat(good, times)


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
    prompts, edits, things, pictures = clip.groups_of(work, GROUPS, SEED, KIND_WEIGHTS, SIZED)
    through = clip._seen(work, vae, pictures, device)
    ranked = Ranked.of([generated.judged(work, models / "shapes", device, os.cpu_count() or 1),
                        placed.judged(work, vae, device)], tokenizer)  # fmt: skip
    good = kept(prompts, edits)
    tokens, keys = tokens_of(tokenizer, prompts).short(), clip.keys_of(prompts)
    asked = torch.from_numpy(np.stack([reading.answers(parse(text)) for text in prompts]))

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        members = (good[indices][:, None] * clip.GROUP_SIZE + np.arange(clip.GROUP_SIZE)).ravel()
        count, some = len(members), ranked.choose(step)
        shown = torch.from_numpy(np.stack([through[i] if i < len(through) else pictures[i] for i in members]))
        images = torch.cat(
            [
                clip.spoilt_a_little(shown.float(), EXPOSURE, NOISE),
                clip.spoilt_a_little(ranked.shown(some), EXPOSURE, 0),
            ]
        )
        ids = torch.cat([tokens[members].long(), ranked.tokens[some]])
        with torch.autocast(device, torch.bfloat16):
            logits, patches, scene, sizes, said = model.everything(clip.normalise(images).to(device), ids.to(device))
        everyone, group, told = clip.contrast(logits[:count, :count], keys[members])
        order, best = ranked.loss(logits[count:, count:], some)
        drawn = things[members].to(device)
        helpers = clip.helper_loss(patches[:count], scene[:count], drawn)
        large = (sizes[:count].float() - sizes_of(drawn)).square().sum(dim=1).mean()
        texts = reading.answers_loss(said[:count], asked[members].to(device))
        loss = EVERYONE_WEIGHT * everyone + group + order
        loss = loss + HELPER_WEIGHT * (helpers + large) + TEXT_WEIGHT * texts
        figures = {
            "all": everyone, "group": group, "right": told, "order": order, "picked": best, "helpers": helpers,
            "sizes": large, "texts": texts,
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
