"""Where the clean states of a measurement come from: image files, or the model's own samples."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noisewright.evaluate.folders import sidecar
from noisewright.evaluate.population import parquet_rows, population
from noisewright.images.reading import decode_image, read_image
from noisewright.outside.reading import read_text
from noisewright.samplers.protocol import Sampler

log = logging.getLogger("noisewright")

Example = tuple[str, Tensor]
"""A condition (a prompt, or the name of a class) and clean states under it, (batch, ...)."""

CONDITIONS = ("prompt", "caption", "text", "label")
"""Columns of a .parquet file that say what an image shows; beside a picture, a text file of its name does."""

READING = 2
"""Changes when the same files give other pixels, so that nothing is taken from what was measured before."""

WINDOW = 512
"""Images that are sorted by condition at a time, at most."""

WINDOW_BYTES = 2**28
"""Their pixels, at most: what bounds the memory, however many images there are."""


def from_files(
    paths: Sequence[Path],
    make: Callable[[str], Sampler],
    default: str | None,
    *,
    count: int,
    batch: int,
    skip: int = 0,
    recursive: bool = False,
) -> Iterator[Example]:
    """Encoded images of directories and .parquet files, grouped by condition.

    Args:
        paths: as ``noisewright evaluate`` takes them.
        make: the sampler of a condition; its VAE encodes, where it has one.
        default: the condition of images that come without one; None refuses them.
        count: images at most.
        batch: states at once at most.
        skip: images in whole batches, measured before, that need not be encoded again.
        recursive: read sub-directories too.

    Raises:
        ValueError: where there are no images, where one cannot be read, or on a latent layout that is packed.
    """
    files = population(paths, "all", recursive)
    resize = _Resizer()
    window: dict[str, list[np.ndarray]] = {}
    held = size = taken = passed = 0

    def emptied() -> Iterator[Example]:
        nonlocal passed
        for condition, arrays in window.items():
            for first in range(0, len(arrays), batch):
                some = arrays[first : first + batch]
                passed += len(some)
                if passed > skip:
                    sampler = make(condition)
                    yield condition, encode(sampler, resize(some, image_size(sampler)))

    for array, found in captioned(files):
        if taken == count:
            break
        condition = found if found is not None else default
        if condition is None:
            raise ValueError(
                "expected a prompt or class for each image (a .txt file of its name, a column prompt, caption, text or "
                f"label, or one --prompt for all), got image {taken + 1} without"
            )
        window.setdefault(condition, []).append(array)
        held, size, taken = held + 1, size + array.nbytes, taken + 1
        if held == WINDOW or size >= WINDOW_BYTES:
            yield from emptied()
            window, held, size = {}, 0, 0
    yield from emptied()
    if not taken:
        raise ValueError(f"expected images in {', '.join(map(str, paths))}, got none")


def own_samples(
    make: Callable[[str], Sampler],
    conditions: Sequence[str],
    *,
    count: int,
    batch: int,
    seed: int = 0,
    skip: int = 0,
) -> Iterator[Example]:
    """The model's own clean states, for conditions in turn and seeds from ``seed``; made when they are asked for.

    The first ``skip`` of them, whole batches that were measured before, are not made.
    """
    if not conditions:
        raise ValueError("expected at least one prompt for samples of the model's own, got none")
    shares = [count // len(conditions) + (n < count % len(conditions)) for n in range(len(conditions))]
    next_seed = seed
    for condition, share in zip(conditions, shares, strict=True):
        for first in range(0, share, batch):
            seeds = list(range(next_seed, next_seed + min(batch, share - first)))
            next_seed += len(seeds)
            if next_seed - seed > skip:
                sampler = make(condition)
                yield condition, sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps, seeds=seeds)[0]


def stamps(paths: Sequence[Path], recursive: bool = False) -> list[list[Any]]:
    """Names, sizes and times of the files of :func:`from_files`: what tells whether they are still the same."""
    images = population(paths, "all", recursive, quiet=True)
    notes = [note for note in map(sidecar, images) if note is not None]
    found = [(file, file.stat()) for file in [*images, *notes]]
    return [[READING], *([str(file.resolve()), about.st_size, about.st_mtime_ns] for file, about in found)]


def encode(sampler: Sampler, images: Tensor) -> Tensor:
    """Images (batch, 3, height, width) in [0, 1] as clean states: by the pipeline's VAE, or as pixels in [-1, 1].

    Raises:
        ValueError: where the result is not laid out as the sampler's states are (packed latents).
    """
    pipe: Any = getattr(sampler, "pipe", None)
    vae = getattr(pipe, "vae", None)
    x = images * 2 - 1
    if vae is not None:
        with torch.no_grad():
            found = vae.encode(x.to(vae.device, vae.dtype))
        x = (found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent).float().cpu()
        mean, deviation = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
        if mean is not None and deviation is not None:
            shape = (1, -1, *[1] * (x.ndim - 2))
            x = (x - torch.tensor(mean).view(shape)) / torch.tensor(deviation).view(shape)
        else:
            x = x - (getattr(vae.config, "shift_factor", None) or 0.0)
        x = x * float(getattr(vae.config, "scaling_factor", None) or 1.0)
    expected = sampler.noise([0]).shape[1:]
    if x.shape[1:] != expected:
        raise ValueError(
            f"expected encoded images of shape {tuple(expected)}, as {type(pipe).__name__} has its states, got "
            f"{tuple(x.shape[1:])}: measure with --images self"
        )
    return x


def image_size(sampler: Sampler) -> tuple[int, int]:
    """Height and width of what a sampler decodes to; remembered for as long as there is the sampler."""
    known = _sizes.get(sampler)
    if known is None:
        height, width = sampler.decode(torch.zeros_like(sampler.noise([0]))).shape[-2:]
        known = _sizes[sampler] = (height, width)
    return known


_sizes: WeakKeyDictionary[Sampler, tuple[int, int]] = WeakKeyDictionary()


class _Resizer:
    """Brings images to one size, and says once that it had to."""

    def __init__(self) -> None:
        self.warned = False

    def __call__(self, arrays: Iterable[np.ndarray], size: tuple[int, int]) -> Tensor:
        rows = []
        for array in arrays:
            if array.shape[:2] != size:
                if not self.warned:
                    log.warning(
                        "images are resized to %dx%d, the model's size; the first other one is %dx%d",
                        *size, *array.shape[:2],
                    )  # fmt: skip
                    self.warned = True
                array = np.asarray(Image.fromarray(array).resize(size[::-1], Image.Resampling.LANCZOS))
            rows.append(torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255)
        return torch.stack(rows)


def captioned(files: Sequence[Path]) -> Iterator[tuple[np.ndarray, str | None]]:
    """Pixels (height, width, 3) uint8 and what is said of them."""
    for file in files:
        if file.suffix == ".parquet":
            yield from _rows(file)
        else:
            note = sidecar(file)
            yield read_image(file)[0], read_text(note).strip() if note is not None else None


def _rows(file: Path) -> Iterator[tuple[np.ndarray, str | None]]:
    for number, (data, said) in enumerate(parquet_rows(file, CONDITIONS)):
        if not isinstance(data, bytes):
            raise ValueError(f"expected encoded images, got {type(data).__name__} in row {number} of {file}")
        yield decode_image(io.BytesIO(data), f"row {number} of {file}")[0], said
