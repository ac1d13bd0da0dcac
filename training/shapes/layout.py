"""The text encoder's first lesson: say from a prompt what may stand where.

The noise-prediction loss teaches a small text encoder slowly that "a red circle left of a blue square" is not "a blue
square left of a red circle": the words are the same, and most of the loss does not depend on their order. So the text
encoder first learns, without any picture, to predict the layout of the scene. A decoder with a learned query for each
cell of an 8x8 grid attends to the tokens, as the U-Net's cross-attention will, and names the object that covers the
cell. The decoder is dropped afterwards.
"""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from data import CHUNK, KIND_WEIGHTS, TRAIN_SEED, draw
from loop import train
from tokenizer import tokens_of
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from noisewright.shapes.scene import COLOURS, SHAPES, SIDE_PX, SIZES, Scene

GRID = 8
STEPS = 1200
BATCH_SIZE = 128
RATE = 1e-3
NEAR_PX = 2.0  # a cell belongs to an object whose circle comes this near to its centre
SIZE_WEIGHT = 0.2
SEED = 14


def layout(scene: Scene) -> np.ndarray:
    """What covers each cell: uint8 (2, 8, 8), of [0 or 1 + colour * 5 + shape, 0 or 1 + size]."""
    cells = np.zeros((2, GRID, GRID), np.uint8)
    centres = (np.arange(GRID) + 0.5) * SIDE_PX / GRID
    for thing in scene.things:
        covered = np.hypot(centres[None, :] - thing.x, centres[:, None] - thing.y) < thing.radius + NEAR_PX
        cells[0][covered] = 1 + COLOURS.index(thing.colour) * len(SHAPES) + SHAPES.index(thing.shape)
        cells[1][covered] = 1 + SIZES.index(thing.size)
    return cells


def _chunk(seed: int) -> tuple[list[str], np.ndarray]:
    pairs = draw(seed, CHUNK, KIND_WEIGHTS)
    return [prompt.text for prompt, _ in pairs], np.stack([layout(scene) for _, scene in pairs])


def layouts(count: int, seed: int = TRAIN_SEED) -> tuple[list[str], np.ndarray]:
    """Prompts and layouts of the scenes of the training set, uint8 (count, 2, 8, 8)."""
    with ProcessPoolExecutor() as pool:
        chunks = list(pool.map(_chunk, [seed * 1_000_000 + i for i in range(count // CHUNK)]))
    return [text for texts, _ in chunks for text in texts], np.concatenate([cells for _, cells in chunks])


class Layer(nn.Module):
    """One cross-attention of the cells to the tokens, and a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, cells: Tensor, tokens: Tensor) -> Tensor:
        cells = cells + self.attention(self.before(cells), tokens, tokens, need_weights=False)[0]
        return cells + self.perceptron(self.after(cells))


class Learner(nn.Module):
    """The text encoder with the decoder of layouts."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        width = text_encoder.config.hidden_size
        self.text_encoder = text_encoder
        self.cells = nn.Parameter(torch.randn(1, GRID**2, width))
        self.layers = nn.ModuleList([Layer(width), Layer(width)])
        self.head = nn.Linear(width, 1 + len(COLOURS) * len(SHAPES) + len(SIZES))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the object (batch, 41, 64) and of its size (batch, 2, 64)."""
        tokens = self.text_encoder(ids)[0]
        cells = self.cells.expand(len(ids), -1, -1)
        for layer in self.layers:
            cells = layer(cells, tokens)
        logits = self.head(cells).float().transpose(1, 2)
        return logits[:, : -len(SIZES)], logits[:, -len(SIZES) :]


def fit(
    text_encoder: CLIPTextModel, work: Path, count: int, tokenizer: CLIPTokenizer, device: str, steps: int = STEPS
) -> CLIPTextModel:
    """Trains the text encoder on the layouts of the training set.

    Args:
        text_encoder: the untrained text encoder.
        work: folder of the checkpoint.
        count: scenes.
        tokenizer: of the prompts.
        device: "cpu" or "cuda".
        steps: optimiser steps.
    """
    texts, cells = layouts(count)
    tokens = tokens_of(tokenizer, texts)
    learner = Learner(text_encoder).to(device)

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        things, sizes = torch.from_numpy(cells[indices]).long().flatten(2).to(device).unbind(1)
        with torch.autocast(device, torch.bfloat16):
            thing_logits, size_logits = learner(tokens[indices].to(device))
        thing_loss = F.cross_entropy(thing_logits, things)
        size_loss = F.cross_entropy(size_logits, sizes - 1, ignore_index=-1)
        covered = things > 0
        right = (thing_logits[:, 1:].argmax(dim=1) + 1 == things)[covered].float().mean()
        loss = thing_loss + SIZE_WEIGHT * size_loss
        return loss, {"things": thing_loss.item(), "sizes": size_loss.item(), "right": right.item()}

    average = train(
        learner,
        loss_of,
        count=len(texts),
        batch_size=BATCH_SIZE,
        steps=steps,
        rate=RATE,
        checkpoint=work / "layout.pt",
        seed=SEED,
        ema=0.998,
    )
    return average.text_encoder
