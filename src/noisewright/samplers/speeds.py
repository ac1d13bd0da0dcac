"""How fast a pipeline is on this machine: timed in a short trial, and kept from run to run.

What was found is kept by what it depends on (:mod:`~.json_cache`): no trial is made twice on one machine. A
trial counts on no meter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from noisewright.errors import out_of_memory
from noisewright.samplers.json_cache import JsonCache
from noisewright.samplers.optional import can_split
from noisewright.samplers.parity import few_steps
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.trials import origins_of, seeded_noise
from noisewright.schemas.speeds import check_kept_speed

GAIN = 0.95
"""Twice as many images at once have to take less than this share of the time an image, or they are not worth it."""

MOST_AT_ONCE = 64

TIMES = 2
"""How often a trial is timed after a first call, which is none: the least counts, since other work only adds."""

SLOW_SECONDS = 1.0
"""A first call that took longer is not repeated: what only first calls cost is little of it."""


@dataclass(frozen=True)
class Speed:
    """What a trial found.

    Attributes:
        choice: the fastest: a number of images at once, or the name of a type of numbers.
        seconds: of a step for an image, by what was tried.
    """

    choice: str
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field by its name."""
        return {"choice": self.choice, "seconds": dict(self.seconds)}


@dataclass(frozen=True)
class Decided:
    """What a request left open, and how it was decided: said when a run begins, and recorded by it.

    Attributes:
        setting: its name, as a request has it.
        choice: what it is now.
        why: in words, for a person.
        seconds: of a step for an image, by what was tried; empty where nothing was.
    """

    setting: str
    choice: str
    why: str
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line."""
        tried = ", ".join(f"{name} {one * 1000:.3g} ms" for name, one in self.seconds.items())
        return f"{self.setting} {self.choice}: {self.why}" + (f" (a step for an image: {tried})" if tried else "")

    def to_json(self) -> dict[str, Any]:
        """All but the name, by which it is recorded."""
        return {"choice": self.choice, "why": self.why, "seconds": dict(self.seconds)}


# What is kept


CACHE = JsonCache("speed", check_kept_speed, lambda held: Speed(**held), Speed.to_json)
"""By :func:`~.json_cache.key_of` what a speed depends on."""


# Trials


def timer(sampler: PipelineSampler, size: int, clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """What times one step for ``size`` images at once, each time that it is called: seconds of a step for an image.

    Args:
        sampler: whose first step is taken, again and again; all of its way where that cannot be cut.
        size: how many.
        clock: gives the time in seconds.
    """
    seeds = list(range(size))
    x, more = sampler.noise(seeds), origins_of(sampler, seeds)
    noise = seeded_noise(seeds, x.shape[1:]) if sampler.stochastic else None
    stop = 1 if can_split(sampler) else sampler.schedule.steps

    def timed() -> float:
        began = clock()
        sampler.denoise(x, 0, stop, None, noise, list(seeds), **more)
        return (clock() - began) / size / max(1, sampler.nfe(0, stop))

    return timed


def seconds_each(sampler: PipelineSampler, size: int) -> float:
    """Seconds of one step for one of ``size`` images at once: the least of some, after a first call."""
    return in_turns({"": timer(sampler, size)}, size)[""]


def in_turns(timers: Mapping[str, Callable[[], float]], size: int) -> dict[str, float]:
    """The least that each of some timers of ``size`` images tells, in turns: other work, which only adds, comes and
    goes. First calls do not count, but for slow ones.
    """
    first = {name: timed() for name, timed in timers.items()}
    slow = {name for name, one in first.items() if one * size > SLOW_SECONDS}
    found = {name: first[name] if name in slow else math.inf for name in timers}
    for _ in range(TIMES):
        for name in (one for one in timers if one not in slow):
            found[name] = min(found[name], timers[name]())
    return found


def steps_of_trial(first: int) -> int:
    """About how many steps of one image a trial of sizes from ``first`` on takes: this one, twice and half of it."""
    return (1 + TIMES) * (first + 2 * first + first // 2)


def fastest_size(
    sampler: PipelineSampler, first: int, *, most: int = MOST_AT_ONCE, seconds: float,
    each: Callable[[PipelineSampler, int], float] = seconds_each,
) -> Speed:  # fmt: skip
    """How many images at once take the least time an image, among powers of two.

    From ``first`` on they are doubled as long as that gains; where it does not at once, they are halved as long as that
    costs nothing. What does not fit in memory is no choice.

    Args:
        sampler: of the pipeline and the call.
        first: a guess.
        most: the largest that is tried.
        seconds: what the trial may take: a size whose time would go beyond it is not tried.
        each: times one, as :func:`seconds_each` does.

    Raises:
        Exception: what the pipeline raises for one image.
    """
    few, found, began = few_steps(sampler), dict[int, float](), time.perf_counter()

    def tried(size: int) -> bool:
        """Whether a size was timed: there was time for it, and it fits."""
        guess = found[min(found, key=lambda one: abs(one - size))] * size * (1 + TIMES) if found else 0.0
        if found and time.perf_counter() - began + guess > seconds:
            return False
        try:
            found[size] = each(few, size)
        except Exception as error:
            if size == 1 or not out_of_memory(error):
                raise
        if size not in found and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return size in found

    start = 1 << max(0, min(first, most).bit_length() - 1)  # the power of two below it
    while not tried(start):
        start //= 2
    best = start
    while 2 * best <= most and tried(2 * best) and found[2 * best] < GAIN * found[best]:
        best *= 2
    while 1 < best <= start and tried(best // 2) and found[best // 2] <= found[best]:
        best //= 2
    return Speed(str(best), {str(one): round(took, 9) for one, took in sorted(found.items())})
