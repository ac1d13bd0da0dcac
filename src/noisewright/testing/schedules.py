"""What every rule that places noise levels must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from noisewright.diffusion.clock import Clock, Level
from noisewright.diffusion.schedules import Rule, named_schedule

CLOCKS = {
    "vp": Clock("vp", tuple(0.03 * (15 / 0.03) ** (t / 999) for t in range(1000))),
    "flow": Clock("flow"),
    "flow, shifted": Clock("flow", shift=3.0),
}


def check_schedule_rule(
    rule: Callable[[Clock, int], Sequence[Level]], steps: Sequence[int] = (1, 2, 5, 20, 50)
) -> None:
    """A rule gives as many levels as steps, on any model, falling, within the model's range.

    Args:
        rule: (clock, steps) -> levels.
        steps: that it has levels for.

    Raises:
        AssertionError: with what does not hold.
    """
    for kind, clock in CLOCKS.items():
        for count in steps:
            try:
                made = named_schedule(Rule("under test", rule), clock, count)
            except ValueError as error:
                raise AssertionError(f"on a {kind} model: {error}") from error
            for t in made.t:
                assert 0 <= t <= clock.last, f"expected times in [0, {clock.last:g}] on a {kind} model, got {t:g}"
            assert made.t == named_schedule(Rule("under test", rule), clock, count).t, "two calls gave other levels"
