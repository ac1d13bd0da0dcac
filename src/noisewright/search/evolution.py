"""Evolution over the way down (EvoSearch, He et al. 2025, arXiv 2505.17618): elites, tournament, mutation."""

import math

from noisewright.diffusion.noise import uniform
from noisewright.outside.messages import short
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.search.checks import LEAST_KEPT, at_least, at_once, enough, inside, kept

AT = (0.0, 0.2, 0.4)
"""Where there is a generation by default."""


def evolution(
    run: Run,
    at: tuple[float, ...] = AT,
    population: int = 8,
    elites: int = 2,
    tournament: float = 0.5,
    mutation: float = 0.2,
    back: float = 0.04,
) -> None:
    """A generation at each of the given points of the way; the fitness is the finished image's score.

    Cost: ``P * S + sum over generations of (P - E) * (S - i)`` NFE, where i is the index that a child starts from: 0
    for a generation at 0, and otherwise ``back`` of the steps before its point.

    The first population are fresh noises. Each generation keeps the E best, whose scores are known, and fills up with
    children of parents chosen by tournament. At the start of the way a child is a rotation of its parent's noise,
    ``sqrt(1 - b^2) x + b w`` with w orthogonal to x and of its norm, which keeps the norm exactly. Later it is the
    parent's state carried ``back`` towards noise with fresh noise, which keeps the level's distribution exactly; the
    authors add noise without rescaling, which does not.

    Args:
        run: the verbs.
        at: fractions of the steps at which there is a generation, rising, in [0, 1).
        population: P.
        elites: E, below P.
        tournament: the share of the population that competes to be a parent, in (0, 1].
        mutation: b, in (0, 1].
        back: the fraction of the steps that later children are carried back, in (0, 1); at least one step. Far back
            is another image: from .4 to .2 of the steps a child of the bundled model keeps half of its parent's state.
    """
    at_least(2, population=population)
    at_least(0, elites=elites)
    at_once(run, population=population)
    inside(0, 1, tournament=tournament, mutation=mutation, closed="right")
    inside(0, 1, back=back, closed="no")
    if elites >= population:
        raise ValueError(f"expected fewer elites than the population of {population}, got {short(elites)}")
    if not at or list(at) != sorted(set(at)) or not all(0 <= point < 1 for point in at):
        raise ValueError(f"expected at as rising fractions in [0, 1), got {short(tuple(at))}")
    steps_back = max(1, round(back * run.steps))
    indices = _generations(run, at, steps_back)
    alive = _roll_out(run, run.noise(population), indices)
    for number, index in enumerate(indices):
        best = run.top(alive, elites)
        children = []
        for k in range(population - elites):
            parent = _tournament(run, alive, tournament, number, k)
            if index == 0:
                children += run.vary(parent.particle.start, 1, math.sqrt(1 - mutation**2))
            else:
                (state,) = run.denoise([parent.particle.origin], index)
                children += run.renoise(state, max(0, index - steps_back), 1)
        alive = [*best, *_roll_out(run, children, indices[number + 1 :])]


def _generations(run: Run, at: tuple[float, ...], steps_back: int) -> list[int]:
    """The index of each generation. Of the default ones, those whose children would keep nothing of a parent are later.

    Raises:
        ValueError: where the steps have no room for them.
    """
    indices = [min(round(point * run.steps), run.steps - 1) for point in at]
    if len(set(indices)) < len(indices):
        if tuple(at) == AT:
            enough(run, "evolution")
        raise ValueError(f"expected at as different steps, got {short(tuple(at))} of {run.steps} steps")
    lost = [index for index in indices if index and not _keeps(run, index, steps_back)]
    if not lost:
        return indices
    if tuple(at) != AT:
        run.say(f"evolution: at steps {lost} of {run.steps} children begin at noise, and keep nothing of their parents")
        return indices
    enough(run, "evolution")
    later = [next((n for n in range(index, run.steps) if _keeps(run, n, steps_back)), 0) for index in indices[1:]]
    moved = sorted({0, *later})
    run.say(
        f"evolution: generations at steps {', '.join(map(str, moved))} of {run.steps}, since children at "
        f"{', '.join(map(str, lost))} would keep nothing of their parents"
    )
    return moved


def _keeps(run: Run, index: int, steps_back: int) -> bool:
    """Whether a child from a state at ``index`` keeps something of it."""
    return kept(run.schedule, max(0, index - steps_back), index) >= LEAST_KEPT


def _roll_out(run: Run, states: list[Particle], stops: list[int]) -> list[Candidate]:
    """Finish states, and leave those of them behind that later generations start from."""
    starts = states
    for stop in stops:
        if stop > starts[0].index:
            run.denoise(states, stop)
    return run.finish(starts)


def _tournament(run: Run, alive: list[Candidate], share: float, generation: int, child: int) -> Candidate:
    """The best of a random part of the population."""
    count = max(1, round(share * len(alive)))
    keys = [uniform(run.seed, "evolution", generation, child, k) for k in range(len(alive))]
    drawn = sorted(range(len(alive)), key=keys.__getitem__)[:count]
    return run.top([alive[k] for k in sorted(drawn)])[0]
