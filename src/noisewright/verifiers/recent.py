"""What was computed of late, such as of a prompt: a server is asked for ever, and always about another one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Generic, TypeVar

MOST = 64
"""Values that are remembered."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values of the last keys that were asked for, safe in any thread.

    Args:
        most: how many.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self._most,)  # another process computes anew

    def get(self, key: Key) -> Value | None:
        """The value of a key, which is the last one from now on; None where it is not known (any more)."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, value: Value) -> Value:
        """Remember a value, which is given back; what was not asked for the longest goes where there are too many."""
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return value
