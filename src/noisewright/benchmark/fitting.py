"""Searches of one size: what a budget is worth in NFE, and how large a search may be that is to end within it.

Searches that go on until the budget ends need no size. Others end by themselves: compared at one budget, they have the
largest size whose cost fits it, as a simulation on the same noise levels counts it
(:mod:`noisewright.evaluate.simulation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from noisewright import registry
from noisewright.evaluate.forecast import forecast
from noisewright.evaluate.simulation import simulate
from noisewright.run.budget import Budget

if TYPE_CHECKING:
    from noisewright.planning import Plan

MOST_TIMES = 4
"""A size is sought up to so many times the budget in images."""

LONGEST_SECONDS = 2.0
"""Of a simulation; what takes longer is taken for too large."""


@dataclass(frozen=True)
class Size:
    """What makes a search larger or smaller.

    Attributes:
        argument: the argument that is fitted; None where a search goes on until its budget ends.
        given: arguments that depend on the budget in images, as measured on ``noisewright/shapes`` (docs/searches.md).
    """

    argument: str | None = None
    given: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)


SIZES: dict[str, Size] = {
    "paths": Size("children", {"rounds": lambda n: max(1, min(4, n // 12))}),
    "zero-order+paths": Size("children", {
        "rounds": lambda n: max(1, (n // 2 - 1) // 4), "width": lambda n: 1 if n < 12 else 2,
        "path_rounds": lambda n: max(1, min(4, n // 24)),
    }),
    "fk": Size("particles"),
    "svdd": Size(None, {"width": lambda n: max(1, min(8, n // 4))}),
    "rbf": Size(None, {"first": lambda n: max(2, min(8, n // 2))}),
    "evolution": Size("population", {
        "elites": lambda n: max(1, n // 12), "at": lambda n: (0.0,) if n < 12 else (0.0, 0.2, 0.4),
    }),
    "halving": Size("n", {"pilot": lambda n: max(4, min(8, n // 3))}),
    "refine": Size(None, {"population": lambda n: 4 if n < 12 else 8, "elites": lambda n: 2 if n < 12 else 3}),
    "gradient": Size("iterations"),
}  # fmt: skip
"""By search; those that are not named here, plug-ins among them, are taken as they are."""


def one_unit(budget: Budget) -> None:
    """Refuse a budget in several units, or none.

    Raises:
        ValueError: in one line.
    """
    if sum(one is not None for one in (budget.images, budget.nfe, budget.seconds)) != 1:
        raise ValueError(f"expected a budget in one unit, got {budget}")


def worth(plan: Plan, budget: Budget) -> int:
    """A budget in NFE: images as so many plain images, seconds by one timed step (:func:`forecast`).

    Args:
        plan: of plain best of N with the model and the steps.
        budget: in one unit.

    Raises:
        ValueError: on a budget in several units, or none.
    """
    one_unit(budget)
    each = plan.final.nfe(0, plan.final.schedule.steps)
    if budget.images is not None:
        return budget.images * each
    if budget.nfe is not None:
        return budget.nfe
    return max(each, int(forecast(replace(plan, budget=budget))["nfe"]))


def fitted(plan: Plan, nfe: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which a search ends within a budget and uses it as well as it can.

    Args:
        plan: of the search, with whatever arguments; its sampler, verifiers and seed are used.
        nfe: the budget.
        given: arguments that a person gave, which stay as they are.

    Returns:
        ``given`` with what was fitted. Where not even size 1 fits it is 1: the budget cuts it short, and the run says
        what it was too small for.
    """
    name = plan.spec["search"]
    size = SIZES.get(name)
    if size is None:
        return dict(given)
    images = max(1, nfe // plan.final.nfe(0, plan.final.schedule.steps))
    known = registry.search_arguments(name)
    derived = {key: make(images) for key, make in size.given.items() if key in known and key not in given}
    args = {**derived, **given}
    if size.argument is None or size.argument in given:
        return args
    low, high = 1, MOST_TIMES * images
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(plan, nfe, {**args, size.argument: middle}) else (low, middle - 1)
    return {**args, size.argument: low}


def fits(plan: Plan, nfe: int, args: Mapping[str, Any]) -> bool:
    """Whether a search comes to its own end within a budget; arguments that it refuses do not fit."""
    try:
        made = replace(plan, search_args=registry.check_arguments(plan.spec["search"], args))
    except ValueError:
        return False
    found = simulate(made, Budget(nfe=nfe), seconds=LONGEST_SECONDS)
    return found is not None and found.whole and found.finished
