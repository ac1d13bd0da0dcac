"""Reading image files: one function for every reader, so that a picture is the same pixels wherever it is read.

Pixels are RGB of 8 bits, upright as EXIF says. Colours are taken for sRGB: ICC profiles are not applied. Greys of more
than 8 bits are scaled by their depth; floats are refused, since nothing says what white is. Of transparent pixels the
colours are read as they are, whatever would be seen behind them, as diffusers and the usual implementations of the FID
do it.
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from noisewright.outside.messages import first_line
from noisewright.outside.reading import open_regular, shown

log = logging.getLogger("noisewright")

MOST_PIXELS = 2**26
"""Of an image file that is read: 8192 x 8192. A small file can hold an image that fills the memory."""

MOST_BYTES = 2**30
"""Of an image file that is read: such an image in 16 bits with alpha, twice."""

NOT_READ = {"EPS", "MPEG"}
"""Formats that are left out: Ghostscript would run what an EPS file says, and Pillow has no pixels of an MPEG."""

STILL = {"MPO", "PSD"}
"""Formats of several pictures whose first is the image: a photograph with its preview, a composite with its layers."""

SIXTEEN = {"PNG", "PPM", "JPEG2000"}
"""Formats whose integers are of at most 16 bits, and scaled to them, also where Pillow has them in 32."""

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF."""

ORIENTATION = 0x0112
BLOCK = 2**22
"""Pixels that are scaled at a time."""

said_once: set[str] = set()
"""Kinds of warnings that are said once for all files; a command empties it when it begins."""


def read_image(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The pixels (height, width, 3) uint8 and the text chunks of any image file.

    Of an animation (GIF, WebP, PNG, several pages of a TIFF) it is the first frame, with a warning in the log.

    Raises:
        ValueError: in one line, where it is empty, no regular file, larger than :data:`MOST_PIXELS`, or cannot be read.
    """
    with open_regular(path, "an image file", most=MOST_BYTES) as file:
        return decode_image(file, shown(path))


def decode_image(
    source: BinaryIO, name: str, kinds: Sequence[str] | None = None, most_side: int | None = None
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    """As :func:`read_image`, of an open file or of bytes in memory.

    Args:
        source: what holds the image.
        name: for messages.
        kinds: formats that are opened, by Pillow's names; by default all of :func:`formats`.
        most_side: pixels of a side; a larger one is not decoded.

    Raises:
        ValueError: in one line.
    """
    try:
        with warnings.catch_warnings():  # Pillow's, of damaged headers
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decoded(source, name, formats() if kinds is None else list(kinds), most_side)
    except UnidentifiedImageError:
        wanted = "a readable image" if kinds is None else f"an image as {', '.join(kinds)}"
        raise ValueError(f"expected {wanted}, got {name}: cannot identify its format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"expected a readable image, got {name}: at most {MOST_PIXELS} pixels are read") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        first = first_line(error)
        raise ValueError(f"expected a readable image, got {name}: {first}") from None


def formats() -> list[str]:
    """The formats that are read, by Pillow's names: all of Pillow's, and of its plug-ins', that hold pixels."""
    Image.init()
    return [one for one in Image.ID if one not in NOT_READ and not _is_stub(Image.OPEN[one][0])]


def _is_stub(opener: Any) -> bool:
    """Whether Pillow knows the format and leaves reading it to somebody else."""
    return inspect.isclass(opener) and issubclass(opener, ImageFile.StubImageFile)


def suffixes() -> set[str]:
    """The suffixes of files in the formats that are read, in lower case, with their dots."""
    known = {*formats(), "MPO"}  # which the reader of JPEG opens
    return {suffix for suffix, one in Image.registered_extensions().items() if one in known}


def _decoded(
    source: BinaryIO, name: str, kinds: list[str], most_side: int | None
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    if source.seek(0, os.SEEK_END) == 0:
        raise ValueError("it is empty (0 bytes)")
    source.seek(0)
    with Image.open(source, formats=kinds) as opened:
        _check_size(opened)
        if most_side is not None and max(opened.size) > most_side:
            raise ValueError(f"it has {opened.width}x{opened.height} pixels, at most {most_side} a side are read")
        if getattr(opened, "is_animated", False) and opened.format not in STILL:
            log.warning("%s is animated (%d frames): only the first is read", name, getattr(opened, "n_frames", 0))
            opened.seek(0)
        opened.load()
        _check_size(opened)  # an icon's own size is known only now
        info = {str(key): value for key, value in opened.info.items()}
        return np.ascontiguousarray(_upright(_rgb(opened, name), _orientation(opened))), info


def _check_size(opened: Image.Image) -> None:
    if opened.width * opened.height > MOST_PIXELS:
        raise ValueError(f"it has {opened.width}x{opened.height} pixels, at most {MOST_PIXELS} are read")


# Pixels


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    """The pixels (height, width, 3) uint8 of a loaded image of any mode, as they lie in the file."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers: nothing says which is white")
    signed = _tag(image, SAMPLE_FORMAT, 1) == 2
    if image.mode.startswith("I") or (signed and image.mode == "L"):
        return np.repeat(_grey(image, signed, name)[..., None], 3, axis=2)
    if image.mode in ("P", "PA") and not (image.palette and image.palette.palette):
        raise ValueError("it has no palette for its colours")
    if image.mode in ("La", "RGBa"):  # colours times alpha
        image = image.convert(image.mode.upper())
    _warn_of_transparency(image, name)
    return np.asarray(image.convert("RGB"))


def _grey(image: Image.Image, signed: bool, name: str) -> np.ndarray:
    """Integers (height, width) of more than 8 bits, or with a sign, scaled to uint8 by their depth."""
    if image.format == "FITS":
        raise ValueError("its pixels are measurements: nothing says which is white")
    bits = _tag(image, BITS_PER_SAMPLE, 0)
    if not bits:
        bits = 16 if image.mode != "I" or image.format in SIXTEEN else 32
        signed = bits == 32  # of the other formats that have them
    values = np.asarray(image)
    if image.mode == "L":
        values = values.view(np.int8)
    elif bits == 32 and not signed:
        values = values.view(np.uint32)
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise ValueError(f"its pixels are integers with a sign, from {low} to {high}: nothing says which is black")
    depth = bits - signed
    if depth > 16 and high < 2**16:  # black, unless they were meant for fewer bits: a hundredth of a grey level at most
        depth = 8 if high < 2**8 else 16
        if high:
            log.warning("%s has values up to %d in %d bits: they are read as of %d bits", name, high, bits, depth)
    white = 2**depth - 1
    if high > white:
        raise ValueError(f"its pixels go to {high}, beyond the {white} of {depth} bits")
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, BLOCK // values.shape[1])
    for first in range(0, len(values), rows):
        some = values[first : first + rows].astype(np.uint64)
        grey[first : first + rows] = (some * 255 + white // 2) // white
    return 255 - grey if _tag(image, PHOTOMETRIC, 1) == 0 else grey  # white is zero, which Pillow leaves at 16 bits


def _tag(image: Image.Image, number: int, default: int) -> int:
    """A tag of a TIFF, its first value where it has several; ``default`` of other formats."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _warn_of_transparency(image: Image.Image, name: str) -> None:
    if "transparency" in said_once:
        return
    if image.mode in ("LA", "RGBA", "PA"):
        alpha = image.getchannel("A")
    elif "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    else:
        return
    least: Any = alpha.getextrema()[0]
    if least < 255:
        said_once.add("transparency")
        log.warning("%s has transparent pixels: their own colours are read, whatever is behind them (said once)", name)


# Upright


def _orientation(image: Image.Image) -> int:
    """What EXIF (or XMP) says of how the picture was held, 1 to 8; 1 where it says nothing that can be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged tags raise anything, and are no reason to refuse the pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as it should be seen."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
