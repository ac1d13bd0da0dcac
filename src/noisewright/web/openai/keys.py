"""``Idempotency-Key``: which request a client means that it sends again, kept beside the notes of the requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from noisewright.outside.files import write_atomically
from noisewright.web.openai.fields import GenerationFields
from noisewright.web.openai.jobs import ID, Job

NOT_ASKED_FOR = {"user", "safety_identifier"}
"""Fields of which nothing is kept, not even a hash."""


def hash_of(kind: str, key: str | None) -> str:
    """What is kept of a client's key; empty without one."""
    return hashlib.sha256(f"{kind} {key}".encode()).hexdigest() if key else ""


def digest_of(fields: GenerationFields, files: Mapping[str, bytes]) -> str:
    """What tells one body of a request from another."""
    given = fields.model_dump(mode="json", exclude_none=True, exclude=NOT_ASKED_FOR)
    pictures = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return hashlib.sha256(json.dumps([given, pictures], sort_keys=True).encode()).hexdigest()


class Keys:
    """Which job each key is of: a small file each, however many there are.

    Args:
        folder: of the notes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, hashed: str) -> str:
        """The id of the last job of a key; empty where there is none."""
        found = ""
        if hashed:
            with suppress(OSError, ValueError):
                found = self._path(hashed).read_text(encoding="ascii")[:100]
        return found if ID.fullmatch(found) else ""

    def put(self, hashed: str, job_id: str) -> None:
        """A key is of this job from now on.

        Raises:
            OSError: where that cannot be written.
        """
        if hashed:
            write_atomically(self._path(hashed), job_id.encode())

    def adopt(self, jobs: Iterable[Job]) -> None:
        """Take up the keys of notes that an earlier version left."""
        for job in sorted(jobs, key=lambda one: (one.created, one.id)):
            if job.key and len(job.key) == 64 and job.key.isalnum() and self.find(job.key) == "":
                with suppress(OSError):
                    self.put(job.key, job.id)

    def _path(self, hashed: str) -> Path:
        return self._folder / f"key_{hashed}"
