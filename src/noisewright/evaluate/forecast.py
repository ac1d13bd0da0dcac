"""What a planned run will cost, before it is paid: ``generate --dry-run``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisewright.evaluate.enough import Smallest, in_words, too_small
from noisewright.evaluate.simulation import SCORES, Simulated, simulate
from noisewright.run.budget import Budget
from noisewright.run.reserve import SAVING_SECONDS
from noisewright.samplers.optional import can_split
from noisewright.verifiers.optional import WantsPreviews, usage_of
from noisewright.verifiers.protocol import score

if TYPE_CHECKING:
    from noisewright.planning import Plan
    from noisewright.samplers.protocol import Sampler

SOON_SECONDS, AT_ONCE_SECONDS = 2.0, 0.3
"""How long a simulation may take before a dry run, and before a run; a longer one is gone on with in proportion."""

SLOW_SECONDS = 2.0
"""A single step that takes longer than this is not repeated with a whole micro-batch."""


@dataclass(frozen=True)
class _Measured:
    """What one short trial says.

    Attributes:
        forwards_per_nfe: 2 under classifier-free guidance.
        nfe_seconds: one evaluation of one image in a step, in a micro-batch of ``images``.
        rest_seconds: decoding and verifying one image.
        images: how many were timed at once.
    """

    forwards_per_nfe: float
    nfe_seconds: float
    rest_seconds: float
    images: int


def forecast(plan: Plan) -> dict[str, Any]:
    """The planned cost, JSON-ready. One step is run and timed, decoded and verified; nothing is written.

    The search itself is run without its model (:mod:`~.simulation`), so images and NFE are those of its own verbs.
    Where they depend on the scores the largest are given, and the smallest under ``least``. With a limit in seconds
    they are estimates; a target, which may end a run at any time, is not looked at.

    Raises:
        VerifierFailed: where a verifier cannot score the trial.
    """
    reserve = _reserve(plan)
    measured = _measure(plan, reserve)
    counted = _within(plan, measured)
    found = _simulated(plan, counted)
    most = {unit: max(one[unit] for one in found) for unit in found[0]}
    least = {unit: min(one[unit] for one in found) for unit in found[0]}
    small = too_small(plan, counted)
    final_nfe = plan.final.nfe(0, plan.final.schedule.steps)
    return {
        "dry_run": True,
        "prompt": plan.spec["sampler"].get("prompt"),
        "model": plan.spec["sampler"].get("model"),
        "search": plan.spec["search"],
        "search_args": plan.search_args,
        "verifiers": [one.name for one in plan.verifiers],
        "judges": [one.name for one in plan.judges],
        "budget": {unit: value for unit, value in plan.spec["budget"].items() if value is not None},
        "limit": "search" if least["finished"] else _limit(plan, measured, most),
        "steps": plan.final.schedule.steps,
        "search_steps": plan.sampler.schedule.steps,
        "batch_size": plan.batch_size,
        "candidates": round(most["images"]) - reserve,
        "reserve": {"images": reserve, "nfe": reserve * final_nfe},
        **_cost(most, measured),
        "least": _cost(least, measured),
        "forwards_per_nfe": round(measured.forwards_per_nfe, 4),
        "timed": f"one step, decoding and verifying of {measured.images} at once",
        "smallest": None if small is None else {"images": small.images, "nfe": small.nfe},
        "warnings": list(plan.warnings) + _said(plan, small),
    }


def expected_nfe(plan: Plan) -> int | None:
    """About what the plan's run will cost in NFE, if its budget says so and that is found out at once."""
    if plan.budget.images is None and plan.budget.nfe is None:
        return None
    found = simulate(plan, plan.budget, seconds=AT_ONCE_SECONDS)
    return None if found is None else round(found.spent.nfe * _to_the_end(plan, found))


def _reserve(plan: Plan) -> int:
    """Images that are made besides the search's own: with drafts the baseline and the best in full, at most."""
    return 0 if plan.final is plan.sampler else 1 + plan.finalists


def _cost(counts: Mapping[str, float], measured: _Measured) -> dict[str, Any]:
    nfe = round(counts["nfe"])
    return {
        "images": round(counts["images"]),
        "nfe": nfe,
        "forwards": round(nfe * measured.forwards_per_nfe),
        "seconds": round(_seconds(counts, measured), 2),
    }


def _seconds(counts: Mapping[str, float], measured: _Measured) -> float:
    return counts["nfe"] * measured.nfe_seconds + counts["decodes"] * measured.rest_seconds + SAVING_SECONDS


def _said(plan: Plan, small: Smallest | None) -> list[str]:
    text = "" if small is None else in_words(plan, small)
    return [text] if text and text not in plan.warnings else []


def _limit(plan: Plan, measured: _Measured, most: Mapping[str, float]) -> str:
    """The nearest limit of the budget."""
    limits = ("images", plan.budget.images, most["images"]), ("nfe", plan.budget.nfe, most["nfe"])
    used = {unit: now / limit for unit, limit, now in limits if limit}
    if plan.budget.seconds is not None:
        used["seconds"] = _seconds(most, measured) / plan.budget.seconds
    return max(used, key=lambda unit: used[unit])


def _within(plan: Plan, measured: _Measured) -> Budget:
    """The budget in images and NFE, a limit in seconds among them as so many NFE."""
    budget = plan.budget
    if budget.seconds is None:
        return budget
    each = plan.sampler.nfe(0, plan.sampler.schedule.steps)
    left = max(0.0, budget.seconds - SAVING_SECONDS)
    least = plan.final.nfe(0, plan.final.schedule.steps) * max(1, _reserve(plan))
    nfe = max(least, int(left / (measured.nfe_seconds + measured.rest_seconds / each)))
    for _ in range(3):  # what is decoded besides, or is not, takes time or leaves it
        found = _counts(plan, simulate(plan, Budget(budget.images, min(nfe, budget.nfe or nfe)), seconds=SOON_SECONDS))
        took = _seconds(found, measured) - SAVING_SECONDS
        if found["finished"] or abs(took - left) < 0.02 * left:
            break
        nfe = max(least, int(nfe * left / took))
    return Budget(budget.images, min(nfe, budget.nfe or nfe))


def _simulated(plan: Plan, budget: Budget) -> list[dict[str, float]]:
    """What a run costs with scores of several kinds, as far as that is found out soon."""
    began = time.monotonic()
    found: list[dict[str, float]] = []
    for scores in SCORES:
        if len(found) < 2 or time.monotonic() - began < SOON_SECONDS:
            found.append(_counts(plan, simulate(plan, budget, scores, SOON_SECONDS), budget))
    return found


def _counts(plan: Plan, found: Simulated | None, budget: Budget | None = None) -> dict[str, float]:
    """The counts of a simulation; what it did not come to is as what it came to."""
    if found is None:  # it will fail in its own words: until then it is taken for best of N
        limits = budget or plan.budget
        each = plan.sampler.nfe(0, plan.sampler.schedule.steps)
        nfe = limits.nfe or (limits.images or 1) * each
        return {"images": nfe // each, "nfe": nfe, "decodes": nfe // each, "finished": False}
    more = _to_the_end(plan, found, budget)
    counts = {"images": found.spent.images, "nfe": found.spent.nfe, "decodes": found.decodes}
    return {**{unit: value * more for unit, value in counts.items()}, "finished": found.finished}


def _to_the_end(plan: Plan, found: Simulated, budget: Budget | None = None) -> float:
    """How many times what was simulated the whole is: 1 unless time was up."""
    limits = budget or plan.budget
    pairs = ((limits.images, found.spent.images), (limits.nfe, found.spent.nfe))
    return 1.0 if found.whole else min((limit / now for limit, now in pairs if limit and now), default=1.0)


def _measure(plan: Plan, reserve: int) -> _Measured:
    sampler = plan.sampler
    before = sampler.meter.snapshot()
    x, step = _one_step(sampler, [plan.spec["seed"]])
    taken = sampler.meter.since(before)
    images = 1
    planned = (plan.budget.images or plan.batch_size) - reserve
    if step < SLOW_SECONDS:  # the first call also loaded and encoded: time a whole micro-batch as the run will do it
        images = max(1, min(plan.batch_size, planned))
        x, step = _one_step(sampler, [plan.spec["seed"] + k for k in range(images)])
    began = time.perf_counter()
    pictures = sampler.decode(x)
    for verifier in plan.verifiers:
        if isinstance(verifier, WantsPreviews) or usage_of(verifier) is not None:
            continue  # there is no preview yet; a server's answer is paid for
        score(verifier, pictures, str(plan.spec["sampler"].get("prompt", "")))
    rest = time.perf_counter() - began
    return _Measured(taken["forwards"] / max(1, taken["nfe"]), step / images / sampler.nfe(0, 1), rest / images, images)


def _one_step(sampler: Sampler, seeds: list[int]) -> tuple[Tensor, float]:
    """The states after one step from pure noise, and its seconds; of a way that cannot be cut all of it, in part."""
    x, stop = sampler.noise(seeds), 1 if can_split(sampler) else sampler.schedule.steps
    began = time.perf_counter()
    noise = (lambda index: torch.zeros_like(x)) if sampler.stochastic else None
    x, _ = sampler.denoise(x, 0, stop, None, noise, seeds)
    return x, (time.perf_counter() - began) * sampler.nfe(0, 1) / sampler.nfe(0, stop)
