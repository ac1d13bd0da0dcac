"""What a run directory says, for whoever looks at it: nothing here writes, and nothing keeps a writer out."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from noisewright.outside.reading import open_regular
from noisewright.run import journal
from noisewright.run.digests import check_of, digest_of

SCHEMA_VERSION = 2
READABLE = (1, 2)
"""Schemas that are read: in the first, lines had no checksum and states were pickles of weights."""

MOST_JOURNAL = 2**32
"""Bytes of a journal that is read."""

REMEMBERED = 64
"""Bytes before the place where a reader stands that it compares: a line's checksum is among them."""


def is_run(root: str | Path) -> bool:
    """Whether a directory holds a run, by its ``run.json``; whether that can be read, :func:`read_run` says."""
    return os.path.isfile(Path(root) / "run.json")


def read_run(root: str | Path) -> dict[str, Any]:
    """``run.json`` of a run directory.

    Raises:
        ValueError: in one line, where there is none, it is damaged, or its schema is newer than this library.
    """
    from noisewright.outside.messages import short
    from noisewright.schemas.files import check_run
    from noisewright.schemas.reading import read_json

    path = Path(root) / "run.json"
    try:
        run = read_json(path, "a run directory (with run.json)")
    except FileNotFoundError:
        raise ValueError(f"expected a run directory (with run.json), got {root}") from None
    found = run.get("schema_version") if isinstance(run, dict) else None
    if type(found) is not int or found not in READABLE:
        raise ValueError(f"expected a run of schema {' or '.join(map(str, READABLE))}, got {short(found)} in {path}")
    run.pop("check", None)
    _without_infinities(run)
    return check_run(run, str(path))


def _without_infinities(run: dict[str, Any]) -> None:
    """Take out what version 0.1 wrote of schedulers whose settings are infinite (DPM-Solver's), which no reader takes.

    Settings that are not said are those of the scheduler's class, which these were.
    """
    held: Any = run
    for key in ("plain", "scheduler", "config"):
        held = held.get(key) if isinstance(held, dict) else None
    for key in [one for one, value in held.items() if value in (math.inf, -math.inf)] if isinstance(held, dict) else ():
        del held[key]


def is_intact(root: str | Path) -> bool:
    """Whether ``run.json`` is as it was written; of schema 1, which has no checksum, it is believed."""
    run = json.loads((Path(root) / "run.json").read_text())
    check = run.pop("check", None)
    return bool(check == check_of(run) or (check is None and run.get("schema_version") == 1))


def is_concluded(root: str | Path) -> bool:
    """Whether a run is done, and what it says of its result can be believed: it and its two pictures are intact."""
    root, run = Path(root), read_run(root)
    if run.get("status") != "done" or not is_intact(root):
        return False
    files = run.get("files") or dict.fromkeys(("best.png", "baseline.png"))  # of schema 1 nothing more is known
    for name in ("best.png", "baseline.png"):
        try:
            data = (root / name).read_bytes()
        except OSError:
            return False
        if files.get(name) not in (None, digest_of(data)):
            return False
    return True


def read_journal(root: str | Path) -> list[dict[str, Any]]:
    """The journal's lines, for reading only; a torn last line and damaged ones are left out."""
    return JournalReader(root, int(read_run(root)["schema_version"])).read()[0]


def damaged_lines(root: str | Path) -> int:
    """How many lines of the journal do not hold."""
    reader = JournalReader(root, int(read_run(root)["schema_version"]))
    reader.read()
    return reader.damaged


@dataclass(frozen=True)
class Place:
    """Where a reader of a journal stands: after a whole line.

    Attributes:
        offset: bytes of the whole lines that were read.
        before: the last of them, :data:`REMEMBERED` at most.
        file: device and inode of the journal: one that was mended is another file.
    """

    offset: int = 0
    before: bytes = b""
    file: tuple[int, int] | None = None


class JournalReader:
    """Reads a journal from any place, line by line as they come.

    A last line that is not whole yet is waited for; one that does not hold is left out and counted; one that stands
    there twice counts once. A journal that was cut or mended since (whoever continues a run does so) is another one: it
    is read again from its beginning.

    Args:
        root: the run directory.
        schema: of the run (``run.json``).
        place: where to go on; by default at the beginning.

    Attributes:
        place: after the last whole line that was read.
        damaged: lines that do not hold, of those that were read.
    """

    def __init__(self, root: str | Path, schema: int, place: Place | None = None) -> None:
        self.path = Path(root) / "journal.jsonl"
        self.schema = schema
        self.place = place or Place()
        self.damaged = 0
        self._seen: set[bytes] = set()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """What the new lines say, and whether what was read before does not count any more.

        Returns:
            The records in order, and true where they are those of a whole other journal.

        Raises:
            ValueError: in one line, where the journal cannot be read.
            FileNotFoundError: where it is gone.
        """
        if not os.path.lexists(self.path):
            if self.place.offset or not self.path.parent.is_dir():
                raise FileNotFoundError(f"{self.path.parent} is gone")
            return [], False
        with open_regular(self.path, "a journal", most=MOST_JOURNAL) as file:
            found = os.fstat(file.fileno())
            same = self._goes_on(file, found)
            if not same:
                self.place, self.damaged = Place(), 0
                self._seen.clear()
            file.seek(self.place.offset)
            return self._lines(file, found), not same

    def _goes_on(self, file: BinaryIO, found: os.stat_result) -> bool:
        """Whether a journal is the one that was read, as far as that was."""
        place = self.place
        if place.offset == 0:
            return True
        if found.st_size < place.offset or place.file not in (None, (found.st_dev, found.st_ino)):
            return False
        file.seek(place.offset - len(place.before))
        return file.read(len(place.before)) == place.before

    def _lines(self, file: BinaryIO, found: os.stat_result) -> list[dict[str, Any]]:
        records, offset, before = [], self.place.offset, self.place.before
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n") or offset > found.st_size:
                break  # somebody is writing it
            before = (before + line)[-REMEMBERED:]
            self.place = Place(offset, before, (found.st_dev, found.st_ino))
            key = hashlib.sha256(line).digest()
            record = None if key in self._seen else journal.unseal(line[:-1], self.schema)
            if record is not None:
                self._seen.add(key)
                records.append(record)
            elif key not in self._seen:
                self.damaged += 1
        return records
