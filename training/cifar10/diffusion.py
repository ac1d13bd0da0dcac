"""``noisewright/cifar10``: a class-conditional flow-matching transformer on the pixels, and its training."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import loop
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor, nn

from noisewright.pipelines.class_flow import ClassConditionalFlowPipeline, ClassFlowTransformer, preconditioning

BATCH_SIZE = 128
STEPS = 8000
WARM_UP = 150
RATES = {"muon": 1e-3, "adamw": 6e-4}
SEED = 5
HALF_LIVES = (20_000, 100_000)
DROPPED = 0.1
TIME_MEAN, TIME_DEVIATION = -0.8, 1.2
GRID_COLUMNS = 6

MANIFEST = {
    "name": "noisewright/cifar10",
    "version": 1,
    "default": {"num_inference_steps": 25, "guidance_scale": 1.5},
    "labels": list(data.NAMES),
    "licence": "Apache-2.0",
    "verifier": "classifier:noisewright/cifar10-judge",
    "judge": ["classifier:noisewright/cifar10-judge", "inception-score"],
}


def build() -> ClassFlowTransformer:
    """The network with fresh weights."""
    torch.manual_seed(SEED)
    return ClassFlowTransformer()


def pipeline(model: ClassFlowTransformer) -> ClassConditionalFlowPipeline:
    """The pipeline around it."""
    names = {str(n): name for n, name in enumerate(data.NAMES)}
    pipe = ClassConditionalFlowPipeline(model, FlowMatchEulerDiscreteScheduler(), names)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def optimisers(model: nn.Module, kind: str) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon (Jordan et al. 2024) for the matrices of the blocks and AdamW for the rest.

    Muon's steps are scaled to AdamW's usual size (Liu et al. 2025), so that one rate serves both.
    """
    rate = RATES[kind]
    matrices = [p for name, p in model.named_parameters() if "blocks." in name and name.endswith(".weight")]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adamw = {"lr": rate, "betas": (0.9, 0.99), "fused": True}
    if kind == "adamw":
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, **adamw)]
    return [
        torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, weight_decay=0.0, **adamw),
    ]


def loss_on(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor], deviation: float, x: Tensor, labels: Tensor, device: str
) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error of F, with every time weighted alike.

    Since F's target has unit variance at every t, this is the velocity loss of flow matching over ``out(t)^2``, and
    EDM's weighting; t is logit-normal (Esser et al. 2024; EDM's lognormal noise level on the linear path).

    Args:
        predict: of (scaled images, t, classes) to F.
        deviation: of the data, as the model has it.
        x: data in [-1, 1], (batch, 3, 32, 32).
        labels: (batch,), some of them the null class.
        device: where to.
    """
    t = torch.sigmoid(TIME_MEAN + TIME_DEVIATION * torch.randn(len(x), device=device))
    noise = torch.randn_like(x)
    enter, skip, out = (one.view(-1, 1, 1, 1) for one in preconditioning(t, deviation))
    wide = t.view(-1, 1, 1, 1)
    noisy = (1 - wide) * x + wide * noise
    with loop.autocast(device):
        found = predict(enter * noisy, t, labels)
    errors = (found.float() - (noise - x - skip * noisy) / out).square().mean(dim=(1, 2, 3))
    loss = errors.mean()
    detached = errors.detach()
    late = t < 0.3
    parts = {"clear": detached[late], "noisy": detached[~late]}
    figures = {name: float(part.mean()) for name, part in parts.items() if len(part)}
    return loss, {"loss": float(loss.detach()), **figures}


def fit(
    pictures: np.ndarray, labels: np.ndarray, work: Path, options: argparse.Namespace,
    start: ClassFlowTransformer | None = None, further: dict[str, Any] | None = None,
) -> tuple[loop.Averages, bool]:
    """Trains; returns the averages of the weights and whether all steps were taken.

    Args:
        pictures: (count, 32, 32, 3) uint8.
        labels: (count,).
        work: where ``diffusion.pt`` and ``samples/`` are.
        options: device, steps, minutes, batch, optimiser and compile of the command line.
        start: the network to go on from, in place of fresh weights.
        further: arguments of the loop in place of the usual ones.
    """
    device = options.device
    model = (build() if start is None else start).to(device)
    predict = torch.compile(model.predict) if options.compile else model.predict
    size = min(options.batch or BATCH_SIZE, len(pictures))
    steps = options.steps or STEPS

    def loss_of(picks: np.ndarray) -> tuple[Tensor, dict[str, float]]:
        x = (2 * data.flipped(data.batch_of(pictures, picks)) - 1).to(device)
        classes = torch.from_numpy(labels[picks])
        classes = classes.masked_fill(torch.rand(len(classes)) < DROPPED, len(data.NAMES)).to(device)
        return loss_on(predict, model.config.deviation, x, classes, device)

    def look(step: int, averages: loop.Averages) -> None:
        write_grids(averages.models[0], work / "samples" / f"{step:06d}")

    usual = {"factor": lambda step: loop.plateau(step, steps, WARM_UP), "checkpoint": work / "diffusion.pt"}
    return loop.train(
        model, loss_of, optimisers=optimisers(model, options.optimiser), count=len(pictures), batch_size=size,
        steps=steps, seed=SEED, half_lives=HALF_LIVES, minutes=options.minutes, now_and_then=look,
        every=options.grid_every, **{**usual, **(further or {})},
    )  # fmt: skip


def write_grids(model: ClassFlowTransformer, folder: Path) -> None:
    """One PNG a class: a row of pictures of seeds 0, 1, ..., the same at every visit."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = pipeline(model)
    for number, name in enumerate(data.NAMES):
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(GRID_COLUMNS)]
        images = pipe([number] * GRID_COLUMNS, num_inference_steps=16, generator=generators, output_type="np").images
        row = np.concatenate(list((images * 255).round().astype(np.uint8)), axis=1)
        Image.fromarray(row).resize((2 * row.shape[1], 2 * row.shape[0]), Image.Resampling.NEAREST).save(
            folder / f"{name}.png"
        )


def save(model: ClassFlowTransformer, folder: Path) -> None:
    """Writes the pipeline in float16 with its defaults."""
    pipe = pipeline(model)
    pipe.transformer.half()
    pipe.save_pretrained(folder)
    for path in folder.rglob("*.json"):  # where it was loaded from is nobody's business
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "noisewright.json").write_text(json.dumps(MANIFEST, indent=2) + "\n", encoding="utf-8")
