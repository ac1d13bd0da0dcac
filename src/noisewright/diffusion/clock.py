"""The clock of a model: which noise level belongs to which time of its network, and how far both go."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

FLOW_END = 1e-3
"""A flow model's finite levels are taken from sigma = 0.001 to 0.999; s is 0 and infinite at its ends."""

ROUNDING = 1e-5
"""Relative: a level that is so near to an end of the model's range is in it."""


@dataclass(frozen=True)
class Level:
    """One noise level: what the network is given as its time, and the scales of image and noise."""

    t: float
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Clock:
    """A model's own map between its time t and its noise level ``s = sigma / alpha``.

    Attributes:
        kind: ``vp`` or ``flow``, which says what alpha and sigma belong to s.
        levels: s at the times 0, 1, ..., rising, of a VP model. Between them t goes with ln s, as in diffusers.
        unit: of a flow model, the time at which sigma is 1; the time goes with sigma.
        shift: of a flow model, ``sigma = shift u / (1 + (shift - 1) u)`` for the time u in [0, 1] before its shift,
            in which its own steps are even.
    """

    kind: str
    levels: tuple[float, ...] = ()
    unit: float = 1000.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("vp", "flow"):
            raise ValueError(f"expected kind vp or flow, got {self.kind!r}")
        if self.kind == "vp" and len(self.levels) < 2:
            raise ValueError(f"expected the levels of at least 2 times, got {len(self.levels)}")

    @property
    def last(self) -> float:
        """The latest time: that of the noisiest level."""
        return float(len(self.levels) - 1) if self.kind == "vp" else self.unit

    @property
    def lowest(self) -> float:
        """The cleanest level s that the network is asked at."""
        return self.levels[0] if self.kind == "vp" else FLOW_END / (1 - FLOW_END)

    @property
    def highest(self) -> float:
        """The noisiest finite level s."""
        if self.kind == "flow":
            return (1 - FLOW_END) / FLOW_END
        return self.levels[-1] if math.isfinite(self.levels[-1]) else self.levels[-2]

    def at(self, t: float) -> Level:
        """The level at a time.

        Raises:
            ValueError: outside the model's range.
        """
        if not 0 <= t <= self.last:
            raise ValueError(f"expected a time in [0, {self.last:g}], the model's range, got {t:g}")
        if self.kind == "flow":
            return Level(t, 1 - t / self.unit, t / self.unit)
        before = min(int(t), len(self.levels) - 2)
        part, low, high = t - before, self.levels[before], self.levels[before + 1]
        if part in (0, 1):
            return vp_level(t, high if part else low)
        if math.isinf(high):  # the last time of a model with no signal left at its end
            between = low / (1 + low) + part * (1 - low / (1 + low))
            return vp_level(t, between / (1 - between))
        return vp_level(t, math.exp(math.log(low) + part * (math.log(high) - math.log(low))))

    def of(self, s: float) -> Level:
        """The level ``s = sigma / alpha``, with its time.

        Raises:
            ValueError: outside the model's range.
        """
        if self.kind == "flow":
            sigma = 1.0 if math.isinf(s) else s / (1 + s)
            return Level(sigma * self.unit, 1 - sigma, sigma)
        lowest, highest = self.levels[0], self.levels[-1]
        if not lowest * (1 - ROUNDING) <= s <= highest * (1 + ROUNDING):
            raise ValueError(
                f"expected a level s = sigma / alpha in [{lowest:.4g}, {highest:.4g}], the model's range, got {s:.4g}"
            )
        after = min(max(bisect_left(self.levels, s), 1), len(self.levels) - 1)
        low, high = self.levels[after - 1], self.levels[after]
        if math.isinf(high):
            part = (s / (1 + s) - low / (1 + low)) / (1 - low / (1 + low)) if math.isfinite(s) else 1.0
        else:
            part = (math.log(s) - math.log(low)) / (math.log(high) - math.log(low))
        return vp_level(after - 1 + min(max(part, 0.0), 1.0), s)


def vp_level(t: float, s: float) -> Level:
    """A time with the VP level of ``s = sigma / alpha``."""
    if math.isinf(s):
        return Level(t, 0.0, 1.0)
    scale = 1 / math.sqrt(1 + s * s)
    return Level(t, scale, s * scale)
