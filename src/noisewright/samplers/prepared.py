"""A pipeline's real schedule, read from a call of zero steps, and what is made of it: levels, solver, what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from noisewright.diffusion.schedule import Schedule, check_falling
from noisewright.diffusion.schedules import Rule, named_schedule, rule_of
from noisewright.diffusion.solvers import AnySolver
from noisewright.errors import UnsupportedPipeline
from noisewright.outside.messages import cut, first_line
from noisewright.samplers.calling import Caller
from noisewright.samplers.levels import Levels, equal_solver, read_levels
from noisewright.samplers.native import Chance, check_step, tried
from noisewright.samplers.seam import Seam

STEERING = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "use_clipped_model_output")
"""Arguments of a scheduler's step that steer its own rule."""

LEVELS = ("timesteps", "sigmas")
"""Arguments of a pipeline's call that say its levels one by one."""


@dataclass(frozen=True)
class Prepared:
    """What a pipeline will do in a number of steps.

    Attributes:
        steps: as they were asked for.
        scheduler: a copy of the pipeline's after ``set_timesteps``.
        schedule: the levels that are visited.
        kind: what the model predicts; see :func:`noisewright.diffusion.schedule.estimate`.
        solver: ours, or None where the scheduler takes the steps itself.
        given_solver: the one that was asked for; None where the pipeline's own was to be used.
        passed: what the pipeline passes to the scheduler's step beside prediction, time and state.
        extra: the same with its generator.
        chance: what the steps draw.
    """

    steps: int
    scheduler: Any
    schedule: Schedule
    kind: str
    solver: AnySolver | None
    given_solver: AnySolver | None
    passed: dict[str, Any]
    extra: dict[str, Any]
    chance: Chance

    def seam(self, pipe: Any, start: int, stop: int, on_step: Any) -> Seam:
        """A seam whose loop runs from index ``start`` to ``stop``."""
        if self.solver is None:
            return Seam(pipe.scheduler, self.scheduler.timesteps[start:stop].clone(), on_step)
        return self.seam_at(pipe, self.schedule.t[start:stop], on_step)

    def seam_at(self, pipe: Any, asked_at: Sequence[float], on_step: Any) -> Seam:
        """A seam whose loop runs over times of the model's."""
        times = torch.tensor(asked_at, dtype=torch.float32)
        if not torch.is_floating_point(self.scheduler.timesteps):
            times = times.long() if bool((times == times.round()).all()) else times
        return Seam(pipe.scheduler, times, on_step)


def prepare(caller: Caller, steps: int, solver: AnySolver | None, schedule: Schedule | Rule | str | None) -> Prepared:
    """What a pipeline will do in ``steps`` steps.

    Args:
        caller: of the pipeline.
        steps: of its own schedule, or of a rule.
        solver: one of ours, or None for the pipeline's own.
        schedule: levels, or a rule, or its name, in place of the pipeline's; None for its own.

    Raises:
        ValueError: in one line, on what does not go together.
        UnsupportedPipeline: where the seam cannot enter, or a scheduler's steps cannot be split.
    """
    if steps < 1:
        raise ValueError(f"expected at least 1 step, got {steps}")
    seam, levels = _read(caller, steps)
    _check_levels_given(caller, solver, schedule)
    passed = {key: value for key, value in seam.extra.items() if key != "generator"}
    rule = solver or equal_solver(levels, seam.prepared, passed, seam.scales)
    if schedule is not None and rule is None:
        raise ValueError(
            f"a custom schedule needs a solver of noisewright's (ddim), got the pipeline's own "
            f"{type(caller.pipe.scheduler).__name__}"
        )
    visited = _levels(caller, levels, steps, schedule, native=rule is None)
    if rule is None:
        check_step(seam.prepared)
    chance = tried(seam.prepared, passed) if rule is None else Chance(rule.stochastic)
    return Prepared(steps, seam.prepared, visited, levels.kind, rule, solver, passed, dict(seam.extra), chance)


def _read(caller: Caller, steps: int) -> tuple[Seam, Levels]:
    """The pipeline's real schedule, resolution-dependent shifts included, from a call of zero steps."""
    seam, kind = Seam(caller.pipe.scheduler, None, None), type(caller.pipe).__name__
    generator = [torch.Generator("cpu").manual_seed(0)]
    try:
        caller.alone(lambda: caller.call(seam, None, generator=generator, batch=1, steps=steps), "read")
    except (AttributeError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
        raise ValueError(
            f"expected settings that {kind} can be called with, got {caller.said(steps)} "
            f"({type(error).__name__}: {cut(first_line(error), 120)})"
        ) from error
    if seam.prepared is None:
        raise UnsupportedPipeline(f"{kind} never calls scheduler.set_timesteps")
    try:
        return seam, read_levels(seam.prepared, seam.mu)
    except ValueError as error:
        raise UnsupportedPipeline(str(error)) from None
    except LookupError:
        name = type(caller.pipe.scheduler).__name__
        raise ValueError(
            f"expected fewer steps of {name}, got {steps}, which begin beyond the times of its model"
        ) from None


def _check_levels_given(caller: Caller, solver: AnySolver | None, schedule: Any) -> None:
    """Refuse what is given twice: levels beside a schedule, arguments of a rule beside another in its place."""
    given = caller.settings
    if schedule is not None:
        for name in (one for one in LEVELS if given.get(one) is not None):
            raise ValueError(f"expected no {name} of the pipeline's beside a schedule, got {given[name]!r}")
    if solver is not None:
        for name in (one for one in STEERING if one in caller.explicit and given.get(one) is not None):
            raise ValueError(f"expected no {name} of the pipeline's beside a solver {solver.name}, got {given[name]!r}")


def _levels(
    caller: Caller, levels: Levels, steps: int, given: Schedule | Rule | str | None, *, native: bool
) -> Schedule:
    """The levels to visit: those that were given, by a rule or one by one, or the pipeline's own."""
    own = levels.schedule
    if isinstance(given, (str, Rule)):
        if own.clock is None:
            raise ValueError(
                f"expected a scheduler that tells the time of a level for schedule {rule_of(given).name!r}, got "
                f"{type(caller.pipe.scheduler).__name__}"
            )
        return named_schedule(given, own.clock, steps)
    if given is not None:
        check_falling(given)
        inside = any(min(pair) > 0 for pair in zip(given.alpha, given.sigma, strict=True))
        if inside and given.straight != own.straight:
            kinds = ["a VP model", "a flow model"]
            raise ValueError(f"expected the levels of {kinds[own.straight]}, got those of {kinds[given.straight]}")
        return replace(given, clock=given.clock or own.clock)
    return levels.native if native else own
