"""What ``noisewright calibrate`` measured of a profile that is not done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from noisewright.run import journal
from noisewright.run.digests import digest_of
from noisewright.run.particle import number_or_nan
from noisewright.schemas.checked import checked
from noisewright.schemas.profiles import MEASURED


class Measured(NamedTuple):
    """Images of one prompt.

    Attributes:
        scores: one for each candidate.
        seconds: of each batch, an image's share.
    """

    scores: list[float]
    seconds: list[float]


class Measurements:
    """What was measured of a profile that is not done, beside its file: a sealed line for each prompt and way.

    Args:
        path: of the profile; None keeps nothing.
        header: of the profile: what was measured for another one does not count.

    Attributes:
        known: what was measured, by its key.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        self._file = None if path is None else path.with_name(f"{path.name}.part")
        self._header = header
        self.known: dict[str, Measured] = {}
        if self._file is None or not self._file.exists():
            return
        lines, torn = journal.split(self._file.read_bytes())
        for record in filter(None, (journal.unseal(line, journal.SEALED) for line in lines)):
            checked(MEASURED, record, str(self._file))
            scores = [number_or_nan(one) for one in record["scores"]]
            self.known[record["key"]] = Measured(scores, record["seconds"])
        if torn:
            self._append(b"\n")  # what comes next is a line of its own

    def key(self, row: Mapping[str, Any], prompt: str, way: str) -> str:
        """What names the images of a prompt in a setting, made one way."""
        return digest_of(json.dumps([self._header, dict(row), prompt, way], sort_keys=True).encode())[:16]

    def add(self, key: str, made: Measured) -> None:
        """Keep what was measured."""
        self.known[key] = made
        scores = [one if math.isfinite(one) else None for one in made.scores]
        self._append(journal.seal({"verb": "measured", "key": key, "scores": scores, "seconds": list(made.seconds)}))

    def clear(self) -> None:
        """It is in the profile now."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _append(self, line: bytes) -> None:
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(line)
