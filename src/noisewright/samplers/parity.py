"""Proves that the seam makes a pipeline's own images, before a search believes it.

The plain ``pipe(...)`` of one seed, in few steps, is held against the way of a search: noise, steps, decode, cut at
three places, at the second place of a batch of two. Where the two are equal, all that a search does with the pipeline
holds: its levels and its solver, its segments, its batches, and that a seed names an image. That costs the work of
three images of four steps. Where they are not, more is run to find what fails: a batch of one, no cuts, the pipeline's
own scheduler in place of our solver; what is left is allowed, or the pipeline is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from noisewright.errors import PipelineBusy, UnsupportedPipeline, out_of_memory
from noisewright.outside.messages import cut, first_line
from noisewright.samplers import chance
from noisewright.samplers.optional import ShowsOtherwise
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.plainly import as_it_was, plain_images
from noisewright.samplers.protocol import Meter
from noisewright.samplers.trials import distance, marks_of, origins_of, seeded_noise, through
from noisewright.samplers.turns import turn
from noisewright.samplers.verdict import Verdict

STEPS = 4
"""Of the proof."""

MORE_STEPS = (4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 100)
"""What is asked for where a part of the steps is left out (image-to-image, ``denoising_end``)."""

SEED, OTHER = 20, 11
"""The image that is compared, and who is beside it."""

EQUAL = 1.0
"""Steps of 1/255 within which two images are one: a rounding to 8 bits may fall to either side."""

MOST_ROUNDING = 8.0
"""Steps of 1/255 that half precision may move an image by; more is no rounding."""

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Way:
    """One of the ways to make the plain image: which scheduler, how many images at once, cut or not, in what loops."""

    native: bool
    batch: bool
    split: bool
    whole: bool = False


WAYS = (
    (True, True, False), (True, True, True), (False, True, False), (False, True, True), (True, False, False),
    (False, False, False),
)  # fmt: skip
"""In a batch or not, cut or not, in loops of full length or not: from what allows most to what allows least."""

KEEPS_INSIDE = (
    "is run from start to end only: its own parts (a cache, guidance with momentum) keep what no state holds from step "
    "to step; searches that change states on their way are refused"
)

OUTCOME_UNKNOWN = math.inf
"""The distance of an image that could not be made."""


def prove(sampler: PipelineSampler) -> Verdict:
    """What holds of a sampler's pipeline and kind of call, with the pipeline's own schedule and scheduler.

    Nothing is counted on the sampler's meter, and pipeline and random generators are as they were afterwards.

    Args:
        sampler: in any number of steps, with any solver and schedule.

    Raises:
        ValueError: in one line, where the plain call itself fails.
    """
    found, entered = sampler._found, sampler.pipe
    pipes = (entered,) if entered is found else (entered, found)
    with turn(entered), as_it_was(*pipes):
        return _Proof(sampler).verdict()


def obeying(sampler: PipelineSampler, verdict: Verdict) -> PipelineSampler:
    """The same sampler, that does only what a verdict says that it can."""
    native = verdict.native and sampler.given_solver is None and sampler.solver is not None
    other = sampler.restricted(native=native, whole=verdict.whole) if native or verdict.whole else copy.copy(sampler)
    other.can_split, other.most_at_once = other.can_split and verdict.split, None if verdict.batch else 1
    return other


def on_its_own(sampler: PipelineSampler, steps: int, solver: Any = None) -> PipelineSampler:
    """The sampler's pipeline and call on the pipeline's own schedule, with a meter of its own.

    Raises:
        ValueError, UnsupportedPipeline: in one line, where that is not possible.
    """
    other = copy.copy(sampler)
    caller = replace(sampler._caller, meter=Meter(), drawing={}, warnings=[], flags=[], reached=None)
    other._caller, other.meter, other.warnings, other.flagged = caller, caller.meter, caller.warnings, []
    other._given_schedule, other._native, other.resident = None, False, False
    other._prepare(steps, solver)
    return other


def few_steps(sampler: PipelineSampler, solver: Any = None, least: int = STEPS) -> PipelineSampler:
    """:func:`on_its_own` in ``least`` steps, or the nearest that the call allows; never in more than it was asked.

    Raises:
        ValueError, UnsupportedPipeline: where no number of steps is possible.
    """
    most = sampler._prepared.steps
    numbers = [one for one in MORE_STEPS if least <= one < most]
    for steps in numbers:
        try:
            found = on_its_own(sampler, steps, solver)
        except ValueError:  # too few of them for a part, say
            continue
        if found.schedule.steps >= least:
            return found
    return on_its_own(sampler, most, solver)


@dataclass
class _Proof:
    """One proof: what was made so far, and what came of it."""

    sampler: PipelineSampler
    images: int = 0
    apart: dict[Way, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    failed: dict[Way, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def verdict(self) -> Verdict:
        self.kind = type(self.sampler._found).__name__
        self.compared = True
        try:
            self.trial = few_steps(self.sampler)
        except (UnsupportedPipeline, ValueError) as error:
            if self.sampler.given_solver is None:
                raise
            self.trial, self.compared = few_steps(self.sampler, self.sampler.given_solver), False
            self.notes.append(f"the plain image of {self.kind} was not compared: {first_line(error, 200)}")
        self.marks = marks_of(self.trial.schedule.steps) if self.trial.can_split else []
        if not self.trial.can_split:
            self.notes.append(f"{self.kind} {KEEPS_INSIDE}")
        self.scheduler = type(self.sampler._found.scheduler).__name__
        self.native = None if self.trial.solver is not None else self.trial
        self.plain = self._reference()
        own = self.trial.solver is None
        first = Way(native=own, batch=True, split=bool(self.marks) and self.trial.can_split)
        if self._try(first) <= EQUAL:
            return self._ended(first)
        return self._diagnosed(first)

    # What is run

    def _reference(self) -> Tensor:
        if not self.compared:
            self.images += 1
            return through(self.trial, [SEED])
        return self._plain([SEED])

    def _plain(self, seeds: Sequence[int]) -> Tensor:
        """The plain images, which the person's own call makes: as arrays, which is what its pictures are made of."""
        output_type = "pt" if isinstance(self.sampler.pipe, ShowsOtherwise) else "np"
        self.images += len(seeds)
        caller, steps = self.sampler._caller, self.trial._prepared.steps
        try:
            found, _ = plain_images(self.sampler._found, self.sampler.pipe, caller, seeds, steps, output_type)
        except (KeyboardInterrupt, PipelineBusy):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise ValueError(f"expected a model and a size that fit in memory, got {self.kind}, whose plain call "
                                 "does not") from error  # fmt: skip
            raise ValueError(
                f"expected settings that {self.kind} can be called with, got a plain call that fails: "
                f"{type(error).__name__}: {first_line(error, 300)}"
            ) from error
        return found

    def _try(self, way: Way) -> float:
        """How far the image of a way is from the plain one."""
        if way in self.apart:
            return self.apart[way]
        seeds = [OTHER, SEED] if way.batch else [SEED]
        self.apart[way] = OUTCOME_UNKNOWN
        try:
            trial = self._natively() if way.native else self.trial
            if way.whole:
                trial = trial.restricted(whole=True)
            self.images += len(seeds)
            images = through(trial, seeds, self.marks if way.split else ())
            self.apart[way] = distance(images[-1], self.plain[0])
            if way.batch and torch.equal(images[0], images[1]):
                self.notes.append(f"two seeds give {self.kind} one and the same image: a search has nothing to choose")
        except (KeyboardInterrupt, PipelineBusy):
            raise
        except Exception as error:
            self.failed[way] = "out of memory" if out_of_memory(error) else _said(error)
            self.said.append(self.failed[way])
        return self.apart[way]

    def _natively(self) -> PipelineSampler:
        if self.native is None:
            self.native = obeying(self.trial, Verdict(native=True))
        return self.native

    # What fails

    def _diagnosed(self, first: Way) -> Verdict:
        shared = self._shared_chance() if self.compared else None
        if shared is not None:
            return self._ended(None, refused=shared, repeatable=False)
        near = self._near(first)
        for native in dict.fromkeys((first.native, True)) if self.compared else (first.native,):
            for batch, split, whole in WAYS:
                if whole and self.trial.entry.whole:
                    continue
                way = Way(native, batch, split and bool(self.marks) and self.trial.can_split, whole)
                if self._try(way) <= near:
                    return self._ended(way, near)
        return self._ended(None, near, refused=self._why_refused())

    def _shared_chance(self) -> str | None:
        """Why a seed names no plain image, in one line; None where it does."""
        before = chance.states()
        again = self._plain([SEED])
        drawn = chance.moved(before, chance.states())
        if drawn and distance(again, self.plain) <= EQUAL:  # the first may have begun from the same state
            chance.stir(drawn)
            again = self._plain([SEED])
        apart = distance(again, self.plain)
        if apart <= (MOST_ROUNDING if self.half else EQUAL):
            return None
        if drawn:
            return (
                f"{self.kind} draws from the random generator of {' and '.join(drawn)} that the whole process shares, "
                "so no seed names its images: expected randomness from the generator that it is given"
            )
        return (
            f"{self.kind} gives two images for one seed, {apart:g}/255 apart, in its own plain call: expected one (is "
            "a network in training mode, or something kept from call to call?)"
        )

    @property
    def half(self) -> bool:
        return self.sampler.pipe.dtype in HALF

    def _near(self, first: Way) -> float:
        """Up to what two images count as one: in half precision, what its rounding does."""
        if not self.half or not EQUAL < self.apart[first] <= MOST_ROUNDING:
            return EQUAL
        moved, why = self._rounding()
        if moved <= EQUAL:
            return EQUAL
        name = str(self.sampler.pipe.dtype).removeprefix("torch.")
        self.notes.append(f"{name} images are known to {moved:g}/255: {why}")
        return moved

    def _rounding(self) -> tuple[float, str]:
        """How far the arithmetic moves an image, and how that was seen."""
        pair = OUTCOME_UNKNOWN
        if self.compared:
            try:
                pair = distance(self._plain([OTHER, SEED])[-1], self.plain[0])
            except ValueError:  # its call may not take two
                pair = 0.0
        if EQUAL < pair <= MOST_ROUNDING and pair >= min(self.apart.values()):
            return pair, "so far apart are its own plain images in a batch of one and of two"
        trial, more = self.trial, origins_of(self.trial, [SEED])
        x = trial.noise([SEED])
        self.images += 2
        last = 2.0 ** -(8 if self.sampler.pipe.dtype == torch.bfloat16 else 11)
        signs = torch.randint(0, 2, x.shape, generator=torch.Generator("cpu").manual_seed(0)) * 2 - 1
        noise = seeded_noise([SEED], x.shape[1:]) if trial.stochastic else None
        ends = []
        for start in (x, x * (1 + last * signs)):
            end, _ = trial.denoise(start, 0, trial.schedule.steps, None, noise, [SEED], **more)
            ends.append(trial.decode(end, **more))
        moved = min(2 * distance(*ends), MOST_ROUNDING)
        return moved, "so far the last digit of its starting noise moves them"

    def _why_refused(self) -> str:
        named = self.said[0] if self.said else ""
        known = {way: apart for way, apart in self.apart.items() if math.isfinite(apart)}
        if not known:
            return f"{self.kind} cannot be entered through its scheduler: {named}"
        apart = min(known.values())
        return (
            f"{self.kind} makes another image in a search than in its plain call, {apart:g}/255 apart, also one at a "
            f"time, whole and with its own {self.scheduler}: it needs an adapter (file what `noisewright check` prints)"
            + (f"; {named}" if named else "")
        )

    def _ended(self, way: Way | None, near: float = EQUAL, **more: Any) -> Verdict:
        """The verdict, of the way that makes the plain image."""
        trial = self.trial
        ours = None if trial.solver is None else trial.solver.name
        held = way or Way(False, True, True)
        if way is not None:
            self._explain(way)
        return Verdict(
            solver=ours, solver_apart=self._best(False), native_apart=self._best(True), tolerance=near,
            split=trial.can_split and (held.split or not self.marks), batch=held.batch,
            native=held.native and ours is not None, whole=held.whole,
            stochastic=trial.stochastic, notes=tuple(dict.fromkeys(self.notes)),
            ran={
                "steps": trial.schedule.steps, "split_at": list(self.marks), "images": self.images,
                "compared": self.compared, "scheduler": self.scheduler,
                "dtype": str(self.sampler.pipe.dtype).removeprefix("torch."), "device": str(trial.device),
            },
            **more,
        )  # fmt: skip

    def _best(self, native: bool) -> float | None:
        """How near an image came to the plain one."""
        known = [apart for one, apart in self.apart.items() if one.native is native and math.isfinite(apart)]
        return min(known, default=None)

    def _explain(self, way: Way) -> None:
        """A note for each restriction."""
        ours = "" if self.trial.solver is None else self.trial.solver.name

        def off(other: Way) -> str:
            apart = self.apart.get(other, OUTCOME_UNKNOWN)
            if math.isfinite(apart):
                return f"its image is {apart:g}/255 off"
            return f"none is made ({self.failed[other]})" if other in self.failed else "none is made"

        if way.native and ours:
            self.notes.append(
                f"{self.kind} is run with its own {self.scheduler}: with solver {ours} of noisewright's "
                f"{off(next((one for one in self.apart if not one.native), Way(False, False, False)))}"
            )
        if not way.split and self.marks:
            why = f"cut on its way {off(replace(way, split=True))}"
            why = why if self.trial.can_split else "something in it goes on from step to step"
            self.notes.append(f"{self.kind} is run from start to end only: {why}; searches that need more are refused")
        if not way.batch:
            self.notes.append(f"{self.kind} makes one image at a time: beside another {off(replace(way, batch=True))}")


def _said(error: BaseException) -> str:
    first = first_line(error, 240)
    return first if isinstance(error, UnsupportedPipeline) else cut(f"{type(error).__name__}: {first}", 240)
