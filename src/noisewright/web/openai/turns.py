"""Turns at the model: who asked first goes first, a micro-batch each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is given in the order in which it was asked for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._changed:
            return max(0, len(self._line) - 1)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is this thread's turn, and have it to the end of the block."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pass_on(self) -> None:
        """Let those who wait go first; who calls it has the turn, and has it again afterwards."""
        with self._changed:
            if len(self._line) < 2:
                return
        self._give()
        self._take()

    def _take(self) -> None:
        mine = object()
        with self._changed:
            self._line.append(mine)
            self._changed.wait_for(lambda: self._line[0] is mine)

    def _give(self) -> None:
        with self._changed:
            self._line.popleft()
            self._changed.notify_all()
