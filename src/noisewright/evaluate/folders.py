"""Which files of a directory are images, and what is said of the others."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from noisewright.images.reading import suffixes
from noisewright.outside.inside import inside
from noisewright.outside.reading import refused, shown
from noisewright.run.reading import is_run

log = logging.getLogger("noisewright")

SIDECARS = (".txt", ".caption")
"""Suffixes of text files that say what the image beside them shows."""

MOST_COUNTED = 10_000
"""Entries of sub-directories that are looked at to say what was skipped."""

MOST_KINDS = 6
PLURALS = {
    "broken link": "broken links",
    "link to a directory": "links to directories",
    "special file": "special files",
    "unreadable directory": "unreadable directories",
    "unreadable file": "unreadable files",
}
BELOW = "in sub-directories (--recursive reads them)"


def images_in(paths: Sequence[Path], recursive: bool = False, *, of: str = "all", quiet: bool = False) -> list[Path]:
    """The paths, with every directory replaced by the images in it, in the order of their names.

    Images are files with a suffix of a format that is read. Of a run only its own images count, whatever else lies
    there. Hidden files and directories, and links to directories, are left out. One line in the log says what was
    skipped.

    Args:
        paths: files, which are taken as they are, and directories.
        recursive: go into sub-directories too.
        of: which images of a run count: ``all`` its candidates, ``best`` or ``baseline``.
        quiet: say nothing of what was skipped.

    Raises:
        ValueError: on a directory without images, or one that may not be read.
    """
    known, skipped = suffixes(), Counter[str]()
    found: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        before = skipped.total()
        there = _inside(path, known, skipped, recursive, of)
        if not there:
            others = f"; {_what(skipped)}" if skipped.total() > before else ""
            raise ValueError(f"expected images in {shown(path)}, got none{others}")
        found += there
    if skipped.total() and not quiet:
        log.warning("%s", _what(skipped))
    return list(dict.fromkeys(found))


def run_images(run: Path, of: str) -> list[Path]:
    """The images of a run that count.

    Raises:
        ValueError: where it has none yet.
    """
    if of == "all":
        found, _ = _listed(run / "images", suffixes(), Counter())
        if not found:
            raise ValueError(f"expected images in {shown(run)}, got none")
        return sorted(inside(run, file.relative_to(run)) for file in found)
    picked = inside(run, f"{of}.png")
    if not picked.is_file():
        raise ValueError(f"expected {of}.png in the run {shown(run)}, got none: has it ended?")
    return [picked]


def sidecar(image: Path) -> Path | None:
    """The text file beside an image that has its name, or None."""
    beside = (image.with_suffix(suffix) for suffix in SIDECARS)
    return next((one for one in beside if os.path.lexists(one)), None)


def _inside(place: Path, known: set[str], skipped: Counter[str], recursive: bool, of: str) -> list[Path]:
    """The images in a directory, and where it is asked for in all below it."""
    found: list[Path] = []
    waiting = [place]
    while waiting:
        here = waiting.pop()
        if is_run(here):
            found += run_images(here, of)
            continue
        try:
            images, below = _listed(here, known, skipped)
        except ValueError:
            if here == place:
                raise
            skipped["unreadable directory"] += 1
            continue
        found += images
        if recursive:
            waiting += below
        else:
            skipped[BELOW] += _images_below(below, known)
    return sorted(found)


def _listed(here: Path, known: set[str], skipped: Counter[str]) -> tuple[list[Path], list[Path]]:
    """The images and the directories in one; ``skipped`` counts what is neither.

    Raises:
        ValueError: where it may not be read.
    """
    try:
        with os.scandir(here) as entries:
            kinds = {entry.name: _kind(entry) for entry in entries}
    except OSError as error:
        raise refused(here, "a directory of images", error) from None
    files = {name: Path(name).suffix.lower() for name, kind in kinds.items() if kind == "file"}
    images = {name for name, suffix in files.items() if suffix in known and not name.startswith(".")}
    named = {Path(name).stem for name in images}
    for name, kind in kinds.items():
        suffix = Path(name).suffix.lower()
        if name in images or kind == "directory" or (suffix in SIDECARS and Path(name).stem in named):
            continue
        if name.startswith("."):
            skipped["hidden"] += suffix in known
        else:
            skipped[(shown(suffix)[:12] or "without a suffix") if kind == "file" else kind] += 1
    below = [here / name for name, kind in kinds.items() if kind == "directory" and not name.startswith(".")]
    return [here / name for name in images], below


def _kind(entry: os.DirEntry[str]) -> str:
    """``file`` (or a link to one), ``directory``, or words for what it is instead."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return "directory"
        mode = entry.stat().st_mode
    except OSError:
        return "broken link" if entry.is_symlink() else "unreadable file"
    if stat.S_ISDIR(mode):
        return "link to a directory"
    return "file" if stat.S_ISREG(mode) else "special file"


def _images_below(places: Sequence[Path], known: set[str]) -> int:
    """How many images are in directories and all below them, as far as they are looked at."""
    count = seen = 0
    waiting = list(places)
    while waiting and seen < MOST_COUNTED:
        here = waiting.pop()
        try:
            images, below = _listed(here / "images" if is_run(here) else here, known, Counter())
        except ValueError:
            continue
        count, seen = count + len(images), seen + len(images) + len(below) + 1
        waiting += below
    return count


def _what(skipped: Counter[str]) -> str:
    """The line that says what was skipped."""
    total = skipped.total()
    counts = sorted(((count, kind) for kind, count in skipped.items() if count), key=lambda one: (-one[0], one[1]))
    kinds = [f"{count} {kind if count == 1 else PLURALS.get(kind, kind)}" for count, kind in counts]
    if len(kinds) > MOST_KINDS:
        kinds = [*kinds[:MOST_KINDS], "..."]
    return f"{total} {'file' if total == 1 else 'files'} skipped: {', '.join(kinds)}"
