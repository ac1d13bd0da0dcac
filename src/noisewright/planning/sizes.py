"""How many images a run makes at once: what was asked for, what was found fastest here, or a guess by their size.

The fastest is found by a short trial before a run that is long beside it, or by ``noisewright check``, and kept
(:mod:`noisewright.samplers.speeds`). Images depend on it by rounding, so a run records it and goes on with it.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from noisewright.outside import busy
from noisewright.outside.messages import first_line
from noisewright.samplers import json_cache, speeds
from noisewright.samplers.machine import machine
from noisewright.samplers.optional import ShowsFrames, most_at_once
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.speeds import MOST_AT_ONCE, Decided, Speed, fastest_size, steps_of_trial
from noisewright.samplers.verdicts import key_of

if TYPE_CHECKING:
    from noisewright.planning.plans import Plan

SHARE = 0.03
"""Of a run that a trial may cost at most; a shorter one goes by the guess."""

LEAST_SECONDS = 60.0
"""A budget in seconds alone says nothing of how many steps it is: below this, none is spent on a trial."""

log = logging.getLogger("noisewright")


def default_batch_size(sampler: Sampler) -> int:
    """How many images to try at once: as many small ones as a CPU likes, few large ones; a GPU halves from 16, or of
    videos from as many as have a million numbers of noise.
    """
    numel = sampler.noise([0]).numel()
    on_cpu = "cuda" not in str(sampler.description.get("device", "cpu"))
    most = 2**16 if on_cpu else 2**20 if isinstance(sampler, ShowsFrames) else 2**31
    return max(1, min(16, most // numel))


def key_of_size(sampler: Sampler, verdict_key: str | None = None) -> str | None:
    """What the fastest size is kept by: pipeline, kind of call, size, precision, machine, versions; None of a sampler
    that is no pipeline.

    Args:
        sampler: which is not run.
        verdict_key: that its verdict is kept by, where it is known.
    """
    if not isinstance(sampler, PipelineSampler):
        return None
    return json_cache.key_of({"pipeline": verdict_key or key_of(sampler), "machine": machine(sampler.device)})


def size_of(sampler: Sampler, wanted: int | None, key: str | None) -> tuple[int, Decided | None]:
    """How many images to make at once, and why, where an earlier trial says so.

    Args:
        sampler: of the search.
        wanted: what was asked for.
        key: from :func:`key_of_size`; None where no trial is to be looked at.
    """
    if wanted is not None:
        return most_at_once(sampler, wanted), None
    most = most_at_once(sampler, MOST_AT_ONCE)
    known = None if key is None or most == 1 else speeds.CACHE.get(key)
    if known is not None and known.choice.isdecimal():
        size = most_at_once(sampler, int(known.choice))
        return size, Decided("batch_size", str(size), "the fastest by an earlier trial here", known.seconds)
    return most_at_once(sampler, default_batch_size(sampler)), None


def fastest_for(plan: Plan) -> Decided | None:
    """How many images a new run of a plan makes at once, by a trial where that costs little beside it; else None.

    On a busy machine no trial is made: it would find what is fastest beside others.
    """
    key, sampler, first = plan.size_key, plan.sampler, plan.batch_size
    if key is None or not isinstance(sampler, PipelineSampler) or most_at_once(sampler, 2) == 1:
        return None
    if not _pays(plan, first) or busy.is_busy(busy.others(), busy.processors()):
        return None
    limit = math.inf if plan.budget.seconds is None else SHARE * plan.budget.seconds
    try:
        found = fastest_size(sampler, first, most=most_at_once(sampler, MOST_AT_ONCE), seconds=limit)
    except Exception as error:  # the run will say what is wrong
        log.debug("no trial of batch sizes could be made: %s", first_line(error))
        return None
    keep_size(key, found)
    size = most_at_once(sampler, int(found.choice))
    return Decided("batch_size", str(size), "the fastest by a trial", found.seconds)


def keep_size(key: str | None, found: Speed) -> None:
    """Keep the fastest of several sizes; a single one says nothing."""
    if key is not None and len(found.seconds) > 1:
        speeds.CACHE.keep(key, found)


def _pays(plan: Plan, first: int) -> bool:
    """Whether a trial costs little beside a run."""
    budget, each = plan.budget, plan.sampler.nfe(0, plan.sampler.schedule.steps)
    limits = [one for one in (budget.nfe, None if budget.images is None else budget.images * each) if one is not None]
    if limits:
        return steps_of_trial(first) <= SHARE * min(limits)
    return budget.seconds is not None and budget.seconds >= LEAST_SECONDS
