"""How far a long call is, and how long the rest will take: what measuring, fitting and comparing report."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

RECENT = 24
"""Pieces of work that tell the pace."""


@dataclass(frozen=True)
class Progress:
    """How far a call is.

    Attributes:
        doing: what it does now, such as "searching".
        done: how much of that is done.
        total: how much there is to do.
        unit: what is counted, in the plural.
        note: what else there is to say, such as the best value so far.
        share: of the whole call, how much is done, in [0, 1].
        seconds_left: of the whole call, all that comes after this included; None until something has been timed.
    """

    doing: str
    done: int
    total: int
    unit: str
    note: str = ""
    share: float = 0.0
    seconds_left: float | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (f"{self.doing}: {self.done} of {self.total} {self.unit}", self.note) if part)


Report = Callable[[Progress], None]
"""What is called with the progress after each piece of work; an exception of its own ends the call."""


class Work:
    """Adds up a call whose cost is known beforehand, and reports how far it is.

    Args:
        cost: of the whole call, in units that take about as long as each other (guided network calls times images).
        report: what to call.
    """

    def __init__(self, cost: float, report: Report | None) -> None:
        self.cost = self.left = cost
        self._report = report
        self._pieces: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._since = time.perf_counter()
        self._now = Progress("beginning", 0, 1, "")

    def begin(self, doing: str, total: int, unit: str, note: str = "") -> None:
        """A new part of the call."""
        self._now = Progress(doing, 0, total, unit, note)
        self._since = time.perf_counter()
        self._tell()

    def count(self, done: int = 1, note: str | None = None) -> None:
        """So many more of the part are done."""
        now = self._now
        self._now = replace(now, done=now.done + done, note=now.note if note is None else note)
        self._tell()

    def spend(self, cost: float, made: bool = True) -> None:
        """A piece of work is done, or was on the disk (``made`` is False), which says nothing of the pace."""
        now = time.perf_counter()
        if made:
            self._pieces.append((now - self._since, cost))
        self._since = now
        self.left = max(0.0, self.left - cost)
        self._tell()

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the last pieces; None before the first."""
        spent = sum(cost for _, cost in self._pieces)
        return self.left * sum(seconds for seconds, _ in self._pieces) / spent if spent else None

    def _tell(self) -> None:
        if self._report is not None:
            share = 1 - self.left / self.cost if self.cost else 0.0
            self._report(replace(self._now, share=share, seconds_left=self.seconds_left))
