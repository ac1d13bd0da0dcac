"""Steps of a pipeline's own loop, from index to index: with a solver of ours, or with the pipeline's own scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, estimate
from noisewright.diffusion.solvers import Stages, eta_of, levels_asked, splits, stages
from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.calling import Caller, begun
from noisewright.samplers.estimates import own_estimate
from noisewright.samplers.levels import step_arguments
from noisewright.samplers.native import (
    generators_of,
    history_of,
    kept_states,
    keyed_generator,
    resumed,
    scaled_input,
    takes_generator,
)
from noisewright.samplers.places import CPU, home, there
from noisewright.samplers.prepared import STEERING, Prepared
from noisewright.samplers.protocol import StepNoise
from noisewright.samplers.seam import Seam, without_guidance

Seeds = Sequence[int | None] | None


def starting_noise(caller: Caller, prepared: Prepared, generators: list[torch.Generator]) -> Tensor:
    """The pipeline's own noise of each generator, (batch, ...), float32 on the CPU.

    Where it composes its first state of an image and noise, the noise alone; else what its first step is given.
    """
    entry, seam = prepared.entry, Seam(caller.pipe.scheduler, torch.empty(0), None)
    if prepared.solver is None:
        seam.init_scale = float(getattr(prepared.scheduler, "init_noise_sigma", 1.0))
    if entry.by == "latents" and entry.zero:
        x = caller.call(seam, None, generators=generators, batch=len(generators))
        return x.detach().float().cpu()
    scale = seam.init_scale
    seam = prepared.loop(caller.pipe, None)
    first = begun(caller, seam, generators)
    if entry.composes and seam.draws is not None:
        return seam.draws.noise(entry.place)
    x = entry.scale * seam.begun if first is None and seam.begun is not None else first
    assert x is not None  # noqa: S101 - one of the two was there
    return (scale * x).detach().float().cpu()


ARRAYS = ("diffusers.pipelines.kandinsky2_2", "diffusers.pipelines.kandinsky.")
"""Pipelines whose images as tensors are in [-1, 1], and as arrays in [0, 1]."""


def decoded(caller: Caller, prepared: Prepared, x: Tensor, seeds: Seeds = None, *, traced: bool = False) -> Tensor:
    """What the pipeline makes of clean states, (batch, 3, height, width): by a call that takes no step."""
    entry = prepared.entry
    if entry.zero and not entry.edits and not entry.composes:
        seam = Seam(caller.pipe.scheduler, torch.empty(0), None)
    else:  # through the loop, with all networks asleep
        seam = prepared.loop(caller.pipe, None)
        seam.first = seam.last = prepared.loop_steps
    pixels = "np" if type(caller.pipe).__module__.startswith(ARRAYS) and not traced else "pt"
    return caller.call(seam, x, output_type=pixels, seeds=seeds, traced=traced)


def clean_estimate(
    caller: Caller, prepared: Prepared, x: Tensor, index: int, seeds: Seeds = None, between: torch.device = CPU
) -> Tensor:
    """What the network takes the states at ``index`` for, (batch, ...): one step that is not taken."""
    schedule = prepared.schedule
    found: list[Tensor] = []

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
        caller.count(prediction, x)
        made = prepared.entry.edits or (prepared.entry.composes and index == 0)  # by the pipeline, of what it was given
        state = sample.float() if made else x.to(prediction.device)
        clean = None
        if prepared.solver is None:
            clean = own_estimate(prepared.scheduler, prediction.float(), index + prepared.skipped, state)
        if clean is None:
            mean = mean_of(prediction, state).float()
            clean = estimate(mean, state, schedule.alpha[index], schedule.sigma[index], prepared.kind).clean
        found.append(clean)
        return sample

    seam = prepared.seam(caller.pipe, index, index + 1, on_step)
    if prepared.solver is None:
        seam.own_input = scaled_input(resumed(prepared.scheduler, None, index + prepared.skipped))
    caller.call(seam, x, seeds=seeds)
    _check_taken(caller, len(found), 1)
    return found[0].to(between).contiguous()


# With a solver of ours


def denoise(
    caller: Caller, prepared: Prepared, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None,
    seeds: Seeds = None, between: torch.device = CPU, traced: bool = False,
) -> tuple[Tensor, Any]:  # fmt: skip
    """States carried from ``start`` to ``stop`` by our solver, and its state there.

    Raises:
        ValueError: where step noise is needed and not given.
        UnsupportedPipeline: in one line.
    """
    solver, schedule = prepared.solver, prepared.schedule
    assert solver is not None  # noqa: S101 - narrows the type for the closure
    if solver.stochastic and noise is None:
        raise ValueError(f"expected step noise for {solver.name} with eta > 0, got None")
    index = start
    now = there(x, caller.device).float()  # the master copy
    unit, state = _parted(state)
    state = there(state, caller.device)
    levels = [levels_asked(solver, schedule, n) for n in range(schedule.steps)]
    waiting = iter([level for some in levels[start:stop] for level in some])
    way = Way(caller, prepared, start, now)
    step: Stages | None = None
    seen = now  # what the network is asked about: the states, or samples on the way of a step

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
        nonlocal index, now, state, step, seen
        caller.count(prediction, x)
        _check_given(caller, prepared, given)
        edited = way.edited(sample)
        if edited is not None and step is not None:
            raise UnsupportedPipeline(f"{caller.kind} changes states in the middle of a step of {solver.name}")
        now = now if edited is None else edited
        if step is None:
            drawn = noise(index).to(now.device) if solver.stochastic and noise is not None else None
            step = stages(solver, schedule, index, now, drawn, state)
            seen = next(step)
        found = _understood(caller, prediction, seen, next(waiting), prepared.kind, seam)
        try:
            seen = step.send(found)
        except StopIteration as done:
            now, state = done.value
            seen = now = prepared.rounded(now, sample.dtype)
            step = None
            index += 1
            caller.reached = index, now, _joined(unit, state)  # at once, whatever comes between
        return way.gave(seen.to(sample.dtype))

    seam = prepared.seam(caller.pipe, start, stop, on_step, [[level.t for level in some] for some in levels])
    seam.branches = [] if splits(solver) else None
    unit = way.unit(seam, x, unit)
    caller.call(seam, x, seeds=seeds, traced=traced)
    _check_taken(caller, index - start, stop - start)
    return _left(now, _joined(unit, state), between)


def mean_of(prediction: Tensor, x: Tensor) -> Tensor:
    """What a network predicts of the states ``x``, without the variances that some learned beside it."""
    return prediction[:, : x.shape[1]] if prediction.shape[1] == 2 * x.shape[1] else prediction


def _understood(caller: Caller, prediction: Tensor, x: Tensor, level: Level, kind: str, seam: Seam) -> Estimate:
    """What the network said of ``x``; for splitting solvers also what it says without guidance."""
    found = estimate(mean_of(prediction, x).float(), x, level.alpha, level.sigma, kind)
    if seam.branches is None:
        return found
    outputs, seam.branches[:] = list(seam.branches), []
    scale = float(getattr(caller.pipe, "guidance_scale", caller.settings["guidance_scale"]) or 1.0)
    plain = without_guidance(prediction, outputs, scale)
    if plain is None:
        raise UnsupportedPipeline(
            f"expected guidance of the form u + scale (c - u) with a scale above 1 for a splitting solver, got "
            f"another of {type(caller.pipe).__name__} at scale {scale:g}"
        )
    return replace(found, plain=estimate(plain.float(), x, level.alpha, level.sigma, kind))


def _check_given(caller: Caller, prepared: Prepared, given: dict[str, Any]) -> None:
    """Refuse what the pipeline passes to ``step`` and our solver does not know.

    Raises:
        UnsupportedPipeline: in one line.
    """
    solver = prepared.solver
    unknown = step_arguments(prepared.scheduler, given)
    if prepared.given_solver is not None or unknown.get("eta") == eta_of(solver):
        unknown.pop("eta", None)
    if prepared.given_solver is not None:  # in place of the rule that these steer
        unknown = {name: value for name, value in unknown.items() if name not in STEERING}
    for name, value in unknown.items():
        shown = value if isinstance(value, (int, float, str)) else type(value).__name__
        raise UnsupportedPipeline(
            f"{caller.kind} passes {name} = {shown} to its scheduler's step, which solver "
            f"{solver.name if solver else 'none'} does not know"
        )


# With the pipeline's own scheduler


def denoise_natively(
    caller: Caller, prepared: Prepared, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None,
    seeds: Seeds, origins: Seeds = None, between: torch.device = CPU,
) -> tuple[Tensor, Any]:  # fmt: skip
    """States carried from ``start`` to ``stop`` by a private copy of the scheduler, and what it remembers there.

    Args:
        seeds: of states whose step noise goes on where that of their starting noise ended.
        origins: of each state's own generator, for what the pipeline draws beside.

    Raises:
        UnsupportedPipeline: in one line.
    """
    unit, state = _parted(state)
    history = None if state is None else there(state["history"], caller.device)
    scheduler = resumed(prepared.scheduler, history, start + prepared.skipped)
    inside: list[torch.Generator] | None = None
    generators: list[torch.Generator] = []
    if prepared.chance.matters:
        if prepared.entry.composes and start == 0 and seeds and all(seed is not None for seed in seeds):
            inside = generators = [torch.Generator("cpu").manual_seed(int(seed or 0)) for seed in seeds]
        else:
            generators = _step_generators(caller, prepared, x, start, state, noise, seeds)
    elif takes_generator(scheduler):  # what it draws, if it does, does not matter
        generators = [torch.Generator("cpu").manual_seed(0) for _ in x]
    fresh = [generator.get_state() for generator in generators]
    now = there(x, caller.device).float()
    way, taken = Way(caller, prepared, start, now), 0

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Any:
        nonlocal now, taken
        caller.count(prediction, x)
        way.edited(sample)
        if prepared.chance.matters and "generator" not in given:
            caller.say(
                f"{caller.kind} gives {type(scheduler).__name__} no generator, so that no seed names its plain image: "
                "noisewright draws the step noise from each seed's own generator"
            )
        more = {**given, "generator": generators} if generators else given
        after = scheduler.step(model_output=prediction, timestep=timestep, sample=sample, **more)
        now = way.gave(after[0] if isinstance(after, tuple) else after.prev_sample)
        taken += 1
        return after

    seam = prepared.seam(caller.pipe, start, stop, on_step)
    seam.own_input = scaled_input(scheduler)
    unit = way.unit(seam, x, unit)
    caller.call(seam, x, seeds=origins, generators=inside)
    _check_taken(caller, taken, stop - start)
    after: dict[str, Any] = {"history": history_of(scheduler, prepared.scheduler)}
    if prepared.chance.matters:
        after["generators"] = kept_states(generators)
    elif not prepared.chance.draws and any(map(_differ, fresh, kept_states(generators) if generators else ())):
        raise UnsupportedPipeline(
            f"{type(scheduler).__name__} draws noise here, where it drew none when its steps were tried: choose "
            "--solver ddim"
        )
    return _left(now.float(), _joined(unit, after), between)


def _step_generators(
    caller: Caller, prepared: Prepared, x: Tensor, start: int, state: Any, noise: StepNoise | None, seeds: Seeds
) -> list[torch.Generator]:
    """A generator for each row. From index 0 of a seeded state it goes on where the starting noise ended, as in plain
    diffusers; a later segment takes it up from ``state``; a branch is seeded from its own step noise.
    """
    if state is not None:
        return generators_of(state["generators"])
    generators = []
    keyed = noise(start) if noise is not None else None
    for row in range(len(x)):
        seed = seeds[row] if seeds is not None else None
        if start == 0 and seed is not None:
            generator = torch.Generator("cpu").manual_seed(seed)
            starting_noise(caller, prepared, [generator])
        elif keyed is not None:
            generator = keyed_generator(keyed[row])
        else:
            raise ValueError("expected step noise or seeds for a stochastic scheduler, got neither")
        generators.append(generator)
    return generators


# Both


SAME = 1e-5
"""Of the largest number of a state: what less moves it is no change that a pipeline makes."""


class Way:
    """What the pipeline does to states between the steps of one segment.

    A state is what a step gave before the pipeline changed it: the next segment gives it again, to be changed then.

    Args:
        caller: of the pipeline.
        prepared: what it does.
        start: index where the segment begins.
        now: the states there.
    """

    def __init__(self, caller: Caller, prepared: Prepared, start: int, now: Tensor) -> None:
        self._kind = caller.kind
        self._entry = prepared.entry
        self._composed = prepared.entry.composes and start == 0
        self._start = start
        self._given: Tensor | None = None
        self._begun = now

    def edited(self, sample: Tensor) -> Tensor | None:
        """The states that a step was handed, float32, where they are not what was given back by the one before.

        Raises:
            LoopEdits: where nothing said so before.
        """
        before, self._given = self._given, None
        if before is None:
            edits = self._entry.edits and not _same(self._begun.to(sample.dtype), sample)
            return sample.float() if self._composed or edits else None
        if sample is before or _same(sample, before):
            return None
        if not self._entry.edits:
            raise LoopEdits(f"{self._kind} changes states between its steps, which a first look at it did not show")
        return sample.float()

    def gave(self, sample: Tensor) -> Tensor:
        """Note what a step gives back."""
        self._given = sample
        return sample

    def unit(self, seam: Seam, x: Tensor, unit: Tensor | None) -> Tensor | None:
        """The unit noise that the way began with, where the pipeline needs it again between its steps."""
        if not (self._entry.composes and self._entry.edits):
            return None
        seam.unit = unit = x if self._start == 0 else unit
        return unit


class LoopEdits(UnsupportedPipeline):
    """A loop changes states between steps, and has to be walked through to see how."""


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two states are one but for the rounding of a copy that was put together anew."""
    if torch.equal(one, other):
        return True
    return one.shape == other.shape and float((one - other).abs().max()) <= SAME * float(other.abs().max())


def _parted(state: Any) -> tuple[Tensor | None, Any]:
    """The unit noise that a way began with, and the solver's state."""
    return (state["unit"], state["solver"]) if isinstance(state, dict) and "unit" in state else (None, state)


def _joined(unit: Tensor | None, state: Any) -> Any:
    return state if unit is None else {"unit": unit, "solver": state}


def _left(now: Tensor, state: Any, between: torch.device) -> tuple[Tensor, Any]:
    """States and the solver's where they are to be between calls, laid out as a file gives them back.

    Networks round otherwise where their input lies otherwise in memory.
    """
    now = now.contiguous()
    if between.type == "cpu":
        x, after = home((now, state))
        return x, after
    return now, state


def _check_taken(caller: Caller, taken: int, wanted: int) -> None:
    """Refuse a loop that did not take the steps that were asked for."""
    if taken != wanted:
        raise UnsupportedPipeline(
            f"{type(caller.pipe).__name__} took {taken} scheduler steps where {wanted} were asked"
        )


def _differ(a: Tensor, b: Tensor) -> bool:
    return not torch.equal(a, b)
