"""Pictures of what is not finished, small, for people who look on."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from noisewright.images.metadata import pixels_of

if TYPE_CHECKING:
    from torch import Tensor

SIDE, QUALITY = 256, 85


def preview_jpeg(image: Tensor) -> bytes:
    """A clean estimate as a JPEG whose longer side has at most :data:`SIDE` pixels.

    Args:
        image: (3, height, width) in [0, 1].
    """
    picture = Image.fromarray(pixels_of(image))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=QUALITY)
    return file.getvalue()
