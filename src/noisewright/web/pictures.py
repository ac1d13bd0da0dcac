"""Pictures of a run, read and written again before anybody sees them; small ones are made once and kept.

Nothing is written into a run's directory: what is kept lies in the user's cache, under the hash of the file's place,
size and time. A file of a stranger reaches no browser as it is.
"""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path

from PIL import Image, features

from noisewright.images.reading import read_image
from noisewright.outside.files import write_atomically
from noisewright.outside.inside import inside
from noisewright.outside.reading import read_bytes
from noisewright.web.places import NotThere

SIDES = (96, 192, 384, 768)
"""Pixels of the longer side of what is asked for; 0 is the whole picture."""

QUALITY = 86
MOST_BYTES = 2**28
"""Of a file that is downloaded as it is."""

MOST_KEPT = 2**29
"""Bytes of pictures that are kept when a server starts."""

PNG = b"\x89PNG\r\n\x1a\n"


def check_side(given: str) -> int:
    """The side that is asked for.

    Raises:
        ValueError: on another one: each is a file.
    """
    if given not in {str(one) for one in (0, *SIDES)}:
        raise ValueError(f"expected a side of {', '.join(map(str, (0, *SIDES)))}, got another")
    return int(given)


def file_in(root: Path, name: str) -> Path:
    """A file of a run or benchmark.

    Raises:
        NotThere: where it is gone or lies elsewhere.
    """
    try:
        place = inside(root, name)
    except ValueError:
        raise NotThere(f"expected a file inside the directory, got {name[:80]!r}") from None
    if not place.is_file():
        raise NotThere(f"expected the picture {name[:80]}, which is gone")
    return place


def shown(cache: Path, place: Path, side: int) -> tuple[bytes, str]:
    """A picture as it is shown, and its media type.

    Args:
        cache: the directory of what is kept: the smaller ones.
        place: the file.
        side: of :data:`SIDES`; a smaller picture keeps its pixels.

    Raises:
        ValueError: in one line, where it is no readable picture.
    """
    key = _key(place, side)
    kept = cache / f"{key[:2]}/{key}.{_suffix()}"
    for path in (kept, kept.with_suffix(".png")) if side else ():
        try:
            return path.read_bytes(), _media(path)
        except OSError:
            continue
    array, _ = read_image(place)
    picture = Image.fromarray(array)
    exact = side == 0 or max(picture.size) <= side
    data = _written(picture if exact else _fitted(picture, side), exact)
    path = kept.with_suffix(".png") if exact else kept
    if side:
        with suppress(OSError):  # a disk that is full or read only: it is made again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, sync=False)
    return data, _media(path)


def tag_of(place: Path, side: int) -> str:
    """What a browser knows a picture by, which is another one where the file is (``ETag``).

    Raises:
        NotThere: where the file is gone.
    """
    try:
        return f'"{_key(place, side)}"'
    except OSError:
        raise NotThere(f"expected the picture {place.name[:80]}, which is gone") from None


def tidy(cache: Path, most: int = MOST_KEPT) -> None:
    """Let go of the pictures that were made longest ago, where there are more bytes of them than ``most``."""
    found = []
    for path in cache.glob("??/*.*"):
        with suppress(OSError):  # another server tidies, too
            about = path.lstat()
            found.append((about.st_mtime_ns, about.st_size, path))
    over = sum(size for _, size, _ in found) - most
    for _, size, path in sorted(found):
        if over <= 0:
            return
        with suppress(OSError):
            path.unlink()
            over -= size


def _key(place: Path, side: int) -> str:
    found = os.stat(place)
    text = f"{os.path.realpath(place)}\0{found.st_size}\0{found.st_mtime_ns}\0{side}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _suffix() -> str:
    return "webp" if features.check("webp") else "jpg"


def _media(path: Path) -> str:
    return {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}[path.suffix[1:]]


def _written(picture: Image.Image, exact: bool) -> bytes:
    buffer = io.BytesIO()
    if exact:
        picture.save(buffer, "png", compress_level=4)
    elif _suffix() == "webp":
        picture.save(buffer, "webp", quality=QUALITY, method=2)
    else:
        picture.convert("RGB").save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def original(place: Path) -> bytes:
    """A PNG as it lies in the run, with what it says of itself, to be saved and not shown.

    Raises:
        ValueError: in one line, where it is no PNG that can be read.
    """
    data = read_bytes(place, "a PNG", most=MOST_BYTES)
    if not data.startswith(PNG):
        raise ValueError(f"expected a PNG, got {place.name}, which is none")
    return data
