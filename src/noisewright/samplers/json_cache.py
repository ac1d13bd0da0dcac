"""What is found once and kept from run to run: a file a key in the user's cache directory, and in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from noisewright.outside.files import write_atomically
from noisewright.outside.messages import first_line, short
from noisewright.samplers.contents import cache_file
from noisewright.samplers.identity import as_text
from noisewright.schemas.reading import read_json

Value = TypeVar("Value")

log = logging.getLogger("noisewright")


def key_of(about: Mapping[str, Any]) -> str:
    """32 hex digits of what a value depends on, as JSON."""
    return hashlib.sha256(as_text(dict(about)).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class JsonCache(Generic[Value]):
    """Values of one kind by their keys; where no file can be written, for as long as this process lives.

    Attributes:
        name: of such a value, as its file has it; its files lie in the directory of the plural.
        check: takes a file's JSON and its name, and refuses what is none by a ValueError in one line.
        from_json: a value of what :attr:`to_json` gave.
        to_json: a value as JSON.
    """

    name: str
    check: Callable[[Any, str], dict[str, Any]]
    from_json: Callable[[dict[str, Any]], Value]
    to_json: Callable[[Value], dict[str, Any]]
    _known: dict[str, Value] = field(default_factory=dict)

    def file(self, key: str) -> Path:
        """Where the value of a key is kept."""
        return cache_file().parent / f"{self.name}s" / f"{key}.json"

    def get(self, key: str) -> Value | None:
        """What was found before; None where nothing was, and of a file that is damaged or another's, which is said."""
        if key not in self._known:
            found = self._read(key)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def keep(self, key: str, value: Value) -> None:
        """Keep what was found; a value that could not be read again is kept by this process alone."""
        self._known[key] = value
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            file, held = self.file(key), {"key": key, self.name: self.to_json(value)}
            self.check(held, str(file))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(held, indent=1, allow_nan=False).encode(), sync=False)

    def forget(self) -> None:
        """Forget what this process knows; files stay."""
        self._known.clear()

    def _read(self, key: str) -> Value | None:
        try:
            file = self.file(key)
            found = self.check(read_json(file, f"a kept {self.name}"), str(file))
            if found["key"] != key:
                raise ValueError(f"expected the {self.name} of {key} in {file}, got that of {short(found['key'])}")
            return self.from_json(found[self.name])
        except (FileNotFoundError, NotADirectoryError, RuntimeError):
            return None
        except (OSError, ValueError) as error:
            log.warning("a kept %s is ignored, and found again where it is asked for: %s", self.name, first_line(error))
            return None
