"""What verifiers say of the images of pools: kept by the verifier's fingerprint, so new weights are asked anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _evidence.kept import Lacking, Pool
from _evidence.places import weights
from _evidence.plans import Block, PoolPlan
from _evidence.pools import images_of
from noisewright import registry
from noisewright.verifiers.classifier import Classifier
from noisewright.verifiers.features import FeatureNetwork

SHAPES_SCORERS = ("shapes-oracle", "shapes-clip", "shapes-reward", "shapes-aesthetic")
NETWORKS = {"classifier": "noisewright/cifar10-classifier", "judge": "noisewright/cifar10-judge"}
DEVICE = "device.json"
"""Beside the pools: where their images were last made, if not on a CPU."""

READINGS = ("logit", "probability", "right", "similarity")
"""What each of the networks gives of an image: of the class asked for, and the cosine with its preview's features."""


def scorers_of(plan: PoolPlan) -> tuple[str, ...]:
    """The scorers of a pool."""
    return tuple(NETWORKS) if plan.set == "classes" else SHAPES_SCORERS


def columns_of(plan: PoolPlan) -> tuple[str, ...]:
    """What its scores are called."""
    if plan.set != "classes":
        return SHAPES_SCORERS
    readings = READINGS if plan.level is not None else READINGS[:3]
    return tuple(f"{network} {reading}" for network in NETWORKS for reading in readings)


@cache
def verifier(name: str) -> Any:
    return registry.make_verifier(name)


@cache
def networks(name: str) -> tuple[FeatureNetwork, Classifier]:
    place = registry.find_model(NETWORKS[name])
    return FeatureNetwork(place), Classifier(place)


@cache
def fingerprint(name: str) -> str:
    """Of a scorer: its weights."""
    return weights(NETWORKS.get(name, name)) or str(verifier(name).fingerprint)


def file_of(block: Block, scorer: str, root: Path) -> Path:
    """Where a scorer's numbers of a block are."""
    images = block.file(root)
    place = root / "scores" / images.parent.parent.name / images.parent.name
    return place / f"{block.prompt.number:04}-{len(block.seeds)}-{scorer}-{fingerprint(scorer)}.npy"


def score(block: Block, root: Path) -> None:
    """Ask the scorers that have not been asked about a block's images, which are there."""
    lacking = [name for name in scorers_of(block.plan) if not file_of(block, name, root).exists()]
    if not lacking:
        return
    images = images_of(block.file(root))[: len(block.seeds)]
    for name in lacking:
        if block.plan.set == "classes":
            found = _read(name, block, images, root)
        else:
            found = np.asarray(verifier(name)(images, block.prompt.text), dtype=np.float64)[:, None]
        file = file_of(block, name, root)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{os.getpid()}.{file.name}")
        np.save(temporary, found)
        temporary.replace(file)


def _read(name: str, block: Block, images: torch.Tensor, root: Path) -> np.ndarray:
    """(n, readings): what a network sees of the class."""
    network, logits = networks(name)
    label = (block.prompt.number - 1) % 10
    found = network(images)
    columns = [
        np.asarray(logits(images, block.prompt.text)), found.probabilities[:, label].double().numpy(),
        (found.probabilities.argmax(1) == label).double().numpy(),
    ]  # fmt: skip
    if block.plan.level is not None:
        previews = network(images_of(block.file(root), "previews")[: len(images)])
        columns.append(torch.cosine_similarity(found.features, previews.features, dim=1).double().numpy())
    return np.stack([np.asarray(one, dtype=np.float64) for one in columns], 1)


def gathered(plan: PoolPlan, root: Path) -> Pool:
    """The pool of what is scored: as many candidates, in whole blocks, as all its prompts have.

    Where the first block is not there of all prompts, those that have it.

    Raises:
        Lacking: where there is nothing.
    """
    by_first: dict[int, list[Block]] = {}
    for block in plan.blocks():
        if all(file_of(block, name, root).exists() for name in scorers_of(plan)):
            by_first.setdefault(block.first, []).append(block)
    if not by_first.get(0):
        raise Lacking(f"scores of {plan.name}")
    numbers = sorted(block.prompt.number for block in by_first[0])
    parts = []
    for first in sorted(by_first):
        known = {block.prompt.number: block for block in by_first[first]}
        if not set(numbers) <= set(known):
            break
        parts.append(np.stack([_scores(known[number], root) for number in numbers]))
    return Pool(columns_of(plan), np.array(numbers), np.concatenate(parts, 1), _about(plan, root))


def _scores(block: Block, root: Path) -> np.ndarray:
    return np.concatenate([np.load(file_of(block, name, root)) for name in scorers_of(block.plan)], 1)


def _about(plan: PoolPlan, root: Path) -> dict[str, Any]:
    device = root / DEVICE
    known = json.loads(device.read_text()) if device.exists() else {"device": "CPU", "torch": torch.__version__}
    names: Iterable[str] = [plan.model, *(NETWORKS.get(name, name) for name in scorers_of(plan))]
    return {
        "model": plan.model, "set": plan.set, "steps": plan.steps, "guidance": plan.guidance, "dtype": plan.dtype,
        **known, "weights": {name: found for name in names if (found := weights(name))},
    }  # fmt: skip
