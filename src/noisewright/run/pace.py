"""How long work takes: what a budget in seconds asks before each micro-batch."""

from __future__ import annotations

import statistics
from collections import deque

RECENT = 5
"""How many measurements of one size decide: their median, so that no outlier does by itself."""


class Pace:
    """Seconds of one part of the work by the size of the micro-batch.

    The first measurement is cold (code is compiled, weights are paged in, a server wakes up): an upper bound, of its
    own size and in proportion of any until there is another, and then of its own size where none as small was measured
    again.
    """

    def __init__(self) -> None:
        self._cold: tuple[int, float] | None = None
        self._warm: dict[int, deque[float]] = {}

    def note(self, count: int, seconds: float, *, warm: bool = False) -> None:
        """A micro-batch of ``count`` took ``seconds``; ``warm`` where it is known that nothing of it was a start."""
        if self._cold is None and not warm:
            self._cold = count, seconds
            return
        self._warm.setdefault(count, deque(maxlen=RECENT)).append(seconds)

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self._cold is not None or bool(self._warm)

    def seconds(self, count: int) -> float:
        """The estimate for a micro-batch of ``count``; 0 where nothing was measured.

        Between two sizes that were measured it is interpolated; a larger one costs in proportion, a smaller one as
        much as the smallest that was measured.
        """
        cold_size, bound = self._cold or (1, 0.0)
        if not self._warm:
            return bound / cold_size * count
        known = {size: statistics.median_low(took) for size, took in self._warm.items()}
        if self._cold and cold_size < min(known):
            known[cold_size] = min(bound, known[min(known)])
        if count in known:
            return known[count]
        below = max((size for size in known if size < count), default=None)
        above = min((size for size in known if size > count), default=None)
        if below is None or above is None:
            return known[above] if above is not None else known[below] * count / below  # type: ignore[index, operator]
        share = (count - below) / (above - below)
        return known[below] + share * max(0.0, known[above] - known[below])
