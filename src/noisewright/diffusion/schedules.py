"""Named schedules: rules that place K noise levels on any model's own range, by its clock, and then the clean image.

Levels are ``s = sigma / alpha``. Where a rule needs the noisiest and the cleanest level, they are the model's: of the
first and the last time of a VP model, of sigma = 0.999 and 0.001 of a flow model. Rules that are even in some measure
of the level divide the range into K parts, of which the noisy ends are visited (as VRG and diffusers' ``linspace`` of
DPM-Solver do); Karras and exponential visit both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from noisewright.diffusion.clock import Clock, Level
from noisewright.diffusion.schedule import Schedule, along
from noisewright.outside.bounds import MOST_STEPS, at_most
from noisewright.outside.messages import unknown

RHO = 7.0
"""The exponent of Karras et al. 2022, eq. 5."""

BETA = 0.6
"""Both parameters of Lee et al. 2024's beta distribution."""

BETA_POINTS = 20001

AYS = {
    "ays-sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "ays-sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
"""Levels of ten steps that Sabour et al. 2024 (Align Your Steps) found for two models, with the end of the last."""

AUTODIFFUSION = {4: (926, 690, 424, 153), 6: (948, 830, 622, 390, 207, 123)}
"""Times that Li et al. 2023 (AutoDiffusion) found for Stable Diffusion, by the number of steps."""


def uniform(clock: Clock, steps: int) -> list[Level]:
    """Even in the network's time."""
    first = clock.at(clock.last).t
    last = 0.0 if clock.kind == "vp" else clock.of(clock.lowest).t
    return [clock.at(first + (last - first) * k / steps) for k in range(steps)]


def quadratic(clock: Clock, steps: int) -> list[Level]:
    """Even in the root of the time (Song et al. 2021, appendix D.2), counted from 1 where a model counts from 0."""
    offset = 1.0 if clock.kind == "vp" else 0.0
    first = clock.last + offset
    last = 1.0 if clock.kind == "vp" else clock.of(clock.lowest).t
    roots = [math.sqrt(first) + (math.sqrt(last) - math.sqrt(first)) * k / steps for k in range(steps)]
    return [clock.at(min(root**2 - offset, clock.last)) for root in roots]


def logsnr(clock: Clock, steps: int) -> list[Level]:
    """Even in half log-SNR, ``-ln s`` (Lu et al. 2022)."""
    first, last = math.log(clock.highest), math.log(clock.lowest)
    return [clock.of(math.exp(first + (last - first) * k / steps)) for k in range(steps)]


def karras(clock: Clock, steps: int) -> list[Level]:
    """``s^(1/7)`` even, both ends visited (Karras et al. 2022, eq. 5)."""
    first, last = clock.highest ** (1 / RHO), clock.lowest ** (1 / RHO)
    return [clock.of((first + (last - first) * part) ** RHO) for part in _parts(steps)]


def exponential(clock: Clock, steps: int) -> list[Level]:
    """Even in ln s, both ends visited (k-diffusion's exponential schedule)."""
    first, last = math.log(clock.highest), math.log(clock.lowest)
    return [clock.of(math.exp(first + (last - first) * part)) for part in _parts(steps)]


def beta(clock: Clock, steps: int) -> list[Level]:
    """Times at even quantiles of Beta(0.6, 0.6): more levels near both ends (Lee et al. 2024).

    As in the paper the quantiles are of the time; diffusers' ``use_beta_sigmas`` takes them of s. A flow model's time
    is the one before its shift.
    """
    return [_unshifted(clock, 1 - beta_quantile(k / steps)) for k in range(steps)]


def sgm_uniform(clock: Clock, steps: int) -> list[Level]:
    """As Stability AI's generative models and ComfyUI: even whole times of VP models, shifted times of flow models."""
    if clock.kind == "vp":
        return [clock.at(float(int(clock.last * (1 - k / steps)))) for k in range(steps)]
    return [_unshifted(clock, 1 - k / steps) for k in range(steps)]


def ays_sd15(clock: Clock, steps: int) -> list[Level]:
    """Align Your Steps for Stable Diffusion 1.5; other lengths by interpolation of ln s."""
    return _table(clock, AYS["ays-sd15"], steps)


def ays_sdxl(clock: Clock, steps: int) -> list[Level]:
    """Align Your Steps for SDXL; other lengths by interpolation of ln s."""
    return _table(clock, AYS["ays-sdxl"], steps)


def autodiffusion(clock: Clock, steps: int) -> list[Level]:
    """AutoDiffusion's sequences for Stable Diffusion, of four and of six steps.

    Raises:
        ValueError: for another number of steps.
    """
    if steps not in AUTODIFFUSION:
        known = " or ".join(map(str, AUTODIFFUSION))
        raise ValueError(f"expected {known} steps, which is all that was published, got {steps}")
    last = 999.0
    return [clock.at(time / last * clock.last) for time in AUTODIFFUSION[steps]]


RULES: dict[str, Callable[[Clock, int], list[Level]]] = {
    "uniform": uniform,
    "quadratic": quadratic,
    "logsnr": logsnr,
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
    "sgm-uniform": sgm_uniform,
    "ays-sd15": ays_sd15,
    "ays-sdxl": ays_sdxl,
    "autodiffusion": autodiffusion,
}


@dataclass(frozen=True)
class Rule:
    """A rule that places levels on any model's own range, by its clock.

    Attributes:
        name: what ``--schedule`` takes, and records hold.
        levels: (clock, steps) -> as many levels as steps, falling from the noisiest; the clean image comes after them.
    """

    name: str
    levels: Callable[[Clock, int], Sequence[Level]]


def rule_of(given: str | Rule) -> Rule:
    """A rule as it is, or that of a name.

    Raises:
        ValueError: on a name that none of :data:`RULES` has, with the nearest.
    """
    if isinstance(given, Rule):
        return given
    if given not in RULES:
        raise ValueError(unknown("schedule", given, list(RULES)))
    return Rule(given, RULES[given])


def named_schedule(given: str | Rule, clock: Clock, steps: int, start: float = 1.0) -> Schedule:
    """The schedule of a rule on a model, which ends at the clean image.

    Args:
        given: a rule, or the name of one of :data:`RULES`.
        clock: the model's.
        steps: K, evaluations of a solver that asks once a step.
        start: standard deviation of the starting state.

    Raises:
        ValueError: as :func:`rule_levels` does.
    """
    levels = rule_levels(given, clock, steps)
    try:
        return along(clock, levels, start)
    except ValueError as error:
        raise ValueError(f"schedule {rule_of(given).name} of {steps} steps: {error}") from None


def rule_levels(given: str | Rule, clock: Clock, steps: int) -> list[Level]:
    """The levels of a rule on a model, noisiest first; arguments as those of :func:`named_schedule`.

    Raises:
        ValueError: on an unknown name, a number of steps that the rule or the model has no levels for, or a rule that
            gives another number of levels.
    """
    rule = rule_of(given)
    if steps < 1:
        raise ValueError(f"expected at least 1 step, got {steps}")
    at_most(MOST_STEPS, steps=steps)
    try:
        levels = list(rule.levels(clock, steps))
        if len(levels) != steps or not all(isinstance(one, Level) for one in levels):
            raise ValueError(f"expected as many levels, got {len(levels)}")
    except ValueError as error:
        raise ValueError(f"schedule {rule.name} of {steps} steps: {error}") from None
    return levels


def _parts(steps: int) -> list[float]:
    """0 to 1 in ``steps`` numbers."""
    return [k / (steps - 1) for k in range(steps)] if steps > 1 else [0.0]


def _unshifted(clock: Clock, part: float) -> Level:
    """The level at a part in [0, 1] of the time in which the model's own steps are even."""
    if clock.kind == "vp":
        return clock.at(part * clock.last)
    sigma = clock.shift * part / (1 + (clock.shift - 1) * part)
    return clock.at(sigma * clock.unit)


def _table(clock: Clock, table: Sequence[float], steps: int) -> list[Level]:
    """A table of levels brought to another length by interpolation of ln s, within the model's range.

    As the authors have it: all levels are interpolated, the end among them, which then becomes the clean image.
    """
    places = [k * (len(table) - 1) / steps for k in range(steps)]
    found = []
    for place in places:
        before = min(int(place), len(table) - 2)
        part = place - before
        level = math.exp((1 - part) * math.log(table[before]) + part * math.log(table[before + 1]))
        found.append(clock.of(min(max(level, clock.lowest), clock.highest)))
    return found


@cache
def _beta_mass() -> tuple[torch.Tensor, torch.Tensor]:
    """Ends of small parts of the lower half, in ``x^0.6``, and the density's integral from 0 to each but the first."""
    ends = torch.linspace(0, 0.5**BETA, BETA_POINTS, dtype=torch.float64)
    height = (1 - ends ** (1 / BETA)) ** (BETA - 1)
    return ends, torch.cumulative_trapezoid(height, ends)


def beta_quantile(part: float) -> float:
    """The quantile of Beta(0.6, 0.6), by integration of the density in ``x^0.6``, where it is smooth."""
    if part > 0.5:
        return 1 - beta_quantile(1 - part)
    ends, mass = _beta_mass()
    place = int(torch.searchsorted(mass, 2 * part * mass[-1]))
    below = float(mass[place - 1]) if place > 0 else 0.0
    inside = (2 * part * float(mass[-1]) - below) / (float(mass[place]) - below)
    return float(ends[place] + inside * (ends[place + 1] - ends[place])) ** (1 / BETA)
