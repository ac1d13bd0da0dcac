"""Streams that may go away."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Spared:
    """A stream that may go away (a terminal that is closed) without a word: what is told there must stop no work.

    Args:
        stream: what is written to.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
