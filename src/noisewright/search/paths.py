"""Search over paths (Ma et al. 2025, section 3.1): carry good states back towards noise, branch, come down again."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from noisewright.diffusion.schedule import Schedule
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.search.checks import LEAST_KEPT, at_least, at_once, enough, inside, kept

LEVEL, UP, DOWN = 0.11, 0.78, 0.81
"""The paper's levels, as third parties read them from its appendix."""


def paths(
    run: Run, width: int = 2, children: int = 4, level: float = LEVEL, up: float = UP, down: float = DOWN,
    rounds: int | None = None,
) -> None:  # fmt: skip
    """Keep N states; each round, re-noise each into M children, come down a little further, keep the N best previews.

    Cost: ``N * i0 + sum over rounds of N * M * (L + 1) + N * (S - i - 1)`` NFE, with ``i0`` the index of the first
    level, L the steps of a round's way down, and i where the last round ends (a preview's NFE is that of the step after
    it). A round that comes down to clean costs ``N * M * L`` and ends the search.

    Levels are times of the linear flow path, t / (1 - t) = sigma / alpha, so they mean the same for every model; each
    is rounded to the nearest index of the schedule. The defaults for them are the paper's, as third parties read them
    from its appendix. Deviations: the last states are finished and scored in full, a preview is never the answer; and
    where a short schedule has no state at a default level, or none that children would keep something of, the nearest
    that it has is taken, and the run says so.

    Args:
        run: the verbs.
        width: N.
        children: M of each state.
        level: t of the first states, in (0, 1).
        up: how far in t a child is carried back.
        down: how far in t it comes down; more than ``up``.
        rounds: by default ``ceil(level / (down - up))``, which ends at clean.
    """
    way = way_of(run, "paths", width, children, level, up, down, rounds)
    descend(run, run.noise(width), children, way)


@dataclass(frozen=True)
class Way:
    """Where a search over paths goes, as indices of the schedule.

    Attributes:
        first: where the first states stand.
        rounds: of each round, where children are carried back to and where they come down to; N ends the search.
    """

    first: int
    rounds: Iterable[tuple[int, int]]


def way_of(
    run: Run, search: str, width: int, children: int, level: float, up: float, down: float, rounds: int | None
) -> Way:
    """The way of a search over paths; the default levels are taken to the nearest that the schedule has.

    Args:
        run: the verbs.
        search: its name, for messages.
        width, children, level, up, down, rounds: as :func:`paths` has them.

    Raises:
        ValueError: in one line, on arguments that contradict each other or the schedule.
    """
    at_least(1, width=width, children=children, rounds=rounds)
    inside(0, 1, level=level, up=up, down=down, closed="no")
    if down <= up:
        raise ValueError(f"expected down above up, so that a round comes nearer to clean, got {down:g} and {up:g}")
    at_once(run, width=width, children=children, width_times_children=width * children)
    to_clean = math.ceil(min(level / (down - up), float(2**53)))
    at_once(run, rounds=to_clean if rounds is None else min(rounds, to_clean))
    if level + up >= 1:
        raise ValueError(f"expected level + up below 1 (pure noise), got {level + up:g}")
    schedule = run.schedule
    if (level, up, down) == (LEVEL, UP, DOWN):
        return _default_way(run, search, children, rounds)
    if not 0 < schedule.nearest(level) < run.steps:
        raise ValueError(f"expected a level inside the schedule of {run.steps} steps, got {level:g}")
    if children > 1 and schedule.nearest(level + up) >= schedule.nearest(level):
        raise ValueError(f"expected up to be a step or more of the {run.steps}, so that children differ, got {up:g}")
    return Way(schedule.nearest(level), _rounds(schedule, level, up, down, rounds))


def descend(run: Run, starts: Sequence[Particle], children: int, way: Way) -> list[Candidate]:
    """The rounds of :func:`paths` from starting noises, and the candidates that come of it."""
    states = run.denoise(starts, way.first)
    run.keep(states)
    for back, landing in way.rounds:
        branches = [branch for state in states for branch in run.renoise(state, back, children)]
        if landing >= run.steps:
            return run.top(run.finish(branches), len(starts))
        found = run.preview(run.denoise(branches, landing))
        states = [one.particle for one in run.top(found, len(starts))]
        run.keep(states)
    return run.finish(states)


def _rounds(
    schedule: Schedule, level: float, up: float, down: float, rounds: int | None
) -> Iterator[tuple[int, int]]:
    """The rounds of given levels, each rounded to the nearest index."""
    made, index = 0, schedule.nearest(level)
    while level > 0 and (rounds is None or made < rounds):
        made += 1
        back = schedule.nearest(level + up)
        level = max(0.0, level + up - down)
        index = schedule.steps if level == 0 else max(schedule.nearest(level), index)
        yield back, index
        if index >= schedule.steps:
            return


def _default_way(run: Run, search: str, children: int, rounds: int | None) -> Way:
    """The paper's levels where the schedule has them, and otherwise the nearest that it has."""
    schedule = run.schedule
    way = Way(schedule.nearest(LEVEL), list(_rounds(schedule, LEVEL, UP, DOWN, rounds)))
    if _has(schedule, way, children):
        return way
    enough(run, search)
    firsts = [index for index in range(1, run.steps) if _backs(schedule, index)]
    if not firsts:
        raise ValueError(
            f"expected a schedule whose states can be carried back for {search}, got one of {run.steps} steps that all "
            "begin at pure noise: random, zero-order and refine take any"
        )
    first = min(firsts, key=lambda index: abs(index - way.first))
    level, index, made = LEVEL, first, list[tuple[int, int]]()
    while level > 0 and (rounds is None or len(made) < rounds):
        back = _nearest(schedule, level + UP, _backs(schedule, index))
        level = max(0.0, level + UP - DOWN)
        index = run.steps if level == 0 else min(max(schedule.nearest(level), index), run.steps - 1)
        made.append((back, index))
    times = [_time(schedule, index) for index in (first, made[0][0])]
    run.say(
        f"{search}: the {run.steps} steps have no states at the default levels {LEVEL:g} and {LEVEL + UP:g}; the "
        f"nearest are taken, {times[0]:.2f} (index {first}) and {times[1]:.2f} (index {made[0][0]})"
    )
    return Way(first, made)


def _has(schedule: Schedule, way: Way, children: int) -> bool:
    """Whether a schedule has a way's states, and children keep something of theirs and differ."""
    index = way.first
    if not 0 < index < schedule.steps:
        return False
    for back, landing in way.rounds:
        if children > 1 and (back >= index or kept(schedule, back, index) < LEAST_KEPT):
            return False
        index = landing
    return True


def _backs(schedule: Schedule, index: int) -> list[int]:
    """Where states at ``index`` can be carried back to with something of them left."""
    return [back for back in range(index) if kept(schedule, back, index) >= LEAST_KEPT]


def _nearest(schedule: Schedule, time: float, among: Sequence[int]) -> int:
    return min(among, key=lambda index: abs(_time(schedule, index) - time))


def _time(schedule: Schedule, index: int) -> float:
    """The flow-matching time of an index, in [0, 1]."""
    return schedule.sigma[index] / (schedule.alpha[index] + schedule.sigma[index])
