"""Whole trajectories by a solver with any network, one step after the other; for the tests of solvers."""

from __future__ import annotations

from noisewright.diffusion.solvers import levels_asked, stages


def trajectory(solver, schedule, x, look, noise=None, known=()):
    """States at the end, and how often the network was asked.

    ``look`` maps (sample, level) to an Estimate. ``known`` are exact states at the first indices, which the solver is
    given in place of its own: so its history is exact, and only its order is seen.
    """
    state, count, index = None, 0, 0
    while index < schedule.steps:
        x = known[index] if index < len(known) else x
        step = stages(solver, schedule, index, x, None if noise is None else noise[index], state)
        sample = next(step)
        for level in levels_asked(solver, schedule, index):
            count += 1
            try:
                sample = step.send(look(sample, level))
            except StopIteration as done:
                x, state = done.value
                index += 1
    return x, count
