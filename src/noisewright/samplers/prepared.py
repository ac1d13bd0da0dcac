"""What a pipeline will do in a number of steps: how it is entered, levels, solver, what its steps draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from noisewright.diffusion.schedule import Schedule, check_falling
from noisewright.diffusion.schedules import Rule, named_schedule, rule_of
from noisewright.diffusion.solvers import AnySolver, asks_once
from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.calling import Caller
from noisewright.samplers.entry import Entry
from noisewright.samplers.levels import Levels, equal_solver
from noisewright.samplers.loop import read
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
        entry: how states get in and out.
        loop_steps: how many steps the pipeline's own loop takes.
        skipped: how many times of the scheduler the loop leaves out before its first.
        states: ``model``: states are rounded to the loop's precision after each step, as the pipeline's are;
            ``float32``: those of our solvers are not.
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
    entry: Entry
    loop_steps: int
    skipped: int = 0
    states: str = "model"

    def rounded(self, now: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """States after a step as the loop has them, in its own precision, where they are not to be kept in float32."""
        return now if self.states == "float32" else now.to(dtype).float()

    def seam(self, pipe: Any, start: int, stop: int, on_step: Any, by_index: Sequence[Sequence[float]] = ()) -> Seam:
        """A seam whose loop takes the steps from index ``start`` to ``stop``, and no others.

        Args:
            pipe: the pipeline.
            start, stop: indices.
            on_step: what is done in each step.
            by_index: for each index of the schedule, the times that our solver asks the network about on the way from
                there to the next; by default its own time alone.
        """
        if self.solver is None:
            questions = [1] * self.schedule.steps
            own = self.scheduler.timesteps[self.skipped : self.skipped + self.schedule.steps].clone()
        else:
            times = by_index or [[time] for time in self.schedule.t]
            questions = [len(some) for some in times]
            own = self._times([time for some in times for time in some])
        first, last = sum(questions[:start]), sum(questions[:stop])
        if not self.entry.whole:
            return Seam(pipe.scheduler, own[first:last], on_step)
        seam = self.loop(pipe, on_step)
        if self.solver is not None and self.loop_steps == len(self.scheduler.timesteps) and not self.entry.composes:
            seam.times = own
        seam.first, seam.last = first, last
        return seam

    def loop(self, pipe: Any, on_step: Any) -> Seam:
        """A seam whose loop is the pipeline's own, of full length."""
        seam = Seam(pipe.scheduler, None, on_step)
        seam.whole, seam.steps, seam.own_scale = True, self.steps, self.entry.composes
        return seam

    def _times(self, at: Sequence[float]) -> torch.Tensor:
        """Times as the scheduler has them."""
        times = torch.tensor(at, dtype=torch.float32)
        if not torch.is_floating_point(self.scheduler.timesteps):
            times = times.long() if bool((times == times.round()).all()) else times
        return times


def prepare(
    caller: Caller, steps: int, solver: AnySolver | None, schedule: Schedule | Rule | str | None, *,
    native: bool = False, states: str = "model",
) -> Prepared:  # fmt: skip
    """What a pipeline will do in ``steps`` steps.

    Args:
        caller: of the pipeline.
        steps: of its own schedule, or of a rule.
        solver: one of ours, or None for the pipeline's own.
        schedule: levels, or a rule, or its name, in place of the pipeline's; None for its own.
        native: whether the pipeline's own scheduler takes the steps, also where a solver of ours takes the same.
        states: as :class:`Prepared` has it.

    Raises:
        ValueError: in one line, on what does not go together.
        UnsupportedPipeline: where the seam cannot enter, or a scheduler's steps cannot be split.
    """
    if steps < 1:
        raise ValueError(f"expected at least 1 step, got {steps}")
    found = read(caller, steps)
    seam, levels, entry = found.seam, found.levels, found.entry
    _check_levels_given(caller, solver, schedule)
    passed = {key: value for key, value in seam.extra.items() if key != "generator"}
    rounds = states == "model" and entry.rounds(caller.pipe.dtype)
    own = native or (rounds and schedule is None)  # to the bit, where each step is rounded
    rule = solver or (None if own else equal_solver(levels, seam.prepared, passed, seam.scales))
    part = found.loop_steps < len(seam.prepared.timesteps)
    if entry.composes or entry.edits or part:
        rule = _within(caller, entry, levels, rule, solver, schedule)
    if schedule is not None and rule is None:
        raise ValueError(
            f"a custom schedule needs a solver of noisewright's (ddim), got the pipeline's own "
            f"{type(caller.pipe.scheduler).__name__}"
        )
    visited = _levels(caller, levels, steps, schedule, native=rule is None)
    caller.entry = entry
    if rule is None:
        check_step(seam.prepared)
    chance = tried(seam.prepared, passed) if rule is None else Chance(rule.stochastic)
    return Prepared(
        steps, seam.prepared, visited, levels.kind, rule, solver, passed, dict(seam.extra), chance, entry,
        found.loop_steps, found.skipped, states,
    )  # fmt: skip


def _within(
    caller: Caller, entry: Entry, levels: Levels, rule: AnySolver | None, solver: AnySolver | None, schedule: Any
) -> AnySolver | None:  # fmt: skip
    """The solver for a loop whose states the pipeline itself makes or changes, on its levels and in its coordinates.

    Raises:
        UnsupportedPipeline: where another solver or schedule was asked for than can go there.
    """
    what = "composes its starting state of an image and noise" if entry.composes else "changes states between steps"
    what = what if entry.composes or entry.edits else "leaves out a part of its schedule"
    if schedule is not None:
        raise UnsupportedPipeline(f"expected no schedule for {caller.kind}, which {what} at its own levels")
    own = levels.schedule.alpha == levels.native.alpha and levels.schedule.t == levels.native.t
    if rule is not None and own and asks_once(rule) and not rule.stochastic:
        return rule
    if solver is not None:
        raise UnsupportedPipeline(
            f"expected a deterministic solver of one evaluation a step on levels of its own for {caller.kind}, which "
            f"{what}, got {solver.name}"
        )
    return None


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
