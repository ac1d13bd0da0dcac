"""Whether a budget is enough for what makes a search itself: paths without a round are two plain images.

What a search comes to do is seen by simulation (:mod:`~.simulation`): what it finishes, by the verb that drew it,
before and after it compared finished images. Where several times the budget brings something new, the budget is too
small, and the smallest that is not is found by bisection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noisewright.evaluate.simulation import Move, simulate
from noisewright.run.budget import Budget
from noisewright.verifiers.protocol import WantsPreviews

if TYPE_CHECKING:
    from noisewright.planning import Plan

PLAIN = ("random",)
"""Searches that do the same thing however long they run."""

MORE, LEAST_IMAGES = 4, 64
"""A budget is compared with so many times as much, and with no less than that many images' worth."""

LONGEST_SECONDS = 1.0
"""Of a simulation: what takes longer has a budget that is not small."""

SCORES = "rising"
"""With which a search goes on from what it made last, so that it does all that it can."""

WORDS = {
    ("noise", False): "it finishes anything of its own",
    ("noise", True): "it goes on with what it has chosen",
    ("vary", False): "it looks around a noise",
    ("vary", True): "it moves to what scored best",
    ("place", False): "it looks around a noise",
    ("place", True): "it moves to what scored best",
    ("renoise", False): "it carries a state back towards noise",
    ("fork", False): "it branches",
    ("ascend", False): "it takes a step uphill",
}

MOST_KNOWN = 64
"""Answers that a process remembers: many prompts with one search ask once."""


@dataclass(frozen=True)
class Smallest:
    """The smallest budgets with which a search does all that makes it itself.

    Attributes:
        before: in words, what does not come with the budget that was given.
        images: in images alone.
        nfe: in NFE alone.
    """

    before: str
    images: int
    nfe: int


_known: dict[str, Smallest | None] = {}


def too_small(plan: Plan, budget: Budget | None = None) -> Smallest | None:
    """What the plan's budget is too small for, and what is not; None where it is enough or nothing can be said.

    Args:
        plan: what would be done.
        budget: in images or NFE, in place of the plan's own; limits in seconds are not looked at.
    """
    budget = budget or plan.budget
    if plan.spec["search"] in PLAIN or (budget.images is None and budget.nfe is None):
        return None
    key = _depends(plan, budget)
    if key not in _known:
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[key] = _found(plan, budget)
    return _known[key]


def _depends(plan: Plan, budget: Budget) -> str:
    """All that a search's moves depend on: the prompt, for one, changes nothing."""
    samplers = (plan.sampler, plan.final)
    kinds = [(one.stochastic, one.remembers, one.can_advance) for one in samplers]
    levels = [one.schedule.digest for one in samplers]
    each = [one.nfe(0, one.schedule.steps) for one in samplers]
    looks = [one.preview_sigma for one in plan.verifiers if isinstance(one, WantsPreviews)]
    about: list[Any] = [plan.spec["search"], plan.search_args, budget.images, budget.nfe, kinds, levels, each, looks,
                        plan.winners, plan.finalists, plan.spec.get("draft")]  # fmt: skip
    return json.dumps(about, default=str)


def in_words(plan: Plan, smallest: Smallest, given: str = "") -> str:
    """The warning for a person."""
    budget = given or f"a budget of {plan.budget}"
    return (
        f"{budget} ends {plan.spec['search']} before {smallest.before}: the smallest that does not is "
        f"{smallest.nfe} nfe, or {smallest.images} images"
    )


def _found(plan: Plan, budget: Budget) -> Smallest | None:
    each = plan.sampler.nfe(0, plan.sampler.schedule.steps)
    found = simulate(plan, budget, SCORES, LONGEST_SECONDS)
    if found is None or found.finished or not found.whole:
        return None
    more = simulate(plan, Budget(nfe=MORE * max(found.spent.nfe, LEAST_IMAGES // MORE * each)), SCORES, LONGEST_SECONDS)
    if more is None:
        return None
    wanted = more.moves or more.kept  # what a larger budget happens to be cut at is no part of the search
    missing = [move for move in wanted if move not in (*found.moves, *found.kept)]
    if not missing:
        return None

    def enough(limit: Budget) -> bool:
        tried = simulate(plan, limit, SCORES, LONGEST_SECONDS)
        return tried is None or set(wanted) <= {*tried.moves, *tried.kept}

    return Smallest(
        _in_words(missing[0]),
        _least(more.spent.images, lambda images: enough(Budget(images=images))),
        _least(more.spent.nfe, lambda nfe: enough(Budget(nfe=nfe))),
    )


def _in_words(move: Move) -> str:
    verb, compared = move
    return WORDS.get((verb, compared)) or WORDS.get((verb, False)) or f"it comes to {verb}"


def _least(high: int, enough: Callable[[int], bool]) -> int:
    """The least number in [1, high] that is enough; ``high`` is."""
    low = 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
