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
from noisewright.samplers.calling import Caller
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
from noisewright.samplers.prepared import STEERING, Prepared
from noisewright.samplers.protocol import StepNoise
from noisewright.samplers.seam import Seam, without_guidance

Seeds = Sequence[int | None] | None


def starting_noise(caller: Caller, prepared: Prepared, generators: list[torch.Generator]) -> Tensor:
    """The pipeline's own noise of each generator, (batch, ...), float32 on the CPU."""
    seam = Seam(caller.pipe.scheduler, torch.empty(0), None)
    if prepared.solver is None:
        seam.init_scale = float(getattr(prepared.scheduler, "init_noise_sigma", 1.0))
    x = caller.call(seam, None, generator=generators, batch=len(generators))
    return x.detach().float().cpu()


def clean_estimate(caller: Caller, prepared: Prepared, x: Tensor, index: int) -> Tensor:
    """What the network takes the states at ``index`` for, (batch, ...): one step that is not taken."""
    schedule = prepared.schedule
    found: list[Tensor] = []

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
        caller.count(prediction, x)
        state = x.to(prediction.device)
        one = estimate(prediction.float(), state, schedule.alpha[index], schedule.sigma[index], prepared.kind)
        found.append(one.clean)
        return sample

    seam = prepared.seam(caller.pipe, index, index + 1, on_step)
    if prepared.solver is None:
        seam.own_input = scaled_input(resumed(prepared.scheduler, None, index))
    caller.call(seam, x)
    _check_taken(caller, len(found), 1)
    return found[0].cpu()


# With a solver of ours


def denoise(
    caller: Caller, prepared: Prepared, x: Tensor, start: int, stop: int, state: Any, noise: StepNoise | None,
    traced: bool = False,
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
    now = x.to(caller.device, torch.float32)  # the master copy: no rounding to the model's dtype between steps
    state = placed(state, caller.device)
    levels = [level for n in range(start, stop) for level in levels_asked(solver, schedule, n)]
    waiting = iter(levels)

    def begin() -> Stages:
        drawn = noise(index).to(now.device) if solver.stochastic and noise is not None else None
        return stages(solver, schedule, index, now, drawn, state)

    step = begin()
    seen = next(step)  # what the network is asked about: the states, or samples on the way of a step

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Tensor:
        nonlocal index, now, state, step, seen
        caller.count(prediction, x)
        _check_given(caller, prepared, given)
        found = _understood(caller, prediction, seen, next(waiting), prepared.kind, seam)
        try:
            seen = step.send(found)
        except StopIteration as done:
            now, state = done.value
            index += 1
            caller.reached = index, now, state  # at once, whatever comes between
            step = begin() if index < stop else step
            seen = next(step) if index < stop else now
        return seen.to(sample.dtype)

    seam = prepared.seam_at(caller.pipe, [level.t for level in levels], on_step)
    seam.branches = [] if splits(solver) else None
    caller.call(seam, x, traced=traced)
    _check_taken(caller, index - start, stop - start)
    return now.cpu(), placed(state, torch.device("cpu"))


def _understood(caller: Caller, prediction: Tensor, x: Tensor, level: Level, kind: str, seam: Seam) -> Estimate:
    """What the network said of ``x``; for splitting solvers also what it says without guidance."""
    found = estimate(prediction.float(), x, level.alpha, level.sigma, kind)
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
    seeds: Seeds,
) -> tuple[Tensor, Any]:  # fmt: skip
    """States carried from ``start`` to ``stop`` by a private copy of the scheduler, and what it remembers there.

    Raises:
        UnsupportedPipeline: in one line.
    """
    scheduler = resumed(prepared.scheduler, None if state is None else state["history"], start)
    generators: list[torch.Generator] = []
    if prepared.chance.matters:
        generators = _step_generators(caller, prepared, x, start, state, noise, seeds)
    elif takes_generator(scheduler):  # what it draws, if it does, does not matter
        generators = [torch.Generator("cpu").manual_seed(0) for _ in x]
    fresh = [generator.get_state() for generator in generators]
    now = x.to(caller.device, torch.float32)
    taken = 0

    def on_step(prediction: Tensor, timestep: Any, sample: Tensor, given: dict[str, Any]) -> Any:
        nonlocal now, taken
        caller.count(prediction, x)
        if prepared.chance.matters and "generator" not in given:
            caller.say(
                f"{caller.kind} gives {type(scheduler).__name__} no generator, so that no seed names its plain image: "
                "noisewright draws the step noise from each seed's own generator"
            )
        more = {**given, "generator": generators} if generators else given
        after = scheduler.step(model_output=prediction, timestep=timestep, sample=sample, **more)
        now = after[0] if isinstance(after, tuple) else after.prev_sample
        taken += 1
        return after

    seam = prepared.seam(caller.pipe, start, stop, on_step)
    seam.own_input = scaled_input(scheduler)
    caller.call(seam, x)
    _check_taken(caller, taken, stop - start)
    after: dict[str, Any] = {"history": history_of(scheduler, prepared.scheduler)}
    if prepared.chance.matters:
        after["generators"] = kept_states(generators)
    elif not prepared.chance.draws and any(map(_differ, fresh, kept_states(generators) if generators else ())):
        raise UnsupportedPipeline(
            f"{type(scheduler).__name__} draws noise here, where it drew none when its steps were tried: choose "
            "--solver ddim"
        )
    return now.float().cpu(), after


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


def placed(state: Any, device: torch.device) -> Any:
    """A solver's state with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: placed(value, device) for key, value in state.items()}
    return [placed(value, device) for value in state] if isinstance(state, (list, tuple)) else state


def _check_taken(caller: Caller, taken: int, wanted: int) -> None:
    """Refuse a loop that did not take the steps that were asked for."""
    if taken != wanted:
        raise UnsupportedPipeline(
            f"{type(caller.pipe).__name__} took {taken} scheduler steps where {wanted} were asked"
        )


def _differ(a: Tensor, b: Tensor) -> bool:
    return not torch.equal(a, b)
