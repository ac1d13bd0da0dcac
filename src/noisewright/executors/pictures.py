"""Images as the files that are kept: encoded at once where they are large, since that takes longer than a step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import Tensor

from noisewright.images.metadata import encode_png, pixel_hash, pixels_of

LARGE = 256 * 256
"""Pixels from which on an image is encoded beside others: a thread costs as much as a smaller one."""


def encoded(images: Tensor, recipes: Sequence[Mapping[str, Any]]) -> tuple[list[bytes], list[str]]:
    """PNGs with their recipes, and the hashes of their pixels.

    Args:
        images: (batch, 3, height, width) in [0, 1].
        recipes: one an image; the hash of the pixels is added to each.
    """
    arrays = list(pixels_of(images))

    def encode(array: np.ndarray, recipe: Mapping[str, Any]) -> tuple[bytes, str]:
        pixels = pixel_hash(array)
        return encode_png(array, {**recipe, "pixels": pixels}), pixels

    pairs = zip(arrays, recipes, strict=True)
    workers = min(len(arrays), os.cpu_count() or 1)
    if workers < 2 or images.shape[-1] * images.shape[-2] < LARGE:
        made = [encode(*pair) for pair in pairs]
    else:
        with ThreadPoolExecutor(workers, "noisewright-png") as pool:  # Pillow lets other threads work meanwhile
            made = list(pool.map(lambda pair: encode(*pair), pairs))
    return [png for png, _ in made], [pixels for _, pixels in made]
