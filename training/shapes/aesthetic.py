"""Trains ``noisewright/shapes-aesthetic``: a small head on the shapes CLIP's image vector that rates clean pictures.

    python training/shapes/aesthetic.py --work runs/training

The pictures are scenes made worse on purpose, by blur, noise, clutter and colours off the palette, and the rating to
learn is 10 less nine times how much, whatever the scene. Embeddings and checkpoint are kept in ``--work``; a finished
training only measures and writes its files again.
"""

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import card
import clip
import numpy as np
import torch
from data import KIND_WEIGHTS
from diffusers import AutoencoderKL
from loop import train
from PIL import Image, ImageFilter
from reward import GENERATED_STEPS, agreement
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from evaluate import MODELS, candidates, record
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import Prompt, load_prompts, parse, sample_prompt, sample_scene
from noisewright.shapes.scene import SHAPES, SIDE_PX, Scene, SceneObject, coverage, render, rgb

DEGRADATIONS = ("blur", "noise", "clutter", "colours")
BLUR_PX, NOISE, CLUTTER = 3.0, 60.0, 16  # at the worst: deviations in pixels and in 0..255, and a number of things
RECONSTRUCTED = 0.25  # share of the pictures seen through the autoencoder, as generated ones are
PICTURES = 10_000
HELD_OUT_EACH = 1  # pictures of a prompt of the test set
CHUNK = 1000
SIZES = (128, 64, 16, 1)
STEPS = 3000
BATCH_SIZE = 256
RATE = 2e-3
SEED = 31
HELD_OUT_SEED = 32


def degraded(rng: np.random.Generator, scene: Scene, amounts: np.ndarray) -> np.ndarray:
    """A scene's picture made worse, uint8 (64, 64, 3).

    Args:
        rng: of what the damage looks like.
        scene: what to draw.
        amounts: of each of ``DEGRADATIONS``, 0 to 1.
    """
    blur, noise, clutter, colours = map(float, amounts)
    things = [_muddied(rng, thing, colours) for thing in scene.things]
    canvas = render(Scene(tuple(things), scene.background)).astype(np.float32)
    for _ in range(round(clutter * CLUTTER)):
        shape, (x, y) = SHAPES[rng.integers(len(SHAPES))], rng.uniform(1, SIDE_PX - 1, size=2)
        alpha, rows, columns = coverage(SceneObject(shape, "red", "small", rng.uniform(1.2, 3), x, y))
        patch = canvas[rows, columns]
        canvas[rows, columns] = patch + alpha[:, :, None] * (rng.uniform(0, 255, size=3) - patch)
    if blur:
        smeared = Image.fromarray(canvas.astype(np.uint8)).filter(ImageFilter.GaussianBlur(BLUR_PX * blur))
        canvas = np.asarray(smeared).astype(np.float32)
    canvas = canvas + noise * NOISE * rng.standard_normal(canvas.shape)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def _muddied(rng: np.random.Generator, thing: SceneObject, amount: float) -> SceneObject:
    """A thing whose colour has gone some of the way to any other."""
    old, new = np.array(thing.rgb), rng.uniform(40, 215, size=3)
    return replace(thing, rgb=rgb(old + amount * (new - old)))


def amounts_of(rng: np.random.Generator, total: float) -> np.ndarray:
    """How much of each degradation, one to three of them, that sum up to ``total`` (at most 1)."""
    chosen = rng.permutation(len(DEGRADATIONS))[: rng.integers(1, 4)]
    amounts = np.zeros(len(DEGRADATIONS))
    amounts[chosen] = total * rng.dirichlet(np.ones(len(chosen)))
    return amounts


def rating(amounts: np.ndarray) -> float:
    """10 for a clean picture to 1 for the worst."""
    return 10 - 9 * float(amounts.sum())


@torch.inference_mode()
def embed(model: CLIPModel, pictures: np.ndarray) -> Tensor:
    """Unit vectors (count, 128) of pictures uint8 (count, 64, 64, 3)."""
    parts = [
        model.get_image_features(pixel_values=clip.normalise(torch.from_numpy(pictures[i : i + 100]))).pooler_output
        for i in range(0, len(pictures), 100)
    ]
    return F.normalize(torch.cat(parts), dim=-1)


def training_set(work: Path, model: CLIPModel, vae: AutoencoderKL, count: int) -> tuple[Tensor, Tensor]:
    """Embeddings (count, 128) and ratings (count,), made once in chunks that are kept in ``work``.

    The prompts are random; those of the dev and test sets are left out.
    """
    held_out = {*load_prompts("dev"), *load_prompts("test")}
    parts = []
    for number in range(count // CHUNK):
        path = work / f"aesthetic-{number}.pt"
        if not path.exists():
            rng = np.random.default_rng((SEED, number))
            prompts: list[Prompt] = []
            while len(prompts) < CHUNK:
                prompt = sample_prompt(rng, str(rng.choice(list(KIND_WEIGHTS), p=list(KIND_WEIGHTS.values()))))
                if prompt.text not in held_out:
                    prompts.append(prompt)
            amounts = np.stack([amounts_of(rng, rng.random()) for _ in prompts])
            pictures = np.stack(
                [degraded(rng, sample_scene(rng, p), some) for p, some in zip(prompts, amounts, strict=True)]
            )
            through = int(RECONSTRUCTED * CHUNK)
            pictures[:through] = clip.reconstruct(vae, pictures[:through], "cpu")
            ratings = torch.tensor([rating(some) for some in amounts])
            torch.save({"embeddings": embed(model, pictures), "ratings": ratings}, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        parts.append(torch.load(path, weights_only=True))
    return torch.cat([part["embeddings"] for part in parts]), torch.cat([part["ratings"] for part in parts])


def build() -> nn.Sequential:
    """The untrained head."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(SIZES):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(work: Path, model: CLIPModel, vae: AutoencoderKL, steps: int) -> nn.Sequential:
    """Trains the head by its squared error.

    Args:
        work: folder of the embeddings and the checkpoint.
        model: the CLIPModel whose image vectors it reads.
        vae: the autoencoder, through which some of the pictures are seen.
        steps: optimiser steps.
    """
    embeddings, ratings = training_set(work, model, vae, PICTURES)
    head = build()

    def loss_of(indices: np.ndarray, step: int) -> tuple[Tensor, dict[str, float]]:
        loss = F.mse_loss(head(embeddings[indices])[:, 0], ratings[indices])
        return loss, {"error": loss.item()}

    trained = train(
        head, loss_of, count=len(ratings), batch_size=BATCH_SIZE, steps=steps, rate=RATE,
        checkpoint=work / "aesthetic.pt", seed=SEED, ema=0.99, log_every=500,
    )  # fmt: skip
    assert isinstance(trained, nn.Sequential)
    return trained


def save(head: nn.Sequential, folder: Path) -> None:
    """Writes the head as the ``aesthetic`` verifier reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    tensors = {
        f"layers.{number}.{name}": value.detach().clone().contiguous()
        for number, layer in enumerate(linear)
        for name, value in layer.named_parameters()
    }
    save_file(tensors, folder / "head.safetensors", metadata={"activation": "relu"})
    config = {"clip": "noisewright/shapes-clip", "sizes": SIZES, "activation": "relu"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@torch.inference_mode()
def measure(
    work: Path, models: Path, model: CLIPModel, head: nn.Sequential, vae: AutoencoderKL, generated: int
) -> dict[str, Any]:
    """Agreement with the rating, and with the oracle, on scenes of the test prompts.

    Args:
        work: folder of the figures and of generated pictures.
        models: folder of the bundled models.
        model: the CLIPModel.
        head: the trained head.
        vae: the autoencoder.
        generated: pictures of ``noisewright/shapes`` for each test prompt (0: none).
    """
    rng = np.random.default_rng(HELD_OUT_SEED)
    prompts = [parse(text) for text in load_prompts("test") for _ in range(HELD_OUT_EACH)]
    scenes = [sample_scene(rng, prompt) for prompt in prompts]

    def scores(pictures: np.ndarray) -> np.ndarray:
        return head(embed(model, pictures))[:, 0].numpy()

    ways = {name: np.eye(len(DEGRADATIONS))[i] for i, name in enumerate(DEGRADATIONS)}
    pairs: dict[str, dict[str, float]] = {}
    error = rank = same = with_oracle = 0.0
    for name in ("all", *ways):
        totals = rng.random(len(scenes))
        amounts = np.stack([amounts_of(rng, t) if name == "all" else t * ways[name] for t in totals])
        drawn = np.stack([degraded(rng, scene, some) for scene, some in zip(scenes, amounts, strict=True)])
        wanted = np.array([rating(some) for some in amounts])
        for title, pictures in (("renders", drawn), ("reconstructions", clip.reconstruct(vae, drawn, "cpu"))):
            found = scores(pictures)
            right, spearman = agreement(found[None], wanted[None])
            pairs.setdefault(title, {})[name] = float(right[0])
            if name == "all" and title == "renders":
                error = float(np.abs(found - wanted).mean())
                rank = float(spearman[0])
                oracle = np.array([grade(one, prompt)[0].score for one, prompt in zip(pictures, prompts, strict=True)])
                same, with_oracle = (float(one[0]) for one in agreement(found[None], oracle[None]))
    figures = {"pairs": pairs, "error": error, "spearman": rank, "oracle": {"pairs": same, "spearman": with_oracle}}
    if generated:
        made = candidates(work, models / "shapes", "test", generated, GENERATED_STEPS, 1).transpose(0, 1, 3, 4, 2)
        found = np.stack([scores(np.ascontiguousarray(row)) for row in made])
        judged = [grade(row, text) for row, text in zip(made, load_prompts("test"), strict=True)]
        right, spearman = agreement(found, np.array([[one.score for one in row] for row in judged]))
        figures["generated"] = {"pairs": float(np.nanmean(right)), "spearman": float(np.nanmean(spearman))}
    record(work, "aesthetic", figures)
    return figures


def write_card(work: Path, folder: Path, figures: dict[str, Any]) -> None:
    """Writes README.md from the measured figures."""
    count, size = card.weights_in(folder)
    oracle = figures["oracle"]
    generated = ""
    if "generated" in figures:
        found = figures["generated"]
        generated = f"""
On pictures that `noisewright/shapes` makes for the test prompts, among those for one prompt:
{100 * found["pairs"]:.1f} % of the pairs in the oracle's order (chance is 50), Spearman {found["spearman"]:.2f}.
"""
    text = f"""
# noisewright/shapes-aesthetic

A head of {count:,} weights ({size / 1e3:.0f} kB) on the image vector of `noisewright/shapes-clip`, at length 1.
It rates a 64x64 scene from 1 (spoilt) to 10 (clean) and ignores the prompt. It is of the kind of the LAION aesthetic
predictor: {"-".join(map(str, SIZES))}, but with ReLU between its layers.

Trained on {PICTURES:,} scenes of prompts outside the dev and test sets, with blur, noise, clutter and colours off the
palette in known amounts; the rating is 10 less nine times their sum. {100 * RECONSTRUCTED:.0f} % of the pictures
were seen through the autoencoder. {card._training(work, "aesthetic")}, on one CPU thread, the embeddings apart:
`python training/shapes/aesthetic.py`. Licence: Apache-2.0. It has seen no picture made by the diffusion model and no
judgement of the oracle.

## Figures

On {HELD_OUT_EACH * 200} scenes of the test prompts the mean error is {figures["error"]:.2f} points and Spearman's
correlation with the true rating {figures["spearman"]:.3f}. Pairs of pictures in the right order, in %, with all
kinds of damage mixed and with each alone:

{card.table(figures["pairs"])}

Agreement with the oracle's grade on the same pictures, all kinds mixed, over all prompts:
{100 * oracle["pairs"]:.1f} % of the pairs, Spearman {oracle["spearman"]:.2f}.
The oracle asks whether the scene is the prompt's; damage is in its way only where it hides that.
{generated}
## Limits

A high rating says nothing about the prompt. Whoever searches with it alone gets clean pictures of anything; what that
costs, `shapes-oracle` tells as a judge. It has learnt four kinds of damage, and knows no other.
"""
    (folder / "README.md").write_text(card.HEADER.format(library="noisewright") + text, encoding="utf-8")


def main() -> None:
    """Reads the command line, trains, writes and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/training"))
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--out", type=Path, help="by default MODELS/shapes-aesthetic")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--generated", type=int, default=0, help="measure on so many generated pictures a prompt, too")
    options = parser.parse_args()
    work, models, folder = options.work, options.models, options.out or options.models / "shapes-aesthetic"
    work.mkdir(parents=True, exist_ok=True)
    model = CLIPModel.from_pretrained(models / "shapes-clip", dtype=torch.float32).eval()
    vae = AutoencoderKL.from_pretrained(models / "shapes" / "vae", torch_dtype=torch.float32)
    head = fit(work, model, vae, options.steps)
    save(head, folder)
    card.note_training(work, "aesthetic", BATCH_SIZE)
    figures = measure(work, models, model, head, vae, options.generated)
    write_card(work, folder, figures)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
