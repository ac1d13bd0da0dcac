"""What a pipeline's loop does, read from a call of zero steps, or from one walk through it with networks asleep."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.errors import UnsupportedPipeline
from noisewright.outside.messages import cut, first_line
from noisewright.samplers.calling import Caller, NoStepToTake
from noisewright.samplers.drawn import Draws
from noisewright.samplers.entry import CHAINED, WALKED, Entry, Walk, keeps_place, must_walk, ratio_of
from noisewright.samplers.levels import Levels, read_levels
from noisewright.samplers.seam import Seam

WRONG_SETTINGS = (AttributeError, TypeError, LookupError, ArithmeticError, AssertionError, NameError)
"""What pipelines raise in place of a word about settings that they cannot be called with."""


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        seam: of the call, with the scheduler after ``set_timesteps``.
        levels: that the loop visits.
        entry: how states get in and out.
        loop_steps: how many steps the pipeline's own loop takes.
        skipped: how many times of the scheduler the loop leaves out before its first.
    """

    seam: Seam
    levels: Levels
    entry: Entry
    loop_steps: int
    skipped: int = 0


def read(caller: Caller, steps: int) -> Found:
    """Read a pipeline's real schedule, resolution-dependent shifts included, and how its call is entered.

    Raises:
        ValueError, UnsupportedPipeline: in one line.
    """
    accepted = list(inspect.signature(type(caller.pipe).__call__).parameters)
    if caller.walks or must_walk(accepted, caller.settings, type(caller.pipe)):
        return _by_walk(caller, steps, accepted)
    try:
        return _by_no_step(caller, steps)
    except NoStepToTake:
        return _by_walk(caller, steps, accepted)


def _by_no_step(caller: Caller, steps: int) -> Found:
    seam = Seam(caller.pipe.scheduler, None, None)
    seam.steps = steps
    latents = _called(caller, seam, [torch.Generator("cpu").manual_seed(0)], steps, "read")
    levels = _levels_of(caller, seam, steps)
    entry = _entry(caller, seam.begun, latents)
    if seam.begun is not None:
        taken, draws = _taken_as_given(caller, seam.begun)
        entry = replace(entry, by="latents" if taken else "prepared", draws=draws or _decodes_noise(caller))
    return Found(seam, levels, entry, len(seam.prepared.timesteps))


def _taken_as_given(caller: Caller, begun: Tensor) -> tuple[bool, bool]:
    """Whether a call that is given as ``latents`` what it prepared itself begins with the same, and draws all the same.

    Where it does not begin with the same, nothing is known of what it draws.
    """
    seam, generator = Seam(caller.pipe.scheduler, torch.empty(0), None), torch.Generator("cpu").manual_seed(0)
    fresh = generator.get_state()
    caller.entry = replace(caller.entry, by="latents", dtype=begun.dtype, scale=1.0)
    try:
        caller.alone(lambda: caller.call(seam, begun, generators=[generator]), "enter")
    except (ValueError, RuntimeError, *WRONG_SETTINGS):
        return False, True
    if seam.begun is None or not torch.equal(seam.begun, begun):
        return False, True
    return True, not torch.equal(fresh, generator.get_state())


def _entry(caller: Caller, begun: Tensor | None, latents: Tensor) -> Entry:
    """What holds for all that enter as latents."""
    known = begun if begun is not None else latents
    place = keeps_place(type(caller.pipe), caller.explicit)
    return Entry(whole=place or caller.whole, dtype=known.dtype)


def _by_walk(caller: Caller, steps: int, accepted: list[str]) -> Found:
    seam, walk = _walked(caller, steps)
    levels = _levels_of(caller, seam, steps)
    edits = walk.edits or any(callable(caller.settings.get(name)) for name in CHAINED)  # which are not called in a walk
    entry = _entry(caller, walk.begun, walk.states[0])
    entry = replace(
        entry, dtype=walk.states[0].dtype, zero=False, edits=edits, whole=entry.whole or edits,
        alone=not walk.alike,
    )  # fmt: skip
    scale = 1.0 if walk.begun is None else ratio_of(walk.states[0], walk.begun)
    if "strength" in accepted or "latents" not in accepted:
        if walk.drawn is None:
            raise UnsupportedPipeline(
                f"{caller.kind} draws no noise from the generator that it is given, so no seed names its images"
            )
        entry = replace(entry, by="drawn", whole=True, draws=True, place=walk.drawn)
    elif scale is None:
        raise UnsupportedPipeline(f"{caller.kind} changes its starting noise before the first step in a way of its own")
    else:
        entry = replace(entry, scale=scale, draws=walk.draws)
    times = seam.prepared.timesteps.detach().float().cpu().tolist()
    skipped = _first_place(times, walk.times)
    if skipped is None:
        raise UnsupportedPipeline(f"{caller.kind} steps at other times than its scheduler says")
    if len(walk.times) < len(times):
        levels = _part_of(levels, skipped, len(walk.times))
        entry = replace(entry, whole=True)
    if entry.composes:  # what stands at index 0 is unit noise
        levels = replace(
            levels, schedule=replace(levels.schedule, start=1.0), native=replace(levels.native, start=1.0)
        )
    return Found(seam, levels, entry, len(walk.times), skipped)


def _walked(caller: Caller, steps: int, count: int = 2) -> tuple[Seam, Walk]:
    """One walk through the loop: the networks are asked in its first step and sleep in the others.

    What it costs is billed to nobody: it is done once, before a run. A pipeline that cannot make two images in a call
    is walked through with one.
    """

    def on_step(prediction: Tensor, time: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
        seam.extra.update({name: value for name, value in given.items() if name != "return_dict"})
        return sample

    seam, walk = Seam(caller.pipe.scheduler, None, on_step), Walk()
    seam.whole, seam.steps, seam.own_scale, seam.last = True, steps, "strength" in _accepted(caller), 1
    seam.walked = True
    generators = [torch.Generator("cpu") for _ in range(count)]
    seam.draws = draws = Draws(generators)

    def watch(time: Any, sample: Tensor) -> None:
        if not walk.times:
            walk.drawn, walk.alike, walk.begun = draws.last, draws.alike and count > 1, seam.begun
        walk.times.append(float(time))
        walk.states.append(sample)

    seam.watch = watch
    before = caller.meter.forwards
    try:
        walk.latents = _called(caller, seam, generators, steps, "walk", walk)
    except (ValueError, RuntimeError, UnsupportedPipeline):
        if count == 1:
            raise
        return _walked(caller, steps, 1)
    finally:
        caller.meter.forwards = before
    if not walk.times:
        raise _no_step(caller, steps)
    walk.draws = draws.more_than_one(generators[0])
    states = [one.get_state() for one in generators]  # they began alike
    walk.alike = walk.alike and all(torch.equal(one, states[0]) for one in states)
    return seam, walk


def _no_step(caller: Caller, steps: int) -> Exception:
    """What to say of a loop that takes no step."""
    defaults = {name: one.default for name, one in inspect.signature(type(caller.pipe).__call__).parameters.items()}
    for name in WALKED:
        value = caller.settings.get(name)
        value = defaults.get(name) if value is None else value
        if isinstance(value, (int, float)):
            return ValueError(
                f"expected a {name} with which {caller.kind} takes a step or more, got {value:g} of {steps} steps, "
                "which leaves none: there is nothing to search"
            )
    return UnsupportedPipeline(f"{caller.kind} never calls scheduler.step")


def _decodes_noise(caller: Caller) -> bool:
    """Whether the decoder is given noise, which no call of zero steps that gives latents shows (LTX-Video 0.9.1)."""
    config = getattr(getattr(caller.pipe, "vae", None), "config", None) or {}
    return "decode_noise_scale" in _accepted(caller) and bool(config.get("timestep_conditioning"))


def _accepted(caller: Caller) -> list[str]:
    return list(inspect.signature(type(caller.pipe).__call__).parameters)


def _called(
    caller: Caller, seam: Seam, generators: list[torch.Generator], steps: int, verb: str, walk: Walk | None = None
) -> Tensor:
    """What a call of an image a generator gives.

    Raises:
        ValueError: what the pipeline says of settings that it does not take, in one line.
    """

    def work() -> Tensor:
        for one in generators:
            one.manual_seed(0)
        if walk is not None:
            walk.times.clear()
            walk.states.clear()
        return caller.call(seam, None, generators=generators, batch=len(generators))

    try:
        return caller.alone(work, verb)
    except WRONG_SETTINGS as error:
        raise ValueError(
            f"expected settings that {caller.kind} can be called with, got {caller.said(steps)} "
            f"({type(error).__name__}: {cut(first_line(error), 120)})"
        ) from error


def _levels_of(caller: Caller, seam: Seam, steps: int) -> Levels:
    """The levels of the scheduler that the call prepared."""
    if seam.prepared is None:
        parts = {name: one for name, one in vars(caller.pipe).items() if not name.startswith("prior")}
        inner = [name for name, one in parts.items() if callable(one) and hasattr(one, "scheduler")]
        names = " or ".join(f"pipe.{name}" for name in inner)
        instead = f": its steps are those of {names}, search that" if inner else ""
        raise UnsupportedPipeline(f"{caller.kind} never calls scheduler.set_timesteps{instead}")
    try:
        return read_levels(seam.prepared, seam.mu)
    except ValueError as error:
        raise UnsupportedPipeline(str(error)) from None
    except LookupError:
        name = type(caller.pipe.scheduler).__name__
        raise ValueError(
            f"expected fewer steps of {name}, got {steps}, which begin beyond the times of its model"
        ) from None


def _first_place(times: list[float], visited: list[float]) -> int | None:
    """Where the visited times begin among all; None where they are no part of them in a row."""
    count = len(visited)
    return next((n for n in range(len(times) - count + 1) if times[n : n + count] == visited), None)


def _part_of(levels: Levels, first: int, count: int) -> Levels:
    """The levels of a loop that takes ``count`` steps from place ``first``."""

    def part(schedule: Schedule) -> Schedule:
        return replace(
            schedule, t=schedule.t[first : first + count], alpha=schedule.alpha[first : first + count + 1],
            sigma=schedule.sigma[first : first + count + 1],
        )  # fmt: skip

    same = levels.schedule.t == levels.native.t
    native = part(levels.native)
    return replace(levels, native=native, schedule=part(levels.schedule) if same else native, equal=levels.equal)
