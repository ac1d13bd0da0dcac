"""What the trainings of all models share: the order of the data, and checkpoints that are whole."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


def save_atomically(value: Any, path: Path) -> None:
    """``torch.save`` that leaves either the old file or the whole new one."""
    part = path.with_suffix(path.suffix + ".part")
    torch.save(value, part)
    os.replace(part, path)


def batches(count: int, size: int, seed: int, first_step: int) -> Iterator[np.ndarray]:
    """Endless index batches of shuffled epochs; the same sequence whatever step it is entered at."""
    per_epoch = count // size
    step = first_step
    while True:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for i in range(position, per_epoch):
            yield np.sort(order[i * size : (i + 1) * size])
            step += 1


def report(work: Path, name: str, found: dict[str, Any]) -> None:
    """Writes ``further-NAME.json``, what a training of bundled weights that goes on has come to so far."""
    path = work / f"further-{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def trained(checkpoint: Path, batch: int) -> dict[str, Any]:
    """What a training took, from its checkpoint."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    steps, seconds = int(state["step"]), float(state["seconds"])
    return {"steps": steps, "train_seconds": round(seconds, 2), "samples_a_second": round(steps * batch / seconds, 1)}


def keep(candidate: Path, folder: Path, better: bool) -> list[str]:
    """Puts the weights and configurations of ``candidate`` in the place of those in ``folder``, where they are better.

    Returns:
        The files that were replaced.
    """
    if not better:
        return []
    kept = []
    for file in sorted(candidate.rglob("*")):
        if file.suffix in (".safetensors", ".json") and file.is_file():
            place = folder / file.relative_to(candidate)
            if place.exists() and place.read_bytes() == file.read_bytes():
                continue
            part = place.with_name(place.name + ".part")
            shutil.copyfile(file, part)
            os.replace(part, place)
            kept.append(str(file.relative_to(candidate)))
    return kept
