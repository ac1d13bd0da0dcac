"""What a run directory is made of: begun, swept and removed. Who calls these holds its lock, or is about to."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from noisewright.run.locks import LOCK, MARK, let_go

FOLDERS = ("images", "states")
PREVIEWS = "previews"
"""The folder of small pictures of what is not finished: it is there where a search looks at any."""

STOP = ".stop"
"""The file that asks a run to stop."""

LEFTOVER = re.compile(r"\.(run\.json|journal\.jsonl(\.bad)?|[\w-]+\.(png|safetensors|pt))\.\w{6,}")
"""Names of temporary files that a killed process leaves behind."""


def is_unused(root: Path) -> bool:
    """Whether a directory is empty, or holds only what a start that was cut short leaves behind."""
    for path in root.iterdir():
        begun = path.name in FOLDERS and path.is_dir() and not any(path.iterdir())
        begun = begun or (path.name == "journal.jsonl" and path.stat().st_size == 0)
        begun = begun or (path.name == LOCK and path.stat().st_size <= len(MARK))
        if not begun and not path.name.startswith(".run.json."):
            return False
    return True


def new_folder(root: Path) -> Iterator[Path]:
    """Make a directory; gives it where it is new."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        root.mkdir()
        yield root
    if not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def sweep(root: Path) -> None:
    """Remove the temporary files of a process that was killed; only who holds the lock may."""
    for folder in (root, *(root / name for name in FOLDERS)):
        for path in folder.iterdir():
            if path.name.startswith(".") and LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Turn an operating-system error into one line of wrong use."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"expected a directory that can be written, got {root}: {error.strerror or error}") from error


def remove(made: list[Path], lock: Any) -> None:
    """Remove files and empty directories that this process made, then let go of the lock."""
    for path in sorted(made, key=lambda one: len(one.parts), reverse=True):
        with suppress(OSError):  # something is in it after all: it stays
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    let_go(lock)


def summary_in(root: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a run came to, with its paths below ``root``, however the directory was called when it was written."""
    found = dict(summary)
    for name in ("best", "baseline"):
        found[name] = {**found[name], "file": str(root / Path(found[name]["file"]).name)}
    kept = [{**one, "file": str(root / "kept" / Path(one["file"]).name)} for one in found.get("kept", ())]
    return {**found, "kept": kept, "run": str(root)}
