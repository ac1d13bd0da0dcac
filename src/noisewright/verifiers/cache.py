"""Scores that were given before: by image, prompt and verifier, in memory and, where asked for, in a directory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from noisewright.metadata import pixel_hash, pixels_of
from noisewright.verifier import DifferentiableVerifier, FunctionVerifier, Verifier, score
from noisewright.verifiers.http import HttpVerifier

log = logging.getLogger("noisewright")

FILE = "scores.sqlite3"
WAIT_SECONDS = 30.0
"""How long one process waits for another that writes to the same file."""


def image_hashes(images: Tensor) -> list[str]:
    """SHA-256 of each image's size and 8-bit pixels, as it is saved and scored.

    Args:
        images: (batch, 3, height, width) in [0, 1].
    """
    arrays = pixels_of(images)
    return [f"{array.shape[1]}x{array.shape[0]}-{pixel_hash(array)}" for array in arrays]


def key_of(*parts: Any) -> str:
    """One key for JSON-ready parts, such as (image hash, prompt, fingerprint)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Shelf:
    """JSON values by key: in memory, and in an SQLite file that several processes may share.

    Args:
        directory: made where it is missing; None keeps everything in memory.

    Raises:
        ValueError: where the directory holds another file under that name, or cannot be used.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.file = None if directory is None else Path(directory) / FILE
        self._held: dict[str, Any] = {}
        self._lock = threading.Lock()
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self._open() as database:
                    database.execute("CREATE TABLE IF NOT EXISTS shelf (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                    database.execute("SELECT key, value FROM shelf LIMIT 1").fetchall()
            except (OSError, sqlite3.Error) as error:
                raise ValueError(f"expected a directory to keep scores in, got {directory}: {error}") from None

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known of ``keys``."""
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            missing = [key for key in wanted if key not in self._held]
            if self.file is not None and missing:
                with self._spared(), self._open() as database:
                    for key in missing:
                        row = database.execute("SELECT value FROM shelf WHERE key = ?", (key,)).fetchone()
                        if row is not None:
                            self._held[key] = json.loads(row[0])
            return {key: self._held[key] for key in wanted if key in self._held}

    def put(self, values: Mapping[str, Any]) -> None:
        """Remember JSON-ready values."""
        with self._lock:
            self._held.update(values)
            if self.file is not None and values:
                rows = [(key, json.dumps(value)) for key, value in values.items()]
                with self._spared(), self._open() as database:
                    database.executemany("INSERT OR REPLACE INTO shelf VALUES (?, ?)", rows)

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """A file that fails later on (a full disk, say) costs no score: it is only said, once."""
        try:
            yield
        except sqlite3.Error as error:
            log.warning("scores are not kept in %s any more: %s", self.file, error)
            self.file = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Opened for each use: no connection is shared between threads or forked processes.
        with closing(sqlite3.connect(str(self.file), timeout=WAIT_SECONDS)) as database, database:
            yield database


class Cached:
    """A verifier that is asked once for each (image, prompt): equal images, and images of earlier runs, cost nothing.

    The key is (image hash, prompt, fingerprint), so nothing is reused once the verifier changes. Failures (NaN) are not
    kept.

    Args:
        verifier: what is asked.
        directory: where scores outlive the process; None keeps them in memory.
    """

    def __init__(self, verifier: Verifier, directory: str | Path | None = None) -> None:
        self.verifier = verifier
        self.name = verifier.name
        self._shelf = Shelf(directory)

    @property
    def fingerprint(self) -> str:
        """The verifier's."""
        return self.verifier.fingerprint

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        keys = [key_of(image, prompt, self.fingerprint) for image in image_hashes(images)]
        known = self._shelf.get(keys)
        rows = {key: keys.index(key) for key in keys if key not in known}
        if rows:
            found = score(self.verifier, images[list(rows.values())], prompt)
            new = {key: value for key, value in zip(rows, found, strict=True) if not math.isnan(value)}
            self._shelf.put(new)
            known.update(new)
        return [known.get(key, math.nan) for key in keys]


class _CachedDifferentiable(Cached):
    """:class:`Cached` over a verifier with a gradient, which is not cached."""

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return self.verifier.gradient_scores(images, prompt)  # type: ignore[attr-defined]


def cached(verifier: Verifier, directory: str | Path | None = None) -> Verifier:
    """``verifier`` with a memory.

    One that keeps answers by itself (``keep_in``) is told where; one whose scores need more than the image
    (``preview_sigma``) is left as it is. Of a function, whose fingerprint is its own source and not that of what it
    calls, and of a server, scores are kept in memory alone.

    Raises:
        ValueError: where the directory cannot be used.
    """
    if hasattr(verifier, "keep_in"):
        verifier.keep_in(directory)
        return verifier
    if hasattr(verifier, "preview_sigma"):
        return verifier
    asked = verifier.verifier if isinstance(verifier, Cached) else verifier
    if directory is not None and isinstance(asked, (FunctionVerifier, HttpVerifier)):
        kind_of = "function" if isinstance(asked, FunctionVerifier) else "server"
        log.warning("scores of %s are not kept on disk: nothing says when a %s changes", verifier.name, kind_of)
        directory = None
    kind = _CachedDifferentiable if isinstance(verifier, DifferentiableVerifier) else Cached
    return kind(verifier, directory)  # type: ignore[return-value]  # whose fingerprint is read-only
