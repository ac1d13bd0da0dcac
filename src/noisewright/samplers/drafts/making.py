"""The sampler of a draft, made from the one that it is a draft of."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from noisewright.diffusion.solvers import asks_once
from noisewright.samplers import optional
from noisewright.samplers.drafts.caches import caching, check_cache, counted_every, depends_on_mates
from noisewright.samplers.drafts.half import Halved
from noisewright.samplers.drafts.sampler import DraftSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import Meter, Sampler
from noisewright.samplers.turns import networks_of
from noisewright.schemas.drafts import DEEP, Draft

Within = Callable[[Any, list[nn.Module], Meter], AbstractContextManager[list[nn.Module]]]
"""What a call of a pipeline with its networks and the meter is made within; it gives the networks that work then."""

ON_PIPELINES = ("size", "dtype", "cache", "guidance")
"""Kinds that reach into a pipeline."""


def drafted(full: Sampler, draft: Draft) -> Sampler:
    """The sampler of a draft.

    Args:
        full: what renders in full.
        draft: with its number of steps said.

    Returns:
        On fewer steps alone the same kind of sampler as ``full``; else a :class:`~.sampler.DraftSampler`.

    Raises:
        ValueError: in one line, where the model does not have such drafts.
    """
    parts = draft.parts
    base: Any = full
    if "steps" in parts:
        n = parts["steps"]["n"]
        if n >= full.description["num_inference_steps"]:
            raise ValueError(f"expected n below the {full.description['num_inference_steps']} steps of the full image "
                             f"for draft steps, got {n}")  # fmt: skip
        base = full.with_steps(n)
    if set(parts) <= {"steps"}:
        return base  # type: ignore[no-any-return]
    for kind in ON_PIPELINES:
        if kind in parts and not isinstance(full, PipelineSampler):
            raise ValueError(f"expected a diffusers pipeline for draft {kind}, got {type(full).__name__}")
    first, extra = base, dict[str, Any]()
    if "size" in parts:
        first = _smaller(base, parts["size"]["by"])
        extra["by"] = parts["size"]["by"]
    within: list[Within] = []
    if "dtype" in parts:
        within.append(Halved(parts["dtype"]["to"]))
    if "cache" in parts:
        if "dtype" in parts and parts["cache"]["name"] != DEEP:
            raise ValueError(f"expected cache {DEEP} beside draft dtype, got {parts['cache']['name']}")
        settings = full._caller.settings  # type: ignore[attr-defined]
        check_cache(base.pipe, parts["cache"], base.schedule.steps, settings, "guidance" in parts)
        within.append(caching(parts["cache"], base.schedule.steps))
        extra |= {"every": counted_every(parts["cache"]), "whole": True, "alone": depends_on_mates(parts["cache"])}
    if within:
        first = _varied(first, _all_of(within))
    if "guidance" in parts:
        extra["turn"] = max(1, round(parts["guidance"]["until"] * base.schedule.steps))
        extra["later"] = _unguided(first)
    if "truncate" in parts:
        extra["stop"] = _stop(base, parts["truncate"]["at"])
    if "cache" in parts and base.solver is not None and not asks_once(base.solver):
        extra["every"] = 1  # how its stages fall on what is kept is not foreseen
    if "steps" not in parts:
        extra["again"] = lambda steps: drafted(full.with_steps(steps), draft)
    return DraftSampler(base, draft.text, first, **extra)


def _varied(sampler: PipelineSampler, within: Any = None, **settings: Any) -> PipelineSampler:
    """The same with other settings, whose calls are made within something."""
    other, caller = copy.copy(sampler), sampler._caller
    other.resident = False
    other._recorded = {**sampler._recorded, **settings}
    other._caller = replace(
        caller, settings={**caller.settings, **settings}, within=within or caller.within, answers={}
    )
    other._prepare(sampler._prepared.steps, sampler.given_solver)
    return other


def _all_of(several: list[Within]) -> Callable[[Any, Meter], AbstractContextManager[None]]:
    """Contexts of a call, one inside the other."""

    @contextmanager
    def entered(pipe: Any, meter: Meter) -> Iterator[None]:
        with ExitStack() as stack:
            networks = networks_of(pipe)
            for one in several:
                networks = stack.enter_context(one(pipe, networks, meter))
            yield

    return entered


def _stop(base: Any, at: float) -> int:
    """The index at which a way is cut short."""
    steps = base.schedule.steps
    if not (optional.can_split(base) and optional.can_preview(base) and optional.knows_levels(base)):
        raise ValueError("expected a model whose clean estimate is known on the way for draft truncate, got one of "
                         f"{optional.prediction_of(base)}")  # fmt: skip
    index = max(1, round(at * steps))
    if index >= steps:
        raise ValueError(f"expected at of draft truncate before the last of {steps} steps, got {at:g}")
    return index


def _unguided(first: PipelineSampler) -> PipelineSampler:
    """The same pipeline, which asks for the conditional prediction alone."""
    kind = type(first.pipe).__name__
    accepted = inspect.signature(type(first.pipe).__call__).parameters
    if "guidance_scale" not in accepted:
        raise ValueError(f"expected a pipeline with a guidance_scale for draft guidance, got {kind}")
    given = first._caller.settings.get("guidance_scale")
    scale = accepted["guidance_scale"].default if given is None else given
    if getattr(getattr(first.pipe, "transformer", None), "config", {}).get("guidance_embeds", False):
        raise ValueError(f"expected classifier-free guidance for draft guidance, got {kind}, whose network is told the "
                         "scale")  # fmt: skip
    if not isinstance(scale, (int, float)) or scale <= 1:
        raise ValueError(f"expected a guidance_scale above 1 for draft guidance, got {scale}")
    return _varied(first, guidance_scale=1.0)


def _smaller(base: PipelineSampler, by: int) -> PipelineSampler:
    """The same pipeline for images of a smaller size.

    Raises:
        ValueError: where it makes none, or not of noise that is averaged over blocks.
    """
    kind = type(base.pipe).__name__
    noise = base.noise([0])
    if base.stochastic:
        raise ValueError(f"expected a deterministic solver for draft size, whose steps draw no noise, got {kind} with "
                         "step noise")  # fmt: skip
    if noise.ndim != 4 or any(side % by for side in noise.shape[2:]) or optional.composes(base):
        raise ValueError(f"expected noise as (channels, height, width) with sides that {by} divides for draft size, "
                         f"got {tuple(noise.shape[1:])} of {kind}")  # fmt: skip
    settings = base._caller.settings
    scale = int(getattr(base.pipe, "vae_scale_factor", 1) or 1)
    whole = (("height", noise.shape[2]), ("width", noise.shape[3]))
    sides = [settings.get(name) or side * scale for name, side in whole]
    try:
        small = _varied(base, height=sides[0] // by, width=sides[1] // by)
        shape = small.noise([0]).shape
    except Exception as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"expected a pipeline that makes images of other sizes for draft size, got {kind}: {said}"
                         ) from None  # fmt: skip
    if tuple(shape[1:]) != (noise.shape[1], noise.shape[2] // by, noise.shape[3] // by):
        got = tuple(shape[1:])
        raise ValueError(f"expected noise of a {by} times smaller size for draft size, got {got} of {kind}")
    return small
