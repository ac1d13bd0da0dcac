"""What reward models do to an image before they look at it: exactly, on 8-bit pixels, and with a gradient.

Two preprocessings, of which each has two paths:

- :class:`CentreCrop`: short side to a size, centre crop, normalise (CLIP, PickScore, the aesthetic head);
- :class:`Letterbox`: long side to a size, black borders, normalise (HPS).

The exact path is what the papers' numbers were made with, and what a table must hold. The gradient path stays on
tensors. How far apart they are is stated at each class and held by tests; their scores are never ranked together.

Transparent images: noisewright reads files as RGB, and so drops the alpha channel before anything else, as
transformers does.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from noisewright.images.metadata import pixels_of
from noisewright.verifiers.weights import loading

log = logging.getLogger("noisewright")

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP (Radford et al. 2021), which everything built on it keeps."""

BATCH = 32
"""Images that a verifier's network sees at once, whatever it is given, so that memory does not grow with the pool."""

Rounding = Literal["torchvision", "transformers"]


@dataclass(frozen=True)
class CentreCrop:
    """Resize with PIL's bicubic filter, cut the centre out, normalise.

    The gradient path resizes with ``F.interpolate(mode="bicubic", antialias=True)``: the same filter, but PIL rounds
    and clips to 8 bits after each of its two passes. On resized pictures like photographs the two differ by up to 0.012
    of the range [0, 1], on average by 0.0013 (0.045 and 0.005 in CLIP's normalised units); on black and white noise by
    up to 0.12. Where nothing is resized they are the same but for the rounding to 8 bits.

    Attributes:
        size: the short side in pixels, or (height, width) to which everything is squashed.
        crop: (height, width) cut out of the middle, or None.
        mean: of the three channels, in [0, 1].
        deviation: likewise.
        rounding: where the middle is when an odd number of pixels goes: torchvision rounds half to even (open_clip,
            OpenAI's code), transformers rounds down (PickScore). One pixel apart for every other odd remainder.
        resample: PIL's number of a filter; the gradient path is there for 3 (bicubic) and 2 (bilinear).
    """

    size: int | tuple[int, int]
    crop: tuple[int, int] | None
    mean: tuple[float, ...] = OPENAI_MEAN
    deviation: tuple[float, ...] = OPENAI_DEVIATION
    rounding: Rounding = "torchvision"
    resample: int = 3

    def __post_init__(self) -> None:
        smallest = (self.size, self.size) if isinstance(self.size, int) else self.size
        if self.crop is not None and (self.crop[0] > smallest[0] or self.crop[1] > smallest[1]):
            raise ValueError(f"expected a crop of at most the resized {smallest}, got {self.crop}")

    def exact(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) in [0, 1] to (batch, 3, size, size), normalised float32 on the CPU."""
        return torch.stack([self._one(Image.fromarray(array)) for array in pixels_of(images)])

    def _one(self, image: Image.Image) -> Tensor:
        height, width = self._resized(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), resample=Image.Resampling(self.resample))
        top, left, bottom, right = self._box(height, width)
        pixels = np.asarray(image)[top:bottom, left:right]
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        return _normalised(tensor, self.mean, self.deviation)

    def with_graph(self, images: Tensor) -> Tensor:
        """As :meth:`exact`, to the tolerance stated above, with the graph back to ``images``."""
        height, width = self._resized(*images.shape[-2:])
        if (height, width) != tuple(images.shape[-2:]):
            images = _interpolated(images, (height, width), self.resample).clamp(0, 1)
        top, left, bottom, right = self._box(height, width)
        return _normalised(images[..., top:bottom, left:right], self.mean, self.deviation)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        if height <= width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of what stays."""
        if self.crop is None:
            return 0, 0, height, width
        spare = (height - self.crop[0], width - self.crop[1])
        top, left = (round(one / 2) if self.rounding == "torchvision" else one // 2 for one in spare)
        return top, left, top + self.crop[0], left + self.crop[1]


@dataclass(frozen=True)
class Letterbox:
    """HPS's own: the long side to ``size`` in float (bicubic, antialiased), black borders, then normalise; no crop.

    Images whose long side is ``size`` already are padded too; the official code forgets to, and can then not read what
    is no square. Overshoot of the filter beyond [0, 1] is kept, as there. The gradient path is the same but for the
    rounding to 8 bits before it: at most half of 1/255 in [0, 1] apart where nothing is resized.
    """

    size: int
    mean: tuple[float, ...] = OPENAI_MEAN
    deviation: tuple[float, ...] = OPENAI_DEVIATION

    def exact(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) in [0, 1] to (batch, 3, size, size), normalised float32 on the CPU."""
        pixels = torch.from_numpy(pixels_of(images)).permute(0, 3, 1, 2).float() / 255
        return self.with_graph(pixels)

    def with_graph(self, images: Tensor) -> Tensor:
        """As :meth:`exact` of images that are not rounded to 8 bits, with the graph back to them."""
        scale = self.size / max(images.shape[-2:])
        height, width = (max(1, round(side * scale)) for side in images.shape[-2:])
        if scale != 1:
            images = _interpolated(images, (height, width), resample=3)
        across, down = self.size - width, self.size - height
        border = (across // 2, across - across // 2, down // 2, down - down // 2)
        return _normalised(F.pad(images, border), self.mean, self.deviation)


Preprocess = CentreCrop | Letterbox


def _normalised(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    return (images - images.new_tensor(mean).view(3, 1, 1)) / images.new_tensor(deviation).view(3, 1, 1)


def _interpolated(images: Tensor, shape: tuple[int, int], resample: int) -> Tensor:
    if resample not in (2, 3):
        raise ValueError(f"expected bilinear (2) or bicubic (3) resizing for a gradient, got PIL's filter {resample}")
    mode = "bicubic" if resample == 3 else "bilinear"
    return F.interpolate(images, size=shape, mode=mode, antialias=True)


def centre_crop_of(folder: Path, rounding: Rounding) -> CentreCrop:
    """What a directory's ``preprocessor_config.json`` says.

    Raises:
        ValueError: where it cannot be read, or asks for something else.
    """
    processor = image_processor(folder)
    size = getattr(processor, "size", None) or {}
    short = size.get("shortest_edge")
    if not short and not (size.get("height") and size.get("width")):
        raise ValueError(f"expected a preprocessing with shortest_edge, or height and width, got {size} in {folder}")
    crop = processor.crop_size if getattr(processor, "do_center_crop", False) else None
    normalised = getattr(processor, "do_normalize", True)
    return CentreCrop(
        size=int(short) if short else (int(size["height"]), int(size["width"])),
        crop=(int(crop["height"]), int(crop["width"])) if crop else None,
        mean=tuple(processor.image_mean) if normalised else (0.0,) * 3,
        deviation=tuple(processor.image_std) if normalised else (1.0,) * 3,
        rounding=rounding,
        resample=int(getattr(processor, "resample", 3)),
    )


def image_processor(folder: Path) -> Any:
    """The directory's own image processor, its PIL form: torchvision's differs by up to .015 in normalised units.

    Raises:
        ValueError: in one line, where it cannot be made.
    """
    from transformers import AutoImageProcessor

    def load() -> Any:
        return AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )

    return loading(load, folder)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(batch, 3, height, width) in [0, 1] as 8-bit PIL images."""
    return [Image.fromarray(array) for array in pixels_of(images)]


def tokenize(
    tokenizer: Any, prompt: str, limit: int, verifier: str, device: Any = "cpu", padded: bool = False
) -> dict[str, Tensor]:
    """A prompt's ``input_ids`` and ``attention_mask``, (1, tokens), cut at ``limit`` with a warning that counts.

    ``padded`` makes ``limit`` tokens of every prompt.
    """
    whole = len(tokenizer(prompt, verbose=False)["input_ids"])
    if whole > limit:
        log.warning("verifier %s reads %d of the prompt's %d tokens", verifier, limit, whole)
    padding = "max_length" if padded else False
    found = tokenizer(prompt, padding=padding, truncation=True, max_length=limit, return_tensors="pt")
    return {key: found[key].to(device) for key in ("input_ids", "attention_mask")}


def fingerprint_of(*parts: object) -> Any:
    """A digest that has begun with what a verifier computes: its formula and its preprocessing."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode())
