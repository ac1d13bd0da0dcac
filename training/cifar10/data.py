"""CIFAR-10 (Krizhevsky 2009) as arrays: read once from parquet files, then from a cache in the work directory."""

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENVIRONMENT = "NOISEWRIGHT_CIFAR10"
SIDE = 32


def load(split: str, work: Path, source: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The pictures (count, 32, 32, 3) uint8 and labels (count,) int64 of ``train`` or ``test``.

    Args:
        split: ``train`` or ``test``.
        work: where ``cifar10-SPLIT.npz`` is kept once it was decoded.
        source: a directory with ``SPLIT*.parquet`` (columns ``img`` or ``image`` with ``bytes``, and ``label``), needed
            the first time; by default what the environment variable ``NOISEWRIGHT_CIFAR10`` names.

    Raises:
        ValueError: where there is neither a cache nor such files.
    """
    cache = work / f"cifar10-{split}.npz"
    if not cache.exists():
        source = source or Path(os.environ.get(ENVIRONMENT, "."))
        files = sorted(source.rglob(f"{split}*.parquet"))
        if not files:
            raise ValueError(f"expected {split}*.parquet in {source}: name its directory by --data or {ENVIRONMENT}")
        pictures, labels = _decode(files)
        work.mkdir(parents=True, exist_ok=True)
        part = cache.with_name("part-" + cache.name)
        np.savez(part, pictures=pictures, labels=labels)
        os.replace(part, cache)
    with np.load(cache) as held:
        return held["pictures"], held["labels"]


def _decode(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("reading parquet files needs pyarrow: pip install pyarrow") from None
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for file in files:
        table = parquet.read_table(file)
        column = table.column("img" if "img" in table.column_names else "image")
        for one in column.to_pylist():
            with Image.open(io.BytesIO(one["bytes"])) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        labels += table.column("label").to_pylist()
    return np.stack(pictures), np.asarray(labels, dtype=np.int64)


def batch_of(pictures: np.ndarray, picks: np.ndarray) -> Tensor:
    """The picked pictures, (batch, 3, 32, 32) float32 in [0, 1]."""
    return torch.from_numpy(pictures[picks]).permute(0, 3, 1, 2).float() / 255


def flipped(images: Tensor) -> Tensor:
    """Each image mirrored from left to right with probability one half."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
