"""What asking a model has cost, kept on disk: a command that was killed goes on, and the next one asks for less.

A file is named by a hash of all that its content depends on: the sampler's description (model, prompt, settings,
levels, solver), the seeds, and what was measured. So changed settings never meet old files, and there is nothing to
invalidate: the directory may be deleted at any time. What it depends on is in the file too, with a checksum over that
and all of the content: a file that is damaged, cut, or another's under its name is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from noisewright.outside.files import write_atomically
from noisewright.samplers.protocol import Sampler

VERSION = 1
"""Part of every name: raised when what is computed changes though no setting does."""

KEY, CHECKSUM = "depends_on", "checksum"
"""Of a file's metadata."""

log = logging.getLogger("noisewright")


class DiskCache:
    """Tensors in a directory, by what they depend on.

    Args:
        root: the directory, made when something is written; None keeps nothing.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = None if root is None else Path(root)
        self._said: set[str] = set()

    def get(self, kind: str, *depends_on: Any) -> dict[str, Tensor] | None:
        """What is there; None where it is not, or is not what was written, which is said once.

        Raises:
            TypeError: where ``depends_on`` is not all JSON.
        """
        key = _key(kind, depends_on)
        file = self._file(kind, key)
        if file is None:
            return None
        try:
            raw = file.read_bytes() if file.is_file() else None
        except OSError as error:
            self._say(file, f"cannot be read ({error.strerror or error})")
            return None
        if raw is None:
            return None
        found, wrong = _checked(raw, key)
        if found is None:
            self._say(file, wrong)
        return found

    def put(self, tensors: Mapping[str, Tensor], kind: str, *depends_on: Any) -> None:
        """Write tensors, and have them on the disk; a full one costs a warning, and what was computed goes on.

        Raises:
            TypeError: where ``depends_on`` is not all JSON.
        """
        key = _key(kind, depends_on)
        file = self._file(kind, key)
        if file is None:
            return
        held = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, save(held, {KEY: key, CHECKSUM: _checksum(key, held)}))
        except OSError as error:
            log.warning("cannot keep what was computed in %s, and go on without: %s", self.root, error)
            self.root = None

    def drop(self, kind: str, *depends_on: Any) -> None:
        """Forget something, if it is there."""
        file = self._file(kind, _key(kind, depends_on))
        if file is not None:
            with suppress(OSError):
                file.unlink()

    def _file(self, kind: str, key: str) -> Path | None:
        if self.root is None:
            return None
        return self.root / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"

    def _say(self, file: Path, wrong: str) -> None:
        if wrong not in self._said:
            self._said.add(wrong)
            log.warning("%s %s; it is made again, and so are others like it", file, wrong)


def sampler_key(sampler: Sampler) -> list[Any]:
    """What the states of a sampler depend on, beside its seeds."""
    solver = getattr(sampler, "solver", None)
    return [dict(sampler.description), sampler.schedule.digest, getattr(solver, "name", None)]


def _key(kind: str, depends_on: Any) -> str:
    """All that something depends on as one text, different for different values.

    Raises:
        TypeError: on a value that JSON has not, whose text might be another's too.
    """
    return json.dumps([VERSION, kind, *map(_plain, depends_on)], sort_keys=True)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(one) for name, one in value.items()}
    raise TypeError(f"expected what is kept to depend on JSON values, got {type(value).__name__} {str(value)[:60]}")


def _checked(raw: bytes, key: str) -> tuple[dict[str, Tensor] | None, str]:
    """The tensors of a file, or None and what is wrong with it."""
    try:
        length = int.from_bytes(raw[:8], "little")
        about = json.loads(raw[8 : 8 + length]).get("__metadata__") or {}
        known, checksum = about.get(KEY), about.get(CHECKSUM)
        found = dict(load(raw))
    # Damaged bytes fail anywhere on the way; RecursionError is of JSON.
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError):
        return None, "is damaged"
    if checksum is None and known is None:
        return None, "has no checksum, as an earlier version wrote it"
    if known != key:
        return None, "belongs to other settings"
    if checksum != _checksum(key, found):
        return None, "is damaged"
    return found, ""


def _checksum(key: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a key and the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(f"{len(key)} {key}".encode())
    for name in sorted(tensors):
        one = tensors[name]
        digest.update(json.dumps([name, str(one.dtype), list(one.shape)]).encode())
        digest.update(one.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
