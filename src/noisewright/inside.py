"""Files that a run directory names, held inside it: what is read from there may have been written by anybody."""

from __future__ import annotations

import stat
from pathlib import Path, PureWindowsPath


def inside(root: str | Path, name: str | Path) -> Path:
    """The file ``name`` of the directory ``root``, links followed: it need not be there, but it cannot be elsewhere.

    Raises:
        ValueError: in one line, on an absolute path, ``..``, a link that leads out of the directory, or something that
            is there and is neither a file nor a directory.
    """
    text = str(name)
    parts = PureWindowsPath(text).parts  # both kinds of slash, and drives
    rooted = Path(text).is_absolute() or PureWindowsPath(text).anchor != ""
    bad = not text or "\0" in text or ".." in parts or rooted
    if not bad:
        try:
            found = (Path(root) / text).resolve()
            bad = not found.is_relative_to(Path(root).resolve())
            kind = found.stat().st_mode
            bad = bad or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError):  # a name that is too long, a loop of links, a file for a directory
            bad = True
    if bad:
        raise ValueError(f"expected a file inside {root}, got {text[:80]!r}")
    return Path(root) / text


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
