"""Trains the class-conditional benchmark from nothing, and writes its models with their cards.

    python training/cifar10/train.py all --data DIR --work runs/cifar10
    python training/cifar10/evaluate.py --work runs/cifar10
    python training/cifar10/train.py card --work runs/cifar10

DIR holds CIFAR-10 as train*.parquet and test*.parquet. Each stage goes on from its checkpoint in ``--work``, step for
step as if it had never been stopped; a finished stage only writes its files again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import classifier
import data
import numpy as np
import torch
from torch import nn

MODELS = Path(__file__).parents[2] / "src" / "noisewright" / "models"
STAGES = ("classifier", "judge", "statistics", "diffusion")


def note(work: Path, name: str, figures: dict[str, Any]) -> None:
    """Keeps measured figures for the cards."""
    path = work / "figures.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    held[name] = {**held.get(name, {}), **figures}
    path.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


def training_of(checkpoint: Path, device: str) -> dict[str, Any]:
    """What a training took."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {
        "steps": state["step"], "batch": state["batch"], "seconds": state["seconds"], "where": where,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def teacher_of(options: argparse.Namespace, pictures: np.ndarray, labels: np.ndarray) -> Path | None:
    """Where the network lies that the judge is distilled from: what was given, or one trained here; None: not done."""
    if options.teacher is not None:
        return options.teacher
    found, done = classifier.fit(
        classifier.WIDE, pictures, labels, options.work, options.device, options.steps, options.minutes
    )
    classifier.save(found.cpu(), classifier.WIDE, options.work / classifier.WIDE)
    return options.work / classifier.WIDE if done else None


def train_judge(options: argparse.Namespace) -> None:
    """The judge, distilled from a wider network, and both measured on the test pictures."""
    from transformers import AutoModelForImageClassification

    work = options.work
    place = teacher_of(options, *data.load("train", work, options.data))
    if place is None:
        print(f"{classifier.JUDGE}: the network that it is distilled from is not done yet", flush=True)
        return
    teacher = AutoModelForImageClassification.from_pretrained(place, dtype=torch.float32)
    wide = {
        "accuracy": classifier.measure(place, *data.load("test", work, options.data))["accuracy"],
        "weights": sum(one.numel() for one in teacher.parameters()),
    }
    note(work, classifier.JUDGE, {"teacher": wide})
    train_classifier(classifier.JUDGE, options, options.distilled_steps, teacher)


def train_classifier(
    name: str, options: argparse.Namespace, steps: int | None, teacher: nn.Module | None = None
) -> None:  # fmt: skip
    """One of the two classifiers, measured on the test pictures."""
    work = options.work
    pictures, labels = data.load("train", work, options.data)
    model, done = classifier.fit(name, pictures, labels, work, options.device, steps, options.minutes, teacher)
    folder = options.models / name
    classifier.save(model.cpu(), name, folder)
    held_out = classifier.measure(folder, *data.load("test", work, options.data))
    note(work, name, {**training_of(work / f"{name}.pt", options.device), "done": done, **held_out})
    print(f"{name}: {held_out['accuracy']:.2%} of the test pictures{'' if done else ', not done yet'}", flush=True)


def train_diffusion(options: argparse.Namespace) -> None:
    """The pipeline."""
    import diffusion

    work = options.work
    pictures, labels = data.load("train", work, options.data)
    averages, done = diffusion.fit(pictures, labels, work, options)
    diffusion.save(averages.models[options.average].cpu(), options.models / "cifar10")
    figures = {"done": done, "half_life": diffusion.HALF_LIVES[options.average], "optimiser": options.optimiser}
    note(work, "cifar10", {**training_of(work / "diffusion.pt", options.device), **figures})


def main() -> None:
    """Reads the command line and runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["all", *STAGES, "card"])
    parser.add_argument("--data", type=Path, help=f"directory of the parquet files; by default ${data.ENVIRONMENT}")
    parser.add_argument("--work", type=Path, default=Path("runs/cifar10"), help="checkpoints, samples and figures")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the models are written")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--steps", type=int, help="optimiser steps in all; the rates' schedule follows")
    parser.add_argument("--teacher", type=Path, help="judge: a saved network to distil it from, and none is trained")
    parser.add_argument("--distilled-steps", type=int, default=classifier.DISTILLED_STEPS, help="judge: of that")
    parser.add_argument("--minutes", type=float, help="of each stage in this run; go on by the same command")
    parser.add_argument("--batch", type=int, help="diffusion: samples a step")
    parser.add_argument("--optimiser", choices=["muon", "adamw"], default="muon", help="diffusion")
    parser.add_argument("--compile", action="store_true", help="diffusion: torch.compile, which needs a C++ compiler")
    parser.add_argument("--grid-every", type=int, default=500, help="diffusion: steps between sample grids (0: none)")
    parser.add_argument("--average", type=int, default=0, help="diffusion: which half-life's average is written")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")
    stages = STAGES if options.stage == "all" else (options.stage,)
    if "classifier" in stages:
        train_classifier("cifar10-classifier", options, options.steps)
    if "judge" in stages:
        train_judge(options)
    if "statistics" in stages:
        import reference

        pictures, _ = data.load("train", options.work, options.data)
        found = reference.write(options.models / "cifar10-classifier", pictures)
        note(options.work, "reference", {"images": found.count, "features": len(found.mean)})
    if "diffusion" in stages:
        train_diffusion(options)
    if "card" in stages:
        import card

        card.write(options.work, options.models)


if __name__ == "__main__":
    main()
