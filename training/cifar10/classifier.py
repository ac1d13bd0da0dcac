"""The two classifiers of the class-conditional benchmark, differently made.

``cifar10-classifier`` (a ResNet on pictures at twice their size) gives the features of IS, FID and their kin;
``cifar10-judge`` (a RegNet with squeeze and excitation, at their own size, other augmentations) verifies and judges. It
is distilled from a wider one, which is not bundled: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import loop
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_SIZE = 128
EPOCHS = 14
RATE = 0.12
WEIGHT_DECAY = 5e-4
SMOOTHING = 0.1
DISTILLED_STEPS, DISTILLED_RATE = 2000, 0.05
TEMPERATURE = 2.0
LABELS = 0.1  # the share of the labels in the loss of a distillation
SHIFT = 4
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


@dataclass(frozen=True)
class Kind:
    """How one of the two is made.

    Attributes:
        side: of the pictures that it reads.
        seed: of weights, batches and augmentations.
        hole: side of a square that is cut out of each picture (0: none).
        jitter: the largest change of brightness and contrast.
    """

    side: int
    seed: int
    hole: int = 0
    jitter: float = 0.0


JUDGE, WIDE = "cifar10-judge", "cifar10-judge-wide"
KINDS = {
    "cifar10-classifier": Kind(2 * data.SIDE, 11), WIDE: Kind(data.SIDE, 23, hole=8, jitter=0.3),
    JUDGE: Kind(data.SIDE, 24, hole=8, jitter=0.3),
}  # fmt: skip
SHAPES = {WIDE: ([64, 128, 256], [2, 3, 2]), JUDGE: ([64, 128, 128], [2, 2, 1])}
"""Widths and depths of the stages of the RegNets; what both have in the same place the judge begins with."""


def build(name: str) -> nn.Module:
    """A classifier with fresh weights, at most 1.45 million of them."""
    from transformers import (
        RegNetConfig,
        RegNetForImageClassification,
        ResNetConfig,
        ResNetForImageClassification,
    )

    torch.manual_seed(KINDS[name].seed)
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(data.NAMES)),
        "label2id": {label: n for n, label in enumerate(data.NAMES)},
    }
    if name == "cifar10-classifier":
        config = ResNetConfig(
            embedding_size=32, hidden_sizes=[64, 128, 224], depths=[2, 2, 1], layer_type="basic", **labels
        )
        return ResNetForImageClassification(config)
    widths, depths = SHAPES[name]
    config = RegNetConfig(
        embedding_size=32, hidden_sizes=widths, depths=depths, groups_width=64, layer_type="y",
        downsample_in_first_stage=False, **labels,
    )  # fmt: skip
    return RegNetForImageClassification(config)


def inherit(model: nn.Module, teacher: nn.Module) -> int:
    """Gives a model the weights of another one where names and shapes are the same; returns how many those are."""
    held = model.state_dict()
    same = {key: one for key, one in teacher.state_dict().items() if key in held and held[key].shape == one.shape}
    model.load_state_dict({**held, **same})
    return sum(one.numel() for one in same.values())


def distilled(logits: Tensor, wanted: Tensor) -> Tensor:
    """How far softened probabilities are from a teacher's: logits (batch, classes) each."""
    goal = (wanted / TEMPERATURE).softmax(1)
    return TEMPERATURE**2 * F.kl_div((logits / TEMPERATURE).log_softmax(1), goal, reduction="batchmean")


def processor(name: str) -> Any:
    """The image processor that is saved beside the weights."""
    from transformers import ViTImageProcessorPil

    side = KINDS[name].side
    return ViTImageProcessorPil(
        size={"height": side, "width": side}, do_resize=side != data.SIDE, resample=Image.Resampling.BILINEAR,
        image_mean=list(MEAN), image_std=list(DEVIATION),
    )  # fmt: skip


def prepared(images: Tensor, side: int) -> Tensor:
    """(batch, 3, 32, 32) in [0, 1] as the processor prepares them, but for its roundings to 8 bits."""
    if side != images.shape[-1]:
        images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)


def augmented(images: Tensor, kind: Kind) -> Tensor:
    """Flips, shifts by up to 4 pixels, and what else the kind asks for; (batch, 3, 32, 32) in [0, 1]."""
    count, _, height, width = images.shape
    padded = F.pad(data.flipped(images), (SHIFT,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count, 1, 1, 1))
    rows = (torch.arange(height).view(1, 1, -1, 1) + down).expand(count, 3, height, width + 2 * SHIFT)
    columns = (torch.arange(width).view(1, 1, 1, -1) + right).expand(count, 3, height, width)
    images = padded.gather(2, rows).gather(3, columns)
    if kind.jitter:
        contrast, brightness = 1 + kind.jitter * (2 * torch.rand(2, count, 1, 1, 1) - 1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = ((images - mean) * contrast + mean * brightness).clamp(0, 1)
    if kind.hole:
        top, left = torch.randint(0, height - kind.hole + 1, (2, count, 1, 1))
        row, column = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
        inside = (row >= top) & (row < top + kind.hole) & (column >= left) & (column < left + kind.hole)
        images = images.masked_fill(inside.unsqueeze(1), 0.5)
    return images


def fit(
    name: str, pictures: np.ndarray, labels: np.ndarray, work: Path, device: str = "cpu", steps: int | None = None,
    minutes: float | None = None, teacher: nn.Module | None = None,
) -> tuple[nn.Module, bool]:  # fmt: skip
    """Trains one of them by SGD with a triangular rate; returns the averaged weights and whether it is done.

    With a ``teacher`` it begins with what weights they share, and learns its logits of the same augmented pictures more
    than the labels.
    """
    kind, layout = KINDS[name], {"memory_format": torch.channels_last}
    model = build(name)
    size = min(BATCH_SIZE, len(pictures))
    rate, steps = RATE, steps or EPOCHS * (len(pictures) // size)
    if teacher is not None:
        rate, teacher = DISTILLED_RATE, teacher.to(device, **layout).eval().requires_grad_(False)
        inherit(model, teacher)
    model = model.to(device, **layout)
    every = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": every[0], "weight_decay": WEIGHT_DECAY}, {"params": every[1], "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)

    def loss_of(picks: np.ndarray) -> tuple[Tensor, dict[str, float]]:
        images = prepared(augmented(data.batch_of(pictures, picks), kind), kind.side).to(device)
        truth = torch.from_numpy(labels[picks]).to(device)
        with loop.autocast(device):
            logits = model(images).logits.float()
            wanted = None if teacher is None else teacher(images).logits.float()
        loss = F.cross_entropy(logits, truth, label_smoothing=SMOOTHING)
        if wanted is not None:
            loss = LABELS * loss + (1 - LABELS) * distilled(logits, wanted)
        return loss, {"loss": float(loss.detach()), "right": float((logits.argmax(1) == truth).float().mean())}

    averages, done = loop.train(
        model, loss_of, optimisers=[optimiser], factor=lambda step: loop.triangle(step, steps, max(1, steps // 5)),
        count=len(pictures), batch_size=size, steps=steps, checkpoint=work / f"{name}.pt", seed=kind.seed,
        half_lives=[60 * size], minutes=minutes, clip=5.0, log_every=100,
    )  # fmt: skip
    return averages.models[0], done


def save(model: nn.Module, name: str, folder: Path) -> None:
    """Writes the weights in float16 (loaded in float32) with the image processor."""
    import json

    model.half().save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    processor(name).save_pretrained(folder)


@torch.inference_mode()
def outputs(folder: Path, pictures: np.ndarray, batch: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, dimension) and logits (count, 10) of 8-bit pictures, by the saved model and processor."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    prepare = AutoImageProcessor.from_pretrained(folder, backend="pil")
    features, logits = [], []
    for start in range(0, len(pictures), batch):
        images = [Image.fromarray(one) for one in pictures[start : start + batch]]
        found = model.base_model(prepare(images, return_tensors="pt")["pixel_values"]).pooler_output.flatten(1)
        features.append(found.numpy())
        logits.append(model.classifier(found).numpy())
    return np.concatenate(features), np.concatenate(logits)


def measure(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, and its parts by class, on held-out pictures."""
    _, logits = outputs(folder, pictures)
    logs = torch.from_numpy(logits).log_softmax(1)
    right = logits.argmax(1) == labels
    return {
        "accuracy": float(right.mean()),
        "log_loss": float(-logs[torch.arange(len(labels)), torch.from_numpy(labels)].mean()),
        "images": len(labels),
        "classes": {name: float(right[labels == n].mean()) for n, name in enumerate(data.NAMES) if (labels == n).any()},
    }
