"""Verifiers that need no model: for tests, demonstrations, and as examples of the protocol."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from noisewright.images.metadata import pixels_of

JPEG_QUALITY = 95


class Brightness:
    """Mean of all channels, 0 black to 1 white."""

    name = "brightness"
    fingerprint = "brightness-1"
    lasting = True

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return images.float().mean(dim=(1, 2, 3)).tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return images.mean(dim=(1, 2, 3))


class Sharpness:
    """Mean absolute Laplacian of the grey image, 0 flat; at most 4."""

    name = "sharpness"
    fingerprint = "sharpness-1"
    lasting = True

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        grey = images.float().mean(dim=1, keepdim=True)  # (batch, 1, height, width)
        kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
        padded = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.conv2d(padded, kernel.to(grey.device)).abs().mean(dim=(1, 2, 3)).tolist()


class JpegSize:
    """Size of the image as a JPEG in kB of 1000 bytes, with 4:2:0 chroma: after the two rewards of Black et al. 2023.

    Args:
        sign: -1 for compressibility (small is good), 1 for incompressibility.
        quality: of the JPEG, 1 to 100.
        name: what the scores are called.
    """

    lasting = True

    def __init__(self, sign: int, quality: int, name: str) -> None:
        self.sign, self.quality, self.name = sign, quality, name
        kind = "compressibility" if sign < 0 else "incompressibility"  # whatever it is called: the sign counts
        self.fingerprint = f"{kind}-1-{quality}"

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return [self.sign * self._kilobytes(Image.fromarray(array)) for array in pixels_of(images)]

    def _kilobytes(self, image: Image.Image) -> float:
        file = io.BytesIO()
        image.save(file, "jpeg", quality=self.quality, subsampling="4:2:0")
        return file.tell() / 1000


def compressibility(model: str = "", name: str = "compressibility") -> JpegSize:
    """Minus the JPEG's size in kB; ``compressibility:QUALITY`` is another quality than 95.

    Raises:
        ValueError: on a quality that is no whole number in [1, 100].
    """
    return JpegSize(-1, _quality(model), name)


def incompressibility(model: str = "", name: str = "incompressibility") -> JpegSize:
    """The JPEG's size in kB; see :func:`compressibility`."""
    return JpegSize(1, _quality(model), name)


def _quality(text: str) -> int:
    if not text:
        return JPEG_QUALITY
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= 100:
        raise ValueError(f"expected a JPEG quality from 1 to 100, got {text!r}")
    return int(text)


class Color:
    """How near the mean colour of the image is to a colour: 1 the same, 0 the farthest colour that there is from it.

    ``1 - |mean - colour| / |farthest - colour|``, Euclidean on the sRGB values in [0, 1] as they are stored, where
    ``farthest`` is the corner of the RGB cube that is farthest from the colour.

    Args:
        model: the colour, ``#rrggbb`` or ``#rgb``; the ``#`` may be left out.
        name: what the scores are called.

    Raises:
        ValueError: on a colour that is not written so.
    """

    lasting = True

    def __init__(self, model: str = "", name: str = "color") -> None:
        text = model.removeprefix("#").lower()
        if not re.fullmatch(r"[0-9a-f]{3}|[0-9a-f]{6}", text):
            raise ValueError(f"expected a colour such as color:#ff8000, got {model!r}")
        text = text if len(text) == 6 else "".join(2 * digit for digit in text)
        self.name = name
        self.fingerprint = f"color-1-{text}"
        self.color = torch.tensor([int(text[n : n + 2], 16) / 255 for n in (0, 2, 4)])

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return self.gradient_scores(images.float(), prompt).tolist()

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        color = self.color.to(images.device)
        farthest = torch.maximum(color, 1 - color)  # its distance from the colour, per channel
        return 1 - (images.mean(dim=(2, 3)) - color).norm(dim=1) / farthest.norm()
