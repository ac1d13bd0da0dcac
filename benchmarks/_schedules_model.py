"""The models that the benchmark of schedules stands on: prompts, samplers, levels, many-step images."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import noisewright as nw
from _evidence import places
from _schedules_store import Part
from noisewright import registry
from noisewright.diffusion.clock import Clock
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import named_schedule, rule_levels
from noisewright.diffusion.solvers import nfe
from noisewright.samplers.classes import labels_of
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.files import identity
from noisewright.trajectory.metrics import NoiseBatch, Teacher
from noisewright.trajectory.path import ModelPath, path_of, ruled
from noisewright.verifiers.features import FeatureNetwork


@dataclass(frozen=True)
class Ground:
    """A model to measure on.

    Attributes:
        model: a bundled one.
        network: what the FID's features come from.
        power: DMN's p, 1 for pixels and 2 for latents.
        classes: whether it is asked for classes, and not prompts.
    """

    model: str
    network: str
    power: float
    classes: bool


GROUNDS = {
    "shapes": Ground("noisewright/shapes", "noisewright/shapes-clip", 2.0, False),
    "cifar10": Ground("noisewright/cifar10", "noisewright/cifar10-classifier", 1.0, True),
}
ground = GROUNDS["shapes"]


def stand_on(name: str) -> None:
    """Choose the model of this process, before anything else is asked of it."""
    global ground
    ground = GROUNDS[name]


@functools.cache
def pipeline(dtype: str = "float32") -> Any:
    torch.set_num_threads(1)  # as many processes as cores, of one thread each
    return nw.load(ground.model, dtype=dtype)


@functools.cache
def prompts_of(name: str) -> tuple[str, ...]:
    """The prompts of a set, kinds alternating; or the classes."""
    if ground.classes:
        return tuple(labels_of(pipeline()))
    name = "dev" if name in ("dev", "wide") else "test"
    return tuple(one.text for one in places.prompts_of(name, 200))


@functools.lru_cache(maxsize=256)
def sampler_of(prompt: str, guidance: float, steps: int = 25, dtype: str = "float32") -> PipelineSampler:
    condition = {"prompt": "", "class_label": prompt} if ground.classes else {"prompt": prompt}
    return PipelineSampler(
        pipeline(dtype), **condition, num_inference_steps=steps, guidance_scale=guidance, model=ground.model
    )


@functools.cache
def network() -> FeatureNetwork:
    return FeatureNetwork(registry.find_model(ground.network))


@functools.cache
def fingerprint() -> str:
    """Of the model, by the rule that the rows which are kept were named by."""
    sampler = sampler_of(prompts_of("dev")[0], 1.0)
    return str(identity(sampler)["fingerprint"].older())


@functools.cache
def model_path() -> ModelPath:
    """The model's levels, down to the clean image: every schedule here ends at 0, so that ends do not differ."""
    return replace(path_of(sampler_of(prompts_of("dev")[0], 1.0)), end=0.0)


@functools.cache
def named(name: str, steps: int) -> Schedule:
    """A named schedule, or the pipeline's own levels, ending at the clean image.

    Raises:
        ValueError: where a rule has no such number of steps.
    """
    path = model_path()
    if name == "pipeline":
        return path.schedule(path.levels_of(sampler_of(prompts_of("dev")[0], 1.0, steps).schedule))
    made = named_schedule(name, path.clock, steps)
    assert made.sigma[-1] == 0
    return made


@functools.cache
def teacher_levels(steps: int) -> Schedule:
    return ruled("uniform", model_path(), steps)


@dataclass(frozen=True)
class LoweredClock(Clock):
    """A model's times, of which rules see those up to a level below its noisiest.

    Attributes:
        top: that level, sigma / alpha.
    """

    top: float = math.inf

    @property
    def last(self) -> float:
        return model_path().time(self.top)

    @property
    def highest(self) -> float:
        return self.top


def started_at(name: str, steps: int, top: float) -> Schedule:
    """A named rule whose noisiest level is ``top``: it keeps the rule and moves only the start."""
    path = model_path()
    if name == "logsnr":  # to the bit the levels that the rows which are kept were measured on
        return path.schedule(np.exp(np.linspace(math.log(top), math.log(path.low), steps + 1))[:-1].tolist())
    lowered = LoweredClock(**{one.name: getattr(path.clock, one.name) for one in fields(path.clock)}, top=top)
    levels = [path.s_of(one) for one in rule_levels(name, lowered, steps)]
    return path.schedule([top, *levels[1:]])


def batch_of(part: Part, guidance: float, dtype: str = "float32") -> NoiseBatch:
    prompt = prompts_of(part.set)[part.prompt]
    return NoiseBatch(sampler_of(prompt, guidance, dtype=dtype), prompt, part.seeds)


@functools.cache
def teacher_of(out: Path, guidance: float, steps: int) -> Teacher:
    """One for each guidance: it knows its noises by prompt and seed."""
    return Teacher(steps, DiskCache(out))


def cost_of(solver: str, schedule: Schedule) -> int:
    """Guided evaluations of an image."""
    return nfe(registry.make_solver(solver), schedule, 0, schedule.steps)
