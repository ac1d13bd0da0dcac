"""Images among the arguments of a pipeline's call that are named by their files, as a command line has to.

They are opened by the one reader of pictures, and recorded by their paths and the hash of their pixels:
``{"$file": [path, hash, mode, [width, height]]}``. So a run goes on, and an image is made again, with the same pixels
or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from noisewright.errors import RunMismatch
from noisewright.images.reading import read_image
from noisewright.outside.messages import short
from noisewright.outside.reading import shown
from noisewright.samplers.identity import canonical, original
from noisewright.schemas.reading import exists

FILE = "$file"


def as_recorded(value: Any, name: str) -> Any:
    """The record of an argument in which paths (``pathlib``) stand for the images there.

    Raises:
        ValueError, TypeError: in one line, on a file that is no image, and on what cannot be recorded.
    """
    if isinstance(value, os.PathLike):
        path = Path(value).absolute()
        return {FILE: [str(path), *canonical(_read(path, name), name)["$image"]]}
    if isinstance(value, (list, tuple)) and any(isinstance(one, os.PathLike) for one in value):
        return [as_recorded(one, name) for one in value]
    return canonical(value, name)


def names_file(record: Any) -> bool:
    """Whether a record names files somewhere."""
    if isinstance(record, Mapping):
        return FILE in record or any(map(names_file, record.values()))
    return isinstance(record, list) and any(map(names_file, record))


def from_record(record: Any, name: str) -> Any:
    """The value of a record; images are read from the files that it names.

    Raises:
        ValueError: in one line, where a file is not there, or no image, and as :func:`~.identity.original`.
        RunMismatch: where it is another image than was recorded.
    """
    if not names_file(record):
        return original(record, name)
    if isinstance(record, list):
        return [from_record(one, name) for one in record]
    held = record.get(FILE)
    if not isinstance(held, list) or len(held) != 4 or not isinstance(held[0], str):
        raise ValueError(f"expected the value of {name}, got a damaged record")
    found = _read(Path(held[0]), name)
    if canonical(found, name)["$image"] != held[1:]:
        raise RunMismatch(f"expected the {name} that was recorded, got another image in {shown(held[0])}")
    return found


def opened(value: Any, name: str) -> Any:
    """A value with the images in place of paths (``pathlib``).

    Raises:
        ValueError: in one line, on a file that is no image.
    """
    if isinstance(value, os.PathLike):
        return _read(Path(value), name)
    if isinstance(value, (list, tuple)) and any(isinstance(one, os.PathLike) for one in value):
        return [opened(one, name) for one in value]
    return value


def _read(path: Path, name: str) -> Image.Image:
    if not exists(path):
        raise ValueError(f"expected {name} as an image file, got {short(str(path), 120)}, which is not there")
    pixels, _ = read_image(path)
    return Image.fromarray(pixels)
