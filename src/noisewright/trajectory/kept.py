"""What asking a model has cost, kept on disk: a command that was killed goes on, and the next one asks for less.

A file is named by a hash of all that its content depends on: the sampler's description (model, prompt, settings,
levels, solver), the seeds, and what was measured. So changed settings never meet old files, and there is nothing to
invalidate: the directory may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from noisewright.files import write_atomically
from noisewright.sampler import Sampler

VERSION = 1
"""Part of every name: raised when what is computed changes though no setting does."""

log = logging.getLogger("noisewright")


class Kept:
    """Tensors in a directory, by what they depend on.

    Args:
        root: the directory, made when something is written; None keeps nothing.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = None if root is None else Path(root)

    def get(self, kind: str, *depends_on: Any) -> dict[str, Tensor] | None:
        """What is there; None where it is not, or is damaged."""
        file = self._file(kind, depends_on)
        if file is None or not file.is_file():
            return None
        try:
            return dict(load(file.read_bytes()))
        except (SafetensorError, OSError):
            return None

    def put(self, tensors: Mapping[str, Tensor], kind: str, *depends_on: Any) -> None:
        """Write tensors; a full disk costs a warning, and what was computed goes on."""
        file = self._file(kind, depends_on)
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, save({name: one.contiguous() for name, one in tensors.items()}), sync=False)
        except OSError as error:
            log.warning("cannot keep what was computed in %s, and go on without: %s", self.root, error)
            self.root = None

    def drop(self, kind: str, *depends_on: Any) -> None:
        """Forget something, if it is there."""
        file = self._file(kind, depends_on)
        if file is not None:
            file.unlink(missing_ok=True)

    def made(self, make: Callable[[], Mapping[str, Tensor]], kind: str, *depends_on: Any) -> dict[str, Tensor]:
        """What is there, or else what ``make`` gives, which is then kept."""
        found = self.get(kind, *depends_on)
        if found is None:
            found = dict(make())
            self.put(found, kind, *depends_on)
        return found

    def _file(self, kind: str, depends_on: Any) -> Path | None:
        if self.root is None:
            return None
        text = json.dumps([VERSION, kind, *depends_on], sort_keys=True, default=str)
        return self.root / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def depends(sampler: Sampler) -> list[Any]:
    """What the states of a sampler depend on, beside its seeds."""
    solver = getattr(sampler, "solver", None)
    return [dict(sampler.description), sampler.schedule.digest, getattr(solver, "name", None)]
