"""Files of rows that only grow: a sealed JSON object a line, as a run's journal has them, read one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from noisewright.outside.inside import inside
from noisewright.outside.reading import open_regular
from noisewright.run import journal
from noisewright.schemas.benchmarks import MOST_ROW

MOST_BYTES = 2**36
"""Of a file of rows that is read: line by line, it takes no memory."""

SCHEMA = 2
"""Of a journal whose every line is sealed."""

CELL = b'{"cell":"'
CELL_DIGITS = slice(len(CELL), len(CELL) + 16)
"""How a row begins, and where its cell's digest stands."""


class Rows:
    """Such a file.

    Args:
        root: the directory that it is in.
        name: its own.
        adapter: the type of a row.

    Attributes:
        damaged: lines that do not hold, as of the last reading.
    """

    def __init__(self, root: Path, name: str, adapter: TypeAdapter[Any]) -> None:
        self.root = root
        self.name = name
        self.damaged = 0
        self._adapter = adapter
        self._file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        """Where it is, which is inside the directory.

        Raises:
            ValueError: in one line, where it is a link to elsewhere.
        """
        return inside(self.root, self.name)

    def read(self) -> Iterator[Any]:
        """The rows that hold, in order; a torn last line and damaged ones are left out, and the latter counted."""
        self.damaged = 0
        for _, line in self._lines():
            row = self._row(line)
            if row is None:
                self.damaged += 1
            else:
                yield row

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines without their ends, each with where it begins; one that is too long comes in pieces."""
        if not os.path.lexists(self.path):
            return
        offset = 0
        with open_regular(self.path, f"rows in {self.path}", most=MOST_BYTES) as file:
            while line := file.readline(MOST_ROW):
                if not line.endswith(b"\n") and len(line) < MOST_ROW:
                    return  # torn, or being written
                yield offset, line.removesuffix(b"\n")
                offset += len(line)

    def _row(self, line: bytes) -> Any | None:
        if not journal.holds(line, SCHEMA):
            return None
        try:
            row = json.loads(line)
            row.pop("check")
            return self._adapter.validate_python(row)
        except (ValueError, ValidationError, RecursionError, AttributeError, KeyError):
            return None

    # Who writes holds the benchmark's lock

    def open(self, kept: Container[str] | None = None) -> int:
        """Open it for adding rows: a torn last line is cut off, damaged ones are set aside in ``NAME.bad``.

        Args:
            kept: cells, by their digests; rows at the end that are of another one are let go of. By default all stay.

        Returns:
            How many were damaged.
        """
        inside(self.root, f"{self.name}.bad")
        end = begin = damaged = 0
        cell = b""
        for offset, line in self._lines():
            if line[: len(CELL)] == CELL:  # as it is written: no need to read what nobody asks for yet
                begin, cell = (begin, cell) if line[CELL_DIGITS] == cell else (offset, line[CELL_DIGITS])
            end = offset + len(line) + 1
            damaged += not journal.holds(line, SCHEMA)
        if cell and kept is not None and cell.decode(errors="replace") not in kept:
            end = begin
        if os.path.lexists(self.path) and self.path.stat().st_size > end:
            self.cut(end)
        if damaged:
            self._set_aside()
        self._file = self.path.open("ab")
        return damaged

    def _set_aside(self) -> None:
        """Move damaged lines to ``NAME.bad``; the good ones stay, as they are."""
        mended = self.root / f".{self.name}.mended"
        with mended.open("wb") as good, (self.root / f"{self.name}.bad").open("ab") as bad:
            for _, line in self._lines():
                (good if journal.holds(line, SCHEMA) else bad).write(line + b"\n")
            for file in (bad, good):
                file.flush()
                os.fsync(file.fileno())
        os.replace(mended, self.path)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, and force them to the disk; where that fails nothing of them remains.

        Raises:
            OSError: where the disk is full, say.
        """
        file = self._file
        assert file is not None  # noqa: S101 - who adds has opened it
        before = os.fstat(file.fileno()).st_size
        try:
            file.write(b"".join(journal.seal(dict(row)) for row in rows))
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            self.cut(before)
            self._file = self.path.open("ab")
            raise

    def cut(self, length: int) -> None:
        """Let go of what stands after ``length`` bytes."""
        self.close()
        with self.path.open("r+b") as file:
            file.truncate(length)

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:  # the buffered remainder of a line that failed
                return
