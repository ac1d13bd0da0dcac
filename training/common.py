"""What the trainings of all models share: the order of the data, and checkpoints that are whole."""

import os
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
