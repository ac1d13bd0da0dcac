"""``dtype="auto"``: bfloat16 where the processor multiplies in it and a short trial shows that it is faster.

A run records the type that was used, not that it was left open, so that whoever goes on with it or makes an image again
makes no trial.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch

from noisewright import registry
from noisewright.outside.messages import first_line
from noisewright.planning.conditions import condition_of
from noisewright.planning.samplers import call_arguments, make_sampler
from noisewright.planning.sizes import default_batch_size
from noisewright.request import Request
from noisewright.samplers import json_cache, speeds
from noisewright.samplers.load import best_device
from noisewright.samplers.machine import bfloat16_instructions, machine
from noisewright.samplers.parity import on_its_own
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.speeds import Decided, Speed, in_turns, seconds_each, timer
from noisewright.samplers.verdicts import versions_of_libraries
from noisewright.schemas.request import AUTO, Dtype

WORTH = 0.9
"""bfloat16 has to take less than this share of float32's time: images in it are not those of float32."""

CALL_SECONDS = 0.3
"""The most that a timed call of a trial is to take: with the first calls and turns of both types, about a second."""

TOGETHER_BYTES = 2**30
"""Of networks in float32: larger ones are not held in both types at once, and are timed one after the other."""

MOST_FILES = 1000

TRIED = ("float32", "bfloat16")

LOADED = get_args(get_args(Dtype)[0])
"""The types that a pipeline may have."""

log = logging.getLogger("noisewright")

Loading = Callable[[str | None], Any]


def loaded_fastest(request: Request, load: Loading) -> Any:
    """The pipeline of a request that leaves its type open, in the one that is fastest here.

    Elsewhere than on a CPU that is the type by default; on one that cannot multiply in bfloat16, float32.

    Args:
        request: whose ``dtype`` is ``auto``.
        load: gives the pipeline in a type, by its name; None is the default.

    Raises:
        ValueError: as ``load`` does.
    """
    device = torch.device(request.device or best_device())
    if device.type != "cpu":
        return load(None)
    instructions = bfloat16_instructions()
    if instructions is None:
        return load("float32")
    key = json_cache.key_of(depends_on(request))
    known = _known(key)
    if known is not None:
        return load(known.choice)
    pipe, found = _tried(request, load)
    if found is not None:
        speeds.CACHE.keep(key, found)
    return pipe


def decided_dtype(request: Request, pipe: Any) -> Decided | None:
    """Which type a pipeline was loaded in for a request that left it open, and why; None where it did not.

    Args:
        request: as it was asked for.
        pipe: that :func:`loaded_fastest` gave.
    """
    if request.dtype != AUTO:
        return None
    name = dtype_of(pipe) or "of its own"
    if torch.device(request.device or best_device()).type != "cpu":
        return Decided("dtype", name, "by default on this device")
    instructions = bfloat16_instructions()
    if instructions is None:
        return Decided("dtype", name, "no bfloat16 instructions are known of this processor")
    known = _known(json_cache.key_of(depends_on(request)))
    if known is None:
        return Decided("dtype", name, "no trial of bfloat16 could be made")
    faster = "faster than float32" if known.choice == "bfloat16" else "bfloat16 is not faster, or by little,"
    return Decided("dtype", name, f"{faster} with {instructions}, by a trial here", known.seconds)


def _known(key: str) -> Speed | None:
    """What a trial of types found before; None of what says no type."""
    found = speeds.CACHE.get(key)
    return found if found is not None and found.choice in TRIED else None


def settled(request: Request, pipe: Any) -> Request:
    """A request that left the type open, with the one that its pipeline was loaded in."""
    if request.dtype != AUTO:
        return request
    return request.changed(dtype=dtype_of(pipe))


def dtype_of(pipe: Any) -> str | None:
    """The name of the type that a pipeline has; None where it has none that one can be loaded in."""
    name = str(getattr(pipe, "dtype", "")).removeprefix("torch.")
    return name if name in LOADED else None


def _tried(request: Request, load: Loading) -> tuple[Any, Speed | None]:
    """The pipeline in the faster type, and what a trial of both found; in float32 where none can be made."""
    single: Any = load("float32")
    try:
        sampler = _sampler(request, single)
        size = _size(sampler)
        if _bytes_of(single) > TOGETHER_BYTES:  # two may be too much for the memory
            found = {"float32": seconds_each(sampler, size)}
            del sampler
            single = None
            gc.collect()  # pipelines are in circles
            half = load("bfloat16")
            found["bfloat16"] = seconds_each(_sampler(request, half), size)
        else:
            half = load("bfloat16")
            timers = {"float32": timer(sampler, size), "bfloat16": timer(_sampler(request, half), size)}
            found = in_turns(timers, size)
    except Exception as error:  # no call to be timed, or layers without bfloat16; what is wrong the run will say
        log.debug("dtype auto: float32, since no trial could be made: %s", first_line(error))
        return load("float32") if single is None else single, None
    speed = {name: round(one, 9) for name, one in found.items()}
    if speed["bfloat16"] < WORTH * speed["float32"]:
        return half, Speed("bfloat16", speed)
    if single is None:
        del half
        gc.collect()
        single = load("float32")
    return single, Speed("float32", speed)


def _bytes_of(pipe: Any) -> int:
    """How much memory a pipeline's networks take."""
    networks = [one for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    return sum(one.numel() * one.element_size() for network in networks for one in network.parameters())


def _sampler(request: Request, pipe: Any) -> PipelineSampler:
    """A sampler of two steps of what is asked for.

    Raises:
        ValueError: where there is none.
    """
    info = registry.card(getattr(pipe, "name_or_path", None))
    plain = request.changed(schedule=None, solver=None, eta=None, search="random", search_args={})
    values = call_arguments(plain, {}, pipe)
    try:
        condition = condition_of(pipe, request.prompt, request.class_label, info)
    except ValueError:  # nobody has said yet what to show
        condition = condition_of(pipe, None, 0, info)
    found = make_sampler(plain, pipe, condition, info, values, [])
    if not isinstance(found, PipelineSampler):
        raise ValueError(f"expected a pipeline of diffusers, got a {type(found).__name__}")
    return on_its_own(found, min(2, found._prepared.steps))


def _size(sampler: PipelineSampler) -> int:
    """How many images at once are timed: as many as a run makes, if that is soon done."""
    one, size = seconds_each(sampler, 1), 1
    while 2 * size <= default_batch_size(sampler) and 2 * size * one <= CALL_SECONDS:
        size *= 2
    return size


def depends_on(request: Request) -> dict[str, Any]:
    """What the faster type depends on, as JSON: the model's files, the size, how it is loaded, machine, versions."""
    given = {name: getattr(request, name) for name in ("variant", "config", "compile", "channels_last", "loras")}
    size = {name: getattr(request, name) for name in ("height", "width", "frames")}
    return {
        "model": str(request.model), "files": _files(registry.find_model(str(request.model))), **given, **size,
        "machine": machine("cpu"), "versions": versions_of_libraries(),
    }  # fmt: skip


def _files(model: str) -> list[list[Any]]:
    """The names, sizes and times of the files that a model's name stands for; of a hub id nothing."""
    path = Path(model)
    every = sorted(path.rglob("*"))[:MOST_FILES] if path.is_dir() else [path] if path.is_file() else []
    held = [(one, os.stat(one)) for one in every if one.is_file()]
    return [[one.name, stat.st_size, stat.st_mtime_ns] for one, stat in held]
