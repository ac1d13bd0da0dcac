"""Copies of images in the order of their scores: what ``score --copy-to`` makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisewright.outside.reading import open_regular, shown

LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""


def claim(directory: Path) -> bool:
    """Make a directory for copies, or see that it is empty, before anything is spent.

    Returns:
        Whether it was made.

    Raises:
        ValueError: in one line, where it holds something, is no directory, or cannot be written.
    """
    expected = f"expected a new or empty directory to sort into, got {shown(directory)}"
    try:
        directory.mkdir(parents=True)
        return True
    except FileExistsError:
        pass
    except OSError as error:
        raise ValueError(f"{expected}: {error.strerror or error}") from None
    try:
        held = next(os.scandir(directory), None)
    except OSError as error:
        raise ValueError(f"{expected}: {error.strerror or error}") from None
    if held is not None:
        raise ValueError(f"{expected}, which holds {shown(held.name)}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ValueError(f"{expected}, which may not be written")
    return False


def copy_by_rank(found: Sequence[dict[str, Any]], directory: Path, top: int | None = None) -> OSError | None:
    """Copy images as ``0001_name.png``, best first, with their bytes and times; each gets its ``copy``'s path.

    Those without a rank are left out; nothing is ever written over.

    Args:
        found: what :func:`noisewright.evaluate.scoring.score_files` gives.
        directory: an empty one.
        top: how many of the best; by default all.

    Returns:
        What ended it early, such as a full disk, or None.
    """
    digits = max(4, len(str(len(found))))
    for one in found:
        one["copy"] = None
    for one in found:
        if one["rank"] is None or (top is not None and one["rank"] > top):
            continue
        target = directory / _named(f"{one['rank']:0{digits}}_", Path(one["file"]))
        try:
            _copy(Path(one["file"]), target)
        except ValueError as error:  # the file went away or changed its kind since it was read
            return OSError(str(error))
        except OSError as error:
            return error
        one["copy"] = str(target)
    return None


def _named(place: str, file: Path) -> str:
    """The place before the file's own name, whose stem is cut where the whole would be too long."""
    stem = file.stem
    while stem and len(os.fsencode(place + stem + file.suffix)) > LONGEST_NAME:
        stem = stem[:-1]
    return place + stem + file.suffix


def _copy(source: Path, target: Path) -> None:
    with open_regular(source) as taken, target.open("xb") as made:
        try:
            shutil.copyfileobj(taken, made)
            made.flush()
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise
    with suppress(OSError):  # of a file system that keeps no times or modes
        shutil.copystat(source, target)
