"""A run that is watched: its journal read from where it was left, its lines added up by the one reducer.

A look at a run of ten thousand candidates reads what is new of it. Whoever looks takes no lock and writes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from noisewright.run.ledger import Ledger, recovery
from noisewright.run.locks import is_being_written
from noisewright.run.reading import JournalReader, is_intact, read_run
from noisewright.schemas.journal import check_record


class Watch:
    """A run directory that is looked at again and again.

    Attributes:
        root: the directory.
        run: ``run.json`` as of the last look.
        ledger: what the journal says as of the last look.
        status: what ``run.json`` says, or ``killed`` where it says running but no process is writing.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.run: dict[str, Any] = {}
        self.ledger = Ledger(recovery(self.root))
        self.status = ""
        self._reader: JournalReader | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._intact = True
        self._lines = 0

    def look(self) -> bool:
        """Take in what is new; whether there was anything.

        Raises:
            ValueError: where the directory is no run, or none any more.
        """
        # Looked at first: a run that ends after this has said so in run.json before it let go of its lock.
        written = is_being_written(self.root)
        changed = self._read_run()
        recorded, before = str(self.run["status"]), self.status
        self.status = "killed" if recorded == "running" and written is False else recorded
        reader = self._reader or JournalReader(self.root, int(self.run["schema_version"]))
        try:
            records, anew = reader.read()
        except FileNotFoundError:
            raise ValueError(f"expected a run directory with its journal, got {self.root}, which is gone") from None
        if anew or self._reader is None:
            self.ledger, self._lines = Ledger(recovery(self.root)), 0
        self._reader = None  # what cannot be added up is no state to go on from: the next look begins anew
        for record in records:
            self._lines += 1
            self.ledger.apply(check_record(record, f"line {self._lines} of {reader.path}"))
        self.ledger.forget([key for key in self.ledger.unknown if key in self.ledger.images])  # to be made again
        self._reader = reader
        return changed or bool(records) or anew or self.status != before

    def _read_run(self) -> bool:
        """Read ``run.json`` where it was replaced since the last look."""
        try:
            found = os.stat(self.root / "run.json")
        except OSError:
            self.run = read_run(self.root)  # which says what is wrong
            return True
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp == self._stamp:
            return False
        self.run, self._intact = read_run(self.root), is_intact(self.root)
        self._stamp = stamp
        return True

    @property
    def warnings(self) -> list[str]:
        """What is damaged as of the last look, a line each."""
        found = []
        bad = self._reader.damaged if self._reader is not None else 0
        if bad:
            path = self.root / "journal.jsonl"
            found.append(f"{bad} damaged lines of {path} are left out; resume makes what is missing")
        if not self._intact:
            found.append(f"{self.root / 'run.json'} was changed or damaged since it was written")
        return found
