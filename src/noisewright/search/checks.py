"""What the searches ask of their arguments, each in one line: expected and got."""

import math
from typing import Literal

from noisewright.diffusion.schedule import Schedule
from noisewright.outside.messages import short
from noisewright.run.verbs import Run

BLOCK = 5040
"""How many particles are made at once where there may be any number: a multiple of all micro-batch sizes up to 10 and
of 12, 14, 15 and 16, so that these are cut as they would be from one list."""

FEWEST, MOST = 1000, 100_000
"""So many particles at a time are taken with any budget, and never more."""

FOR_AN_IMAGE, FOR_A_SECOND = 64, 1000
"""How many particles at a time an image and a second of the budget may be spent on."""


def at_least(least: int, **values: int | None) -> None:
    """Raise a ValueError for a value below ``least``; None passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"expected {name} of at least {least}, got {short(value)}")


def widest(run: Run) -> int:
    """How many particles at a time the run's budget could be of use to.

    A step of each costs at least one NFE, and no machine makes more than a thousand a second. A budget in images says
    nothing of how many are looked at for an image; more than 64 are a mistake.
    """
    budget = run.budget
    limits = [
        None if budget.images is None else FOR_AN_IMAGE * budget.images,
        budget.nfe,
        None if budget.seconds is None else math.ceil(FOR_A_SECOND * budget.seconds),
    ]
    return min(MOST, max(FEWEST, min((one for one in limits if one is not None), default=MOST)))


def block(run: Run) -> int:
    """How many particles to make at once where there may be any number: no more than there can be images of."""
    limits = (BLOCK, run.budget.images, run.budget.nfe)
    return min(one for one in limits if one is not None)


def at_once(run: Run, **values: int | None) -> None:
    """Raise a ValueError for particles at a time (or rounds without an image) beyond what the budget could use.

    Whatever number of images is finished one after the other needs no such check: the budget ends it.
    """
    most = widest(run)
    for name, value in values.items():
        if value is not None and value > most:
            name = name.replace("_times_", " * ")
            raise ValueError(f"expected {name} of at most {most} with a budget of {run.budget}, got {short(value)}")


def inside(low: float, high: float, closed: Literal["both", "left", "right", "no"] = "both", **values: float) -> None:
    """Raise a ValueError for a value outside an interval."""
    for name, value in values.items():
        below = value < low or (value == low and closed in ("right", "no"))
        above = value > high or (value == high and closed in ("left", "no"))
        if below or above or math.isnan(value):
            left, right = "[" if closed in ("both", "left") else "(", "]" if closed in ("both", "right") else ")"
            raise ValueError(f"expected {name} in {left}{low:g}, {high:g}{right}, got {short(value)}")


def needs_step_noise(run: Run, search: str) -> None:
    """Raise a ValueError where steps draw no noise, so that copies of a particle would stay equal."""
    if not run.stochastic:
        raise ValueError(f"expected step noise for {search}, got a deterministic solver: choose --solver ddim --eta 1")


def fractions(run: Run, search: str, default: tuple[float, ...], **values: tuple[float, ...]) -> list[int]:
    """Fractions of the steps as indices of the schedule, distinct and in [1, N - 1].

    Default fractions that fall on one step are taken as one, and the run says so.

    Args:
        run: the verbs.
        search: its name, for messages.
        default: the fractions that the search has where nobody says any.
        values: the fractions, under the name of the argument.

    Raises:
        ValueError: where there is none, they do not rise inside (0, 1), or too few steps are there for them.
    """
    ((name, given),) = values.items()
    if not given or any(not 0 < value < 1 for value in given) or list(given) != sorted(set(given)):
        raise ValueError(f"expected {name} as rising fractions in (0, 1), got {short(tuple(given))}")
    indices = [max(1, min(run.steps - 1, round(value * run.steps))) for value in given]
    if run.steps >= 2 and len(set(indices)) == len(indices):
        return indices
    if tuple(given) != default:
        raise ValueError(f"expected {name} at different steps, got {short(tuple(given))} of {run.steps} steps")
    enough(run, search)
    indices = sorted(set(indices))
    run.say(f"{search}: {name} {short(default)} are steps {', '.join(map(str, indices))} of {run.steps}, the nearest")
    return indices


FEWEST_STEPS = 4
"""So many steps have room for every search's defaults, on any schedule."""


def enough(run: Run, search: str) -> None:
    """Raise a ValueError where a schedule has no room for a search's defaults, naming what it has room for."""
    if run.steps < FEWEST_STEPS:
        raise ValueError(
            f"expected {FEWEST_STEPS} steps or more for {search}, got {run.steps}: random, zero-order and refine take "
            "any number"
        )


def choices(run: Run, search: str, begin: float, block: int, default: int, *, chooses: bool) -> range:
    """The indices at which a step-wise search chooses among continuations, after the one where it begins.

    A default block that is longer than the way that is left is cut to it, and the run says so.

    Args:
        run: the verbs.
        search: its name, for messages.
        begin: the fraction of the steps that are made plainly before, in [0, 1).
        block: steps from each to the next.
        default: the block that the search has where nobody says any.
        chooses: whether there is anything to choose among.

    Returns:
        Where it begins, and each choice.

    Raises:
        ValueError: where the first choice would come after the last step.
    """
    inside(0, 1, begin=begin, closed="left")
    first = min(round(begin * run.steps), run.steps - 1)
    if chooses and first + block >= run.steps:
        room = run.steps - 1 - first
        if block != default or room < 1:
            enough(run, search)
            raise ValueError(f"expected begin + block below the {run.steps} steps, got {first} + {short(block)}")
        run.say(f"{search}: a block of {block} does not fit behind step {first} of {run.steps}, it is {room}")
        block = room
    return range(first, run.steps, block)


LEAST_KEPT = 0.05
"""A state that is carried back keeps so much of itself, or its children are hardly children: the paper's own levels of
:mod:`~.paths` keep 0.12."""


def kept(schedule: Schedule, back: int, index: int) -> float:
    """How much of a state at ``index`` is left of it when it is carried back to ``back``: their correlation, in [0, 1].

    The states are those of data of unit variance, whatever the coordinates of the schedule.
    """
    shares = [schedule.alpha[n] / math.hypot(schedule.alpha[n], schedule.sigma[n]) for n in (back, index)]
    return shares[0] / shares[1] if shares[1] > 0 else 0.0
