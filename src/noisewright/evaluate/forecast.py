"""What a planned run will cost, before it is paid: ``generate --dry-run``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisewright.run.verbs import SAVING_SECONDS
from noisewright.verifiers.optional import WantsPreviews, usage_of
from noisewright.verifiers.protocol import score

if TYPE_CHECKING:
    from noisewright.planning import Plan
    from noisewright.samplers.protocol import Sampler

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

    The counts are those of a search that finishes every candidate (``random``); others spend the same budget on other
    verbs. With a limit in seconds they are estimates.

    Raises:
        VerifierFailed: where a verifier cannot score the trial.
    """
    final_nfe = plan.final.nfe(0, plan.final.schedule.steps)
    each_nfe = plan.sampler.nfe(0, plan.sampler.schedule.steps)
    reserve = 0 if plan.final is plan.sampler else 2  # else candidate 0 is the baseline, and the winner is rendered
    measured = _measure(plan, reserve)
    final_seconds = final_nfe * measured.nfe_seconds + measured.rest_seconds
    each_seconds = each_nfe * measured.nfe_seconds + measured.rest_seconds
    candidates, limit = _candidates(plan, reserve, each_nfe, final_nfe, each_seconds, final_seconds)
    nfe = candidates * each_nfe + reserve * final_nfe
    return {
        "dry_run": True,
        "prompt": plan.spec["sampler"].get("prompt"),
        "model": plan.spec["sampler"].get("model"),
        "search": plan.spec["search"],
        "search_args": plan.search_args,
        "verifiers": [one.name for one in plan.verifiers],
        "judges": [one.name for one in plan.judges],
        "budget": {unit: value for unit, value in plan.spec["budget"].items() if value is not None},
        "limit": limit,
        "steps": plan.final.schedule.steps,
        "search_steps": plan.sampler.schedule.steps,
        "batch_size": plan.batch_size,
        "candidates": candidates,
        "reserve": {"images": reserve, "nfe": reserve * final_nfe},
        "images": candidates + reserve,
        "nfe": nfe,
        "forwards": round(nfe * measured.forwards_per_nfe),
        "forwards_per_nfe": round(measured.forwards_per_nfe, 4),
        "seconds": round(candidates * each_seconds + reserve * final_seconds + SAVING_SECONDS, 2),
        "timed": f"one step, decoding and verifying of {measured.images} at once",
        "warnings": list(plan.warnings),
    }


def _candidates(
    plan: Plan, reserve: int, each_nfe: int, final_nfe: int, each_seconds: float, final_seconds: float
) -> tuple[int, str]:
    """How many candidates the nearest limit allows, and which limit that is."""
    budget = plan.budget
    allowed: list[tuple[int, str]] = []
    if budget.images is not None:
        allowed.append((budget.images - reserve, "images"))
    if budget.nfe is not None:
        allowed.append(((budget.nfe - reserve * final_nfe) // each_nfe, "nfe"))
    if budget.seconds is not None:
        left = budget.seconds - SAVING_SECONDS - reserve * final_seconds
        allowed.append((max(1, int(left / each_seconds)), "seconds"))
    asked = plan.search_args.get("n")
    if isinstance(asked, int):
        allowed.append((asked, "n"))
    count, limit = min(allowed)
    return max(0, count), limit


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
    """The states after one step from pure noise, and its seconds."""
    x = sampler.noise(seeds)
    began = time.perf_counter()
    noise = (lambda index: torch.zeros_like(x)) if sampler.stochastic else None
    x, _ = sampler.denoise(x, 0, 1, None, noise, seeds)
    return x, time.perf_counter() - began
