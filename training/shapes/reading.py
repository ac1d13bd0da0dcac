"""Teaches the verifier's text tower to read, by texts alone, before it is asked to match pictures.

What a text tower pools after contrast alone says which things a prompt names, how many and how large, and nothing of
how they stand: a linear map finds none of it (R2 below 0), while it finds their places in the image tower's (R2 0.66).
A contrast between them then has nothing to hold on to. So the tower is asked outright, by a linear head that is dropped
afterwards; and since the answer is a product of who comes first and which relation it is, half of it is asked halfway,
at the word where it first can be known.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from loop import train
from negatives import sized
from tokenizer import tokens_of
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from noisewright.shapes.prompts import Group, Prompt, load_prompts, sample_prompt
from noisewright.shapes.scene import COLOURS, SHAPES

KIND_WEIGHTS = {"relation": 0.5, "count": 0.15, "two": 0.1, "three": 0.15, "single": 0.1}
SIZED = 0.3
STEPS = 500
BATCH_SIZE = 256
RATE = 1e-3
SEED = 41
DIRECTIONS = {"left of": (-1.0, 0.0), "right of": (1.0, 0.0), "above": (0.0, -1.0), "below": (0.0, 1.0)}
NAMES = len(COLOURS) + len(SHAPES)
ANSWERS = (2 * NAMES, len(COLOURS) * len(SHAPES), NAMES)  # directions, counts, sizes
WEIGHTS = (3.0, 2.0, 2.0)
HALVES_WEIGHT = 2.0
HALFWAY = 2  # layers, of three


def _slots(group: Group) -> tuple[int, int]:
    return COLOURS.index(group.colour), len(COLOURS) + SHAPES.index(group.shape)


def directions(group: Group, relation: str, sign: float) -> np.ndarray:
    """Which way a group stands from the other: x and y of its colour and of its shape, (26,)."""
    found = np.zeros((NAMES, 2), np.float32)
    for slot in _slots(group):
        found[slot] = sign * np.array(DIRECTIONS[relation])
    return found.ravel()


def answers(prompt: Prompt) -> np.ndarray:
    """What the prompt says, (79,): directions of colours and shapes, counts of (colour, shape), sizes of both."""
    stands = np.zeros(ANSWERS[0], np.float32)
    counts, sizes = np.zeros((len(COLOURS), len(SHAPES)), np.float32), np.zeros(NAMES, np.float32)
    if prompt.relation:
        first, second = prompt.groups
        stands = directions(first, prompt.relation, 1) + directions(second, prompt.relation, -1)
    for group in prompt.groups:
        colour, shape = _slots(group)
        counts[colour, shape - len(COLOURS)] += group.count
        if group.size:
            sizes[[colour, shape]] += 1 if group.size == "large" else -1
    return np.concatenate([stands, counts.ravel(), sizes])


def halves(prompt: Prompt) -> tuple[tuple[int, int], np.ndarray]:
    """Of a prompt with a relation: at which token the direction of each group is asked, and the directions (2, 26)."""
    relation = prompt.relation or ""
    words = prompt.text.split()
    last = max(place for place, word in enumerate(words) if word in ("of", "above", "below"))
    both = [directions(group, relation, sign) for group, sign in zip(prompt.groups, (1, -1), strict=True)]
    return (1 + last, len(words)), np.stack(both)  # token 0 begins the text


def answers_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """The weighted sum of squared errors of the answers, a mean over texts.

    Args:
        said: (texts, 79).
        wanted: likewise.
    """
    parts = (said.float() - wanted).square().split(ANSWERS, dim=1)
    return sum(weight * part.sum(dim=1).mean() for weight, part in zip(WEIGHTS, parts, strict=True))


class Reader(nn.Module):
    """A text tower with the heads that help it learn."""

    def __init__(self, tower: CLIPTextModel) -> None:
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.head = nn.Linear(width, sum(ANSWERS))
        self.halfway = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, ANSWERS[0]))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Answers (texts, 79) and directions at each token (texts, tokens, 26)."""
        read = self.tower(input_ids=ids, output_hidden_states=True)
        return self.head(read.pooler_output.float()), self.halfway(read.hidden_states[HALFWAY].float())


def fit(work: Path, tower: CLIPTextModel, tokenizer: CLIPTokenizer, device: str, **further: Any) -> Reader:
    """Trains the tower on random prompts, none of the dev and test sets' but those of one object.

    Args:
        work: folder of the checkpoint.
        tower: the text tower to start from.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        further: arguments of the loop in place of the usual ones.
    """
    torch.manual_seed(SEED)
    reader = Reader(tower).to(device)
    kinds, odds = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    held_out = {*load_prompts("dev"), *load_prompts("test")}

    def prompt(rng: np.random.Generator) -> Prompt:
        while True:
            found = sized(rng, sample_prompt(rng, str(rng.choice(kinds, p=odds))), SIZED)
            if len(found.groups) == 1 or found.text not in held_out:
                return found

    def loss_of(_: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng((SEED, step))
        prompts = [prompt(rng) for _ in range(BATCH_SIZE)]
        ids = tokens_of(tokenizer, [one.text for one in prompts])
        ids = ids[:, : int((ids != tokenizer.eos_token_id).sum(dim=1).max()) + 1]  # what follows is padding
        wanted = torch.from_numpy(np.stack([answers(one) for one in prompts])).to(device)
        with torch.autocast(device, torch.bfloat16):
            said, midway = reader(ids.to(device))
        related = [number for number, one in enumerate(prompts) if one.relation]
        places, stands = zip(*(halves(prompts[number]) for number in related), strict=True)
        asked = midway[torch.tensor(related)[:, None], torch.tensor(places)]  # (related, 2, 26)
        half = F.mse_loss(asked, torch.from_numpy(np.stack(stands)).to(device), reduction="none").sum(dim=-1)
        loss = answers_loss(said, wanted) + HALVES_WEIGHT * half.sum(dim=1).mean()
        missed = (said - wanted)[related][:, : ANSWERS[0]].square().sum(dim=1).mean() / 4  # 1 where it says nothing
        first, second = half.mean(dim=0) / 2
        figures = {"loss": loss, "relations": missed, "first": first, "second": second}
        return loss, {name: value.item() for name, value in figures.items()}

    usual = {
        "steps": STEPS, "rate": RATE, "checkpoint": work / "clip-text.pt", "weight_decay": 0.02, "warm_up": 30,
        "decay_from": 0.0, "ema": 0.98, "log_every": 25,
    }  # fmt: skip
    average = train(reader, loss_of, count=BATCH_SIZE, batch_size=BATCH_SIZE, seed=SEED, **{**usual, **further})
    assert isinstance(average, Reader)
    return average
