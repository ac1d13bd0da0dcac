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
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from noisewright.images.metadata import pixel_hash, pixels_of
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.protocol import (
    DifferentiableVerifier,
    FunctionVerifier,
    KeepsAnswers,
    Verifier,
    WantsPreviews,
    is_lasting,
    score,
    waits,
)
from noisewright.verifiers.timeout import Timed

log = logging.getLogger("noisewright")

FILE = "scores.sqlite3"
MOST_HELD = 20_000
"""Values in memory: some tens of megabytes of the longest."""

WAIT_SECONDS = 5.0
"""How long one process waits for another that writes to the same file, before it goes on without the file."""


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


class JsonCache:
    """JSON values by key: in memory, and in an SQLite file that several processes may share.

    Each row has a checksum over key and value: what does not match is not there. A file that is locked, read-only,
    full or damaged costs a line in the log, and values are kept in memory alone from there on.

    Args:
        directory: made where it is missing; None keeps everything in memory.

    Raises:
        ValueError: where the directory cannot be made, or holds no file but something else under that name.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = directory
        self.file = None if directory is None else Path(directory) / FILE
        self._writes = True
        self._held: dict[str, Any] = {}  # the oldest first
        self._lock = threading.Lock()
        self._damage_said = False
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.file.exists() and not self.file.is_file():
                raise OSError(f"{FILE} there is no file")
        except OSError as error:
            raise ValueError(f"expected a directory to keep scores in, got {directory}: {error}") from None
        with self._spared():
            self._begin()
            return
        self.file = None  # not even begun

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known of ``keys``."""
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            missing = [key for key in wanted if key not in self._held]
            if self.file is not None and missing:
                with self._spared(), self._open() as database:
                    for key in missing:
                        row = database.execute("SELECT value, checksum FROM checked WHERE key = ?", (key,)).fetchone()
                        if row is not None:
                            self._take(key, *row)
            found = {key: self._held[key] for key in wanted if key in self._held}
            self._make_room()
            return found

    def put(self, values: Mapping[str, Any]) -> None:
        """Remember JSON-ready values."""
        with self._lock:
            self._held.update(values)
            self._make_room()
            if self.file is not None and self._writes and values:
                texts = [(key, json.dumps(value)) for key, value in values.items()]
                rows = [(key, text, _checksum(key, text.encode())) for key, text in texts]
                with self._spared(), self._open() as database:
                    database.executemany("INSERT OR REPLACE INTO checked VALUES (?, ?, ?)", rows)

    def _make_room(self) -> None:
        """Forget the oldest of too many: a server never ends. What is in the file is read again."""
        for key in [*islice(self._held, max(0, len(self._held) - MOST_HELD))]:
            del self._held[key]

    def _take(self, key: str, value: Any, checksum: Any) -> None:
        if isinstance(value, bytes) and checksum == _checksum(key, value).encode():
            self._held[key] = json.loads(value)
        elif not self._damage_said:
            self._damage_said = True
            log.warning("%s is damaged: what does not match its checksum is asked for again", self.file)

    def _begin(self) -> None:
        with self._open() as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if b"checked" not in tables:
                columns = "key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL"
                database.execute(f"CREATE TABLE IF NOT EXISTS checked ({columns})")
                if b"shelf" in tables:
                    log.warning("%s has scores of an earlier version, without checksums; they are not used", self.file)
            database.execute("SELECT key, value, checksum FROM checked LIMIT 1").fetchall()

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """A file that fails costs no score: it is only said, once. One that is read-only is read all the same."""
        try:
            yield
        except sqlite3.Error as error:
            log.warning("scores are not kept in %s: %s", self.file, error)
            if str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_READONLY"):
                self._writes = False
            else:
                self.file = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Opened for each use: no connection is shared between threads or forked processes.
        with closing(sqlite3.connect(str(self.file), timeout=WAIT_SECONDS)) as database, database:
            database.text_factory = bytes  # damaged text need not be UTF-8
            yield database


def _checksum(key: str, value: bytes) -> str:
    return hashlib.sha256(key.encode() + b" " + value).hexdigest()[:32]


class Cached:
    """A verifier that is asked once for each (image, prompt): equal images, and images of earlier runs, cost nothing.

    The key is (image hash, prompt, fingerprint), so nothing is reused once the verifier changes. Failures (NaN) are not
    kept. On disk are scores of a ``lasting`` verifier alone (:class:`~.Verifier`): those of others
    are kept in memory, with a line in the log.

    Args:
        verifier: what is asked.
        directory: where scores outlive the process, or a shelf there; None keeps them in memory.
    """

    def __init__(self, verifier: Verifier, directory: str | Path | JsonCache | None = None) -> None:
        self.verifier = verifier
        self.name = verifier.name
        if directory is not None and not is_lasting(verifier):
            log.warning("scores of %s are not kept on disk: %s", verifier.name, why_not_lasting(verifier))
            directory = None
        self._kept = directory if isinstance(directory, JsonCache) else JsonCache(directory)

    @property
    def lasting(self) -> bool:
        return is_lasting(self.verifier)

    @property
    def fingerprint(self) -> str:
        """The verifier's."""
        return self.verifier.fingerprint

    @property
    def waits(self) -> bool:
        return waits(self.verifier)

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        keys = [key_of(image, prompt, self.fingerprint) for image in image_hashes(images)]
        known = self._kept.get(keys)
        rows = {key: keys.index(key) for key in keys if key not in known}
        if rows:
            found = score(self.verifier, images[list(rows.values())], prompt)
            new = {key: value for key, value in zip(rows, found, strict=True) if not math.isnan(value)}
            self._kept.put(new)
            known.update(new)
        return [known.get(key, math.nan) for key in keys]


class _CachedDifferentiable(Cached):
    """:class:`Cached` over a verifier with a gradient, which is not cached."""

    lasting = Cached.lasting

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return self.verifier.gradient_scores(images, prompt)  # type: ignore[attr-defined]


def cached(verifier: Verifier, directory: str | Path | JsonCache | None = None) -> Verifier:
    """``verifier`` with a memory; see :class:`Cached`.

    One that keeps answers by itself (``keep_in``) is told where; one whose scores need more than the image
    (``preview_sigma``) is left as it is.

    Raises:
        ValueError: where the directory cannot be used.
    """
    if isinstance(verifier, KeepsAnswers):
        verifier.keep_in(directory.directory if isinstance(directory, JsonCache) else directory)
        return verifier
    if isinstance(verifier, WantsPreviews):
        return verifier
    kind = _CachedDifferentiable if isinstance(verifier, DifferentiableVerifier) else Cached
    return kind(verifier, directory)  # type: ignore[return-value]  # whose fingerprint is read-only


def all_cached(verifiers: Sequence[Verifier], directory: str | Path) -> list[Verifier]:
    """Each of ``verifiers`` :func:`cached`, with one shelf for all, so that a file that fails is met once."""
    shelf = JsonCache(directory) if any(is_lasting(one) for one in verifiers) else directory
    return [cached(one, shelf) for one in verifiers]


def why_not_lasting(verifier: Any) -> str:
    """Why nothing of a verifier is looked up on disk."""
    inner = verifier
    while isinstance(inner, (Cached, Timed)):
        inner = inner.verifier
    for kind, word in ((FunctionVerifier, "function"), (HttpVerifier, "server")):
        if isinstance(inner, kind):
            return f"nothing says when a {word} changes"
    return "it does not say that its fingerprint covers all that they depend on (lasting = True)"
