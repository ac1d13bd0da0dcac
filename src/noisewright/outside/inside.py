"""Files that a run directory names, held inside it: what is read from there may have been written by anybody."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def inside(root: str | Path, name: str | Path) -> Path:
    """The file ``name`` of the directory ``root``, links followed: it need not be there, but it cannot be elsewhere.

    Raises:
        ValueError: in one line, on an absolute path, ``..``, a link that leads out of the directory, or something that
            is there and is neither a file nor a directory.
    """
    text = str(name)
    parts = text.replace("\\", "/").split("/")
    rooted = Path(text).is_absolute() or "\\" in text or text[1:2] == ":"  # a drive, or a path of another system
    if not text or "\0" in text or ".." in parts or rooted or not _holds(str(root), parts):
        raise ValueError(f"expected a file inside {root}, got {text[:80]!r}")
    return Path(root) / text


def _holds(root: str, parts: list[str]) -> bool:
    """Whether a path of plain names leads to a place in a directory: looked at name by name, links only in full."""
    place = root
    for part in parts:
        place = os.path.join(place, part)
        try:
            kind = os.lstat(place).st_mode
            if stat.S_ISLNK(kind):
                found = Path(root, *parts).resolve()
                return found.is_relative_to(Path(root).resolve()) and (not found.exists() or _is_plain(found))
        except FileNotFoundError:
            return True
        except (OSError, RuntimeError):  # a name that is too long, a loop of links, a file for a directory
            return False
    return stat.S_ISREG(kind) or stat.S_ISDIR(kind)


def _is_plain(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def leading_out(root: str | Path) -> list[str]:
    """Names of what lies in a run directory, and in its folders, but is kept elsewhere or is no file or directory.

    What is written there would be written elsewhere.
    """
    root, found = Path(root), []
    for path in sorted(root.iterdir()):
        try:
            inside(root, path.name)
        except ValueError:
            found.append(path.name)
    return found
