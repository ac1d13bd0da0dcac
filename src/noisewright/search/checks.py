"""What the searches ask of their arguments, each in one line: expected and got."""

import math
from typing import Literal

from noisewright.run import Run


def at_least(least: int, **values: int | None) -> None:
    """Raise a ValueError for a value below ``least``; None passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"expected {name} of at least {least}, got {value}")


def inside(low: float, high: float, closed: Literal["both", "left", "right", "no"] = "both", **values: float) -> None:
    """Raise a ValueError for a value outside an interval."""
    for name, value in values.items():
        below = value < low or (value == low and closed in ("right", "no"))
        above = value > high or (value == high and closed in ("left", "no"))
        if below or above or math.isnan(value):
            left, right = "[" if closed in ("both", "left") else "(", "]" if closed in ("both", "right") else ")"
            raise ValueError(f"expected {name} in {left}{low:g}, {high:g}{right}, got {value:g}")


def needs_step_noise(run: Run, search: str) -> None:
    """Raise a ValueError where steps draw no noise, so that copies of a particle would stay equal."""
    if not run.stochastic:
        raise ValueError(f"expected step noise for {search}, got a deterministic solver: choose --solver ddim --eta 1")


def fractions(run: Run, **values: tuple[float, ...]) -> list[int]:
    """Fractions of the steps as indices of the schedule, distinct and in [1, N - 1].

    Raises:
        ValueError: where there is none, or they do not rise inside (0, 1).
    """
    ((name, given),) = values.items()
    if not given or any(not 0 < value < 1 for value in given) or list(given) != sorted(set(given)):
        raise ValueError(f"expected {name} as rising fractions in (0, 1), got {', '.join(map(str, given)) or 'none'}")
    indices = [max(1, min(run.steps - 1, round(value * run.steps))) for value in given]
    if run.steps < 2 or len(set(indices)) < len(indices):
        raise ValueError(f"expected {name} at different steps, got {given} of {run.steps} steps")
    return indices
