"""Search over paths (Ma et al. 2025, section 3.1): carry good states back towards noise, branch, come down again."""

import math
from collections.abc import Sequence

from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, inside


def paths(
    run: Run, width: int = 2, children: int = 4, level: float = 0.11, up: float = 0.78, down: float = 0.81,
    rounds: int | None = None,
) -> None:  # fmt: skip
    """Keep N states; each round, re-noise each into M children, come down a little further, keep the N best previews.

    Cost: ``N * i0 + sum over rounds of N * M * (L + 1) + N * (S - i - 1)`` NFE, with ``i0`` the index of the first
    level, L the steps of a round's way down, and i where the last round ends (a preview's NFE is that of the step after
    it). A round that comes down to clean costs ``N * M * L`` and ends the search.

    Levels are times of the linear flow path, t / (1 - t) = sigma / alpha, so they mean the same for every model; each
    is rounded to the nearest index of the schedule. The defaults for them are the paper's, as third parties read them
    from its appendix. Deviation: the last states are finished and scored in full, a preview is never the answer.

    Args:
        run: the verbs.
        width: N.
        children: M of each state.
        level: t of the first states, in (0, 1).
        up: how far in t a child is carried back.
        down: how far in t it comes down; more than ``up``.
        rounds: by default ``ceil(level / (down - up))``, which ends at clean.
    """
    check(run, width, children, level, up, down, rounds)
    descend(run, run.noise(width), children, level, up, down, rounds)


def check(run: Run, width: int, children: int, level: float, up: float, down: float, rounds: int | None) -> None:
    """Raise a ValueError for arguments that contradict each other or the schedule."""
    at_least(1, width=width, children=children, rounds=rounds)
    inside(0, 1, level=level, up=up, down=down, closed="no")
    if down <= up:
        raise ValueError(f"expected down above up, so that a round comes nearer to clean, got {down:g} and {up:g}")
    at_once(run, width=width, children=children, width_times_children=width * children)
    to_clean = math.ceil(min(level / (down - up), float(2**53)))
    at_once(run, rounds=to_clean if rounds is None else min(rounds, to_clean))
    if level + up >= 1:
        raise ValueError(f"expected level + up below 1 (pure noise), got {level + up:g}")
    if not 0 < run.schedule.nearest(level) < run.steps:
        raise ValueError(f"expected a level inside the schedule of {run.steps} steps, got {level:g}")
    if children > 1 and run.schedule.nearest(level + up) >= run.schedule.nearest(level):
        raise ValueError(f"expected up to be a step or more of the {run.steps}, so that children differ, got {up:g}")


def descend(
    run: Run, starts: Sequence[Particle], children: int, level: float, up: float, down: float, rounds: int | None
) -> list[Candidate]:
    """The rounds of :func:`paths` from starting noises, and the candidates that come of it."""
    states = run.denoise(starts, run.schedule.nearest(level))
    run.keep(states)
    made = 0
    while level > 0 and (rounds is None or made < rounds):
        made += 1
        back = run.schedule.nearest(level + up)
        level = max(0.0, level + up - down)
        landing = max(run.schedule.nearest(level), states[0].index)
        branches = [branch for state in states for branch in run.renoise(state, back, children)]
        if landing >= run.steps or level == 0:
            return run.top(run.finish(branches), len(starts))
        found = run.preview(run.denoise(branches, landing))
        states = [one.particle for one in run.top(found, len(starts))]
        run.keep(states)
    return run.finish(states)
