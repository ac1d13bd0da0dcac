"""Where a pipeline object was loaded from: what its records say beside its fingerprint, to load it again."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lora:
    """A LoRA that was added to a pipeline.

    Attributes:
        file: its path.
        sha256: of the whole file, 64 hex digits.
        weight: what its change is multiplied with.
    """

    file: str
    sha256: str
    weight: float

    def to_json(self) -> dict[str, Any]:
        """What records say of it: the file's own name, not where it lies."""
        return {"file": self.file.replace("\\", "/").rpartition("/")[2], "sha256": self.sha256, "weight": self.weight}


@dataclass(frozen=True)
class Source:
    """What a pipeline was loaded from.

    Attributes:
        name: the directory, hub id or single file.
        variant: of its weights, such as fp16.
        config: the directory or hub id of the configurations beside a single file.
        loras: in the order in which they were added.
        compile: whether its networks were compiled.
        channels_last: whether its convolutions have channels last.
    """

    name: str
    variant: str | None = None
    config: str | None = None
    loras: tuple[Lora, ...] = ()
    compile: bool = False
    channels_last: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a description says beside the model's name: only what was asked for."""
        found: dict[str, Any] = {"variant": self.variant, "config": self.config}
        found["loras"] = [one.to_json() for one in self.loras] or None
        found |= {"compile": self.compile or None, "channels_last": self.channels_last or None}
        return {key: value for key, value in found.items() if value is not None}


_sources: weakref.WeakKeyDictionary[Any, Source] = weakref.WeakKeyDictionary()


def remember(pipe: Any, source: Source) -> None:
    """Note where a pipeline was loaded from, for as long as the object lives."""
    _sources[pipe] = source


def source_of(pipe: Any) -> Source | None:
    """Where a pipeline was loaded from; None for one that somebody else made."""
    try:
        return _sources.get(pipe)
    except TypeError:  # no object that can be looked up
        return None


def name_of(pipe: Any) -> str:
    """What a pipeline object calls itself: where it was loaded from, or its class."""
    return str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)
