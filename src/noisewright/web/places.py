"""Names of runs and benchmarks, and the directories that they stand for: never one outside of the server's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from noisewright.benchmark.store import is_benchmark
from noisewright.outside.inside import inside
from noisewright.outside.messages import short
from noisewright.run.ledger import ID
from noisewright.run.reading import is_run
from noisewright.web.settings import Settings

LONGEST = 1000
DEEP = 3
"""Levels of directories that are looked through for runs."""

MOST_FOUND = 20_000
"""Runs and benchmarks that are listed."""

FIGURES = ("before-after.png", "contact-sheet.png", "curve.png", "grid.png")


class NotThere(ValueError):
    """What a request names is not there (any more)."""


def directory(settings: Settings, name: str, kind: str = "run") -> Path:
    """The directory of a run or benchmark, links followed only where they stay inside.

    Args:
        settings: of the server.
        name: its path below the server's directory, with ``/``.
        kind: ``run`` or ``benchmark``.

    Raises:
        NotThere: in one line, also on a name that leads elsewhere.
    """
    parts = name.split("/")
    hidden = any(not part or part.startswith(".") for part in parts)
    if hidden or len(name) > LONGEST or not name.isprintable() or not _is_shown(settings, parts):
        raise NotThere(f"expected the name of a {kind}, got {short(name)}")
    try:
        place = inside(settings.runs, name)
        there = (is_run if kind == "run" else is_benchmark)(inside(settings.runs, name))
        if there:
            inside(place, "run.json" if kind == "run" else "benchmark.json")
    except (ValueError, OSError):
        there = False
    if not there:
        raise NotThere(f"expected a {kind} in this server's directory, got {short(name)}, which is not there")
    return place


def _is_shown(settings: Settings, parts: list[str]) -> bool:
    return settings.only is None or parts[0] == settings.only or parts[0] in settings.begun


def check_id(given: str) -> str:
    """The id of a candidate.

    Raises:
        NotThere: on anything else.
    """
    if not re.fullmatch(ID, given):
        raise NotThere(f"expected the id of a candidate, got {short(given)}")
    return given


def found_in(settings: Settings) -> Iterator[tuple[str, str, Path]]:
    """The runs and benchmarks that there are, as (name, ``run`` or ``benchmark``, directory).

    The runs of a benchmark's cells are part of it. Directories that cannot be read, and links, which could lead round
    in circles, are passed over, but for links to runs that stay inside.
    """
    count = 0
    waiting = [("", settings.runs, 0)]
    while waiting:
        before, place, depth = waiting.pop()
        try:
            with os.scandir(place) as entries:
                some = sorted((one for one in entries if _is_folder(one)), key=lambda one: one.name)
        except OSError:
            continue
        for one in some:
            name = f"{before}/{one.name}" if before else one.name
            if not name.isprintable() or not _is_shown(settings, name.split("/")):
                continue
            kind = "run" if is_run(one.path) else "benchmark" if is_benchmark(one.path) else None
            if kind is not None and _stays(settings, name):
                count += 1
                yield name, kind, settings.runs / name
            elif kind is None and depth + 1 < DEEP and not one.is_symlink():
                waiting.append((name, Path(one.path), depth + 1))
            if count == MOST_FOUND:
                return


def _is_folder(one: os.DirEntry[str]) -> bool:
    try:
        return not one.name.startswith(".") and one.is_dir()
    except OSError:
        return False


def _stays(settings: Settings, name: str) -> bool:
    try:
        inside(settings.runs, name)
    except ValueError:
        return False
    return True
