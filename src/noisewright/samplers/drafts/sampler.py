"""The sampler of a draft: parts of the way made by others, or left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisewright.diffusion.schedule import Schedule
from noisewright.samplers import optional
from noisewright.samplers.places import CPU
from noisewright.samplers.protocol import Meter, Sampler, StepNoise


class DraftSampler:
    """A :class:`noisewright.samplers.protocol.Sampler` of cheaper images from the noise of another.

    Args:
        full: what it is a draft of, on the steps of the draft: its noises, and what is said of it.
        text: the draft, as records name it.
        first: what takes the steps from index 0.
        later: what takes those from ``turn`` on; ``first`` where there is none.
        turn: where it takes over.
        stop: the index whose clean estimate is the draft's end; None where the way is gone to its own end.
        by: how many numbers of a side of the noise become one.
        every: of how many evaluations the first is counted, and the others are answered from a cache.
        whole: whether a way that is cut would be another one.
        alone: whether an image would depend on those that are made with it.
        again: makes the same draft in another number of steps.
    """

    def __init__(
        self, full: Sampler, text: str, first: Any, *, later: Any = None, turn: int | None = None,
        stop: int | None = None, by: int = 1, every: int = 1, whole: bool = False,
        alone: bool = False, again: Callable[[int], Sampler] | None = None,
    ) -> None:  # fmt: skip
        self._full, self._text, self._again = full, text, again
        self._first, self._later = first, later or first
        self._turn = turn if later is not None and turn is not None else first.schedule.steps
        self._stop, self._by, self._every = stop, by, every
        self.schedule: Schedule = first.schedule if stop is None else _cut(first.schedule, stop)
        self.meter: Meter = full.meter
        self.stochastic = full.stochastic
        self.can_split = optional.can_split(full) and not whole
        self.most_at_once = optional.most_at_once(full, 1 if alone else 2**31)
        self.warnings: list[str] = optional.warnings_of(full)
        self._resident = False

    # What it says of itself

    @property
    def description(self) -> dict[str, Any]:
        return {**self._full.description, "draft": self._text}

    @property
    def remembers(self) -> bool:
        return self._first.remembers

    @property
    def can_advance(self) -> bool:
        return bool(self._first.can_advance) and self.can_split

    @property
    def can_preview(self) -> bool:
        return optional.can_preview(self._first) and self.can_split

    @property
    def prediction(self) -> str:
        return optional.prediction_of(self._first)

    @property
    def knows_levels(self) -> bool:
        return optional.knows_levels(self._first)

    @property
    def begins_anywhere(self) -> bool:
        return optional.begins_anywhere(self._first)

    @property
    def draws_inside(self) -> bool:
        return optional.draws_inside(self._full)

    @property
    def composes(self) -> bool:
        """Whether no later state can be carried back to index 0: of a smaller image none can."""
        return optional.composes(self._full) or self._by > 1

    @property
    def flagged(self) -> list[bool]:
        return list(getattr(self._later, "flagged", []))

    @property
    def reached(self) -> tuple[int, Tensor, Any] | None:
        """Where Ctrl-C met it, unless its way cannot be gone on with."""
        found: tuple[int, Tensor, Any] | None = getattr(self._later, "reached", None)
        return found or getattr(self._first, "reached", None) if self.can_split else None

    @reached.setter
    def reached(self, value: None) -> None:
        for one in (self._first, self._later):
            if hasattr(one, "reached"):
                one.reached = value

    @property
    def resident(self) -> bool:
        return self._resident

    @resident.setter
    def resident(self, value: bool) -> None:
        self._resident = value
        for one in (self._first, self._later):
            if hasattr(one, "resident"):
                one.resident = value

    @property
    def device(self) -> torch.device:
        return getattr(self._first, "device", CPU) if hasattr(self._first, "resident") else CPU

    @property
    def frames_shown(self) -> int:
        return optional.frames_shown(self._full)

    @property
    def frame_rate(self) -> float:
        return float(getattr(self._full, "frame_rate", 1.0))

    def take_film(self) -> Tensor | None:
        """Of videos, what was decoded last (:class:`~.optional.ShowsFrames`)."""
        found: Tensor | None = self._later.take_film() if hasattr(self._later, "take_film") else None
        return found

    def nfe(self, start: int, stop: int) -> int:
        """What is asked of the whole network; a cache's answers cost nothing here, only seconds."""
        end = self.schedule.steps
        taken = min(stop, end - 1) if self._stop is not None else stop
        parts = ((self._first, start, min(taken, self._turn)), (self._later, max(start, self._turn), taken))
        cost = sum(math.ceil(one.nfe(a, b) / self._every) for one, a, b in parts if a < b)
        return cost + (self._stop is not None and start < end == stop)

    def with_steps(self, steps: int) -> Sampler:
        if self._again is None:
            raise ValueError(f"expected no other number of steps of the draft {self._text}, got {steps}")
        return self._again(steps)

    # The verbs

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """The noise of what it is a draft of, whole: it becomes that of a smaller image with the first step."""
        return self._full.noise(seeds)

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None, **given: Any,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        end = self.schedule.steps
        if not 0 <= start < stop <= end:
            raise ValueError(f"expected 0 <= start < stop <= {end}, got {start} to {stop}")
        self.reached = None
        x = self._entered(x, start)
        taken = min(stop, end - 1) if self._stop is not None else stop
        for one, a, b in ((self._first, start, min(taken, self._turn)), (self._later, max(start, self._turn), taken)):
            if a < b:
                x, state = one.denoise(x, a, b, state, noise, seeds if a == 0 else None, **given)
        if self._later is not self._first:
            self.meter.forget_pace()
        if self._stop is not None and stop == end:
            return self._at(self._stop).predict(x, self._stop, **given), None
        return x, state

    def predict(self, x: Tensor, index: int, **given: Any) -> Tensor:
        found: Tensor = self._at(index).predict(self._entered(x, index), index, **given)
        return found

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        if self._stop is not None and index == self._stop:
            return clean, None
        found: tuple[Tensor, Any] = self._at(index).advance(self._entered(x, index), index, clean, state, noise)
        return found

    def decode(self, x: Tensor, **given: Any) -> Tensor:
        found: Tensor = self._later.decode(x, **given)
        return found

    def _at(self, index: int) -> Any:
        """What is asked at an index."""
        return self._first if index < self._turn else self._later

    def _entered(self, x: Tensor, index: int) -> Tensor:
        """States as the pipeline of a smaller image takes them."""
        if index or self._by == 1:
            return x
        return pooled(x, self._by) * (self._first.schedule.start / self._full.schedule.start)


def pooled(x: Tensor, by: int) -> Tensor:
    """Unit Gaussian noise of a smaller size from that of a larger: blocks of ``by x by`` numbers, summed over ``by``.

    Args:
        x: (batch, channels, height, width), the sides multiples of ``by``.
        by: at least 1.
    """
    return F.avg_pool2d(x, by) * by


def _cut(schedule: Schedule, stop: int) -> Schedule:
    """The levels up to an index, and from there one step to the end."""
    alpha, sigma = ((*levels[: stop + 1], levels[-1]) for levels in (schedule.alpha, schedule.sigma))
    return replace(schedule, t=schedule.t[: stop + 1], alpha=alpha, sigma=sigma)
