"""Who is at the model: one model at a time, and of those who want the same one a micro-batch each in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
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
    def turn(self, given_up: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Wait until it is this thread's turn, and have it to the end of the block; gives whether it came to that.

        Args:
            given_up: asked whether to wait no more; after a change of it :meth:`look` is to be called.
        """
        came = self._take(given_up)
        try:
            yield came
        finally:
            if came:
                self._give()

    def pass_on(self) -> None:
        """Let those who wait go first; who calls it has the turn, and has it again afterwards."""
        with self._changed:
            if len(self._line) < 2:
                return
        self._give()
        self._take()

    def look(self) -> None:
        """Have those who wait ask anew whether they have given up."""
        with self._changed:
            self._changed.notify_all()

    def _take(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        mine = object()
        with self._changed:
            self._line.append(mine)
            self._changed.wait_for(lambda: self._line[0] is mine or given_up())
            if self._line[0] is mine:
                return True
            self._line.remove(mine)
            return False

    def _give(self) -> None:
        with self._changed:
            self._line.popleft()
            self._changed.notify_all()


class Line:
    """Who may be at the model together: first come, first served; those of one model join each other.

    Nobody overtakes: who wants another model waits until those that are there have gone, and who comes later waits too.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._there: list[str | None] = []

    @contextmanager
    def at(self, model: str | None, given_up: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the model, and have it to the end of the block; gives whether it came to that.

        Args:
            model: what identifies it; None is for who wants to be alone.
            given_up: asked whether to wait no more; after a change of it :meth:`look` is to be called.
        """
        mine = object()
        with self._changed:
            self._line.append(mine)
            self._changed.wait_for(lambda: given_up() or (self._line[0] is mine and self._may_join(model)))
            self._line.remove(mine)
            came = not given_up()
            if came:
                self._there.append(model)
            self._changed.notify_all()
        try:
            yield came
        finally:
            if came:
                with self._changed:
                    self._there.remove(model)
                    self._changed.notify_all()

    def _may_join(self, model: str | None) -> bool:
        return not self._there or (model is not None and all(one == model for one in self._there))

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._changed:
            return len(self._line)

    @property
    def there(self) -> int:
        """How many have the model."""
        with self._changed:
            return len(self._there)

    def look(self) -> None:
        """Have those who wait ask anew whether they have given up."""
        with self._changed:
            self._changed.notify_all()
