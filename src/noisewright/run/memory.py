"""A run that is kept nowhere: for trying a search without its model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisewright.run.store import Store


class MemoryStore(Store):
    """A :class:`~noisewright.run.store.Store` of one process's time, which writes no file and reads none.

    States are held as long as it is; of images, which nobody looks at again, nothing is.

    Args:
        run: as in ``run.json``: its ``spec`` and ``versions``.
    """

    def __init__(self, run: dict[str, Any]) -> None:
        self.root = Path("nowhere")
        self.run = run
        self.warnings = []
        self._states: dict[str, Any] = {}

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def append(self, record: dict[str, Any]) -> None:
        pass

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        yield

    def write(self, **changes: Any) -> None:
        self.run.update(changes)

    def save_image(self, name: str, png: bytes) -> str:
        return f"images/{name}.png"

    def holds(self, relative: str, pixels: str, digest: str | None = None) -> bool:
        return True

    def image(self, relative: str, pixels: str) -> None:
        return None

    def save_state(self, name: str, state: Any) -> str:
        self._states[name] = state
        return name

    def state(self, name: str, digest: str | None) -> Any | None:
        return self._states.get(name)

    def forget_state(self, name: str) -> None:
        self._states.pop(name, None)

    def is_asked_to_stop(self) -> bool:
        return False

    def close(self) -> None:
        self._states.clear()
