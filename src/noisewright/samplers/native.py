"""A pipeline's own scheduler, run by a private copy: its history and its random numbers belong to the particle."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.errors import UnsupportedPipeline
from noisewright.samplers import chance

CANNOT_BE_TRIED = (ValueError, TypeError, RuntimeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What a scheduler raises that does not take a made-up prediction of the shape (1, 4, 8, 8)."""


@dataclass(frozen=True)
class Chance:
    """What a scheduler draws in the steps of a schedule.

    Attributes:
        matters: whether two seeds give two results in any step.
        from_start: whether they do so in the first.
        draws: whether it draws at all.
    """

    matters: bool = False
    from_start: bool = False
    draws: bool = False


ASKED = ("model_output", "timestep", "sample")
"""Arguments by which the ``step`` of every scheduler is called."""


def takes_generator(scheduler: Any) -> bool:
    """Whether a scheduler's step can be given a generator."""
    return "generator" in inspect.signature(scheduler.step).parameters


def check_step(scheduler: Any) -> None:
    """Refuse a scheduler whose step needs more than prediction, time and state.

    Raises:
        UnsupportedPipeline: in one line.
    """
    if scheduler.config.get("scale_factors") and scheduler.config.get("upscale_mode"):
        raise UnsupportedPipeline(
            f"expected states of one size, got {type(scheduler).__name__} with scale_factors, which makes them "
            "larger on their way: set scale_factors to None"
        )
    parameters = inspect.signature(scheduler.step).parameters.values()
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    others = [name for name in needed if name not in ("model_output", "timestep", "sample")]
    if others:
        raise UnsupportedPipeline(
            f"expected a scheduler that steps from prediction, time and state, got {type(scheduler).__name__}, which "
            f"needs {', '.join(others)} too: give the pipeline another scheduler"
        )


def calls(scheduler: Any) -> int:
    """How many steps a prepared scheduler takes; TrigFlow's last time is that of the image."""
    return len(scheduler.timesteps) - (scheduler.config.get("prediction_type") == "trigflow")


def scaled_input(scheduler: Any) -> Callable[..., Tensor] | None:
    """The scheduler's ``scale_model_input``, which flow schedulers may lack."""
    found: Callable[..., Tensor] | None = getattr(scheduler, "scale_model_input", None)
    return found


def resumed(prepared: Any, history: Any, start: int) -> Any:
    """A private copy of the scheduler that stands at ``start`` with what earlier steps changed in it."""
    scheduler = own_copy(prepared)
    if history is not None:
        scheduler.__dict__.update(copy.deepcopy(history))
    elif start > 0 and hasattr(scheduler, "_step_index"):
        scheduler._step_index = start
    return scheduler


BROWNIAN = "noise_sampler"
"""Where schedulers keep the Brownian motion that they draw from, and make it anew from its seeds where it is None."""


def private(scheduler: Any) -> Any:
    """A deep copy of a scheduler without the Brownian motion of an earlier call, which cannot be copied."""
    shallow = copy.copy(scheduler)
    if BROWNIAN in vars(shallow):
        setattr(shallow, BROWNIAN, None)
    return copy.deepcopy(shallow)


def own_copy(prepared: Any) -> Any:
    """A copy of a scheduler whose steps take generators, also where its own do not (DPM-Solver SDE).

    The seeds of its Brownian motion are then those of the generators, one a row, as with schedulers that take them.
    """
    scheduler = private(prepared)
    if "noise_sampler_seed" in vars(scheduler):
        kind: Any = type(scheduler)
        scheduler.__class__ = _with_seeds(kind)
    return scheduler


@lru_cache(maxsize=16)
def _with_seeds(kind: Any) -> Any:
    """A scheduler's class, whose step takes its Brownian motion's seeds from generators.

    A seed of its configuration is that of each image, as it would be if each was made alone.
    """

    def step(
        self: Any, model_output: Tensor, timestep: Any, sample: Tensor, generator: Any = None, **more: Any
    ) -> Any:  # fmt: skip
        configured = self.noise_sampler_seed
        if isinstance(configured, int):
            self.noise_sampler_seed = [configured] * len(sample)
        elif configured is None and generator is not None:
            drawn = generator if isinstance(generator, (list, tuple)) else [generator] * len(sample)
            self.noise_sampler_seed = [one.initial_seed() for one in drawn]
        try:
            return kind.step(self, model_output=model_output, timestep=timestep, sample=sample, **more)
        finally:
            self.noise_sampler_seed = configured

    return type(kind.__name__, (kind,), {"step": step, "__module__": kind.__module__})


def history_of(scheduler: Any, fresh: Any) -> dict[str, Any]:
    """What a scheduler's steps changed in it: the multistep history.

    Raises:
        UnsupportedPipeline: on what cannot be kept with a particle.
    """
    changed = {}
    for key, value in scheduler.__dict__.items():
        if key != "_internal_dict" and not _brownian(key, value) and not _same(value, fresh.__dict__.get(key)):
            if not _plain(value):
                raise UnsupportedPipeline(
                    f"{type(scheduler).__name__} keeps a {type(value).__name__} ({key}) from step to step, which a "
                    "particle cannot take along: choose --solver ddim"
                )
            changed[key] = value
    return changed


def _brownian(key: str, value: Any) -> bool:
    """Whether a value is the Brownian motion of diffusers, which its seeds make again."""
    return key == BROWNIAN and type(value).__name__ == "BrownianTreeNoiseSampler"


def _same(a: Any, b: Any) -> bool:
    if torch.is_tensor(a) and torch.is_tensor(b):
        return a.device == b.device and torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b


def _plain(value: Any) -> bool:
    """Whether a value is made of tensors, numbers, texts and containers of these."""
    if isinstance(value, (list, tuple)):
        return all(_plain(one) for one in value)
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _plain(one) for key, one in value.items())
    return value is None or isinstance(value, (Tensor, np.ndarray, np.generic, str, int, float, bool))


# Random numbers


def tried(prepared: Any, given: Mapping[str, Any]) -> Chance:
    """Whether a scheduler's steps draw noise, found by taking every step of the schedule with two seeds.

    A scheduler that does not take made-up predictions is believed to draw where it can be given a generator.

    Args:
        prepared: the scheduler after ``set_timesteps``.
        given: what the pipeline passes to ``step`` beside prediction, time and state, as far as is known.

    Raises:
        UnsupportedPipeline: where what it draws matters, and comes from a generator of the process's own; where its
            steps leave something behind that a particle cannot take along.
    """
    prepared = own_copy(prepared)
    name, before = type(prepared).__name__, chance.states()
    able, drew = takes_generator(prepared), False
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in ((0, 1) if able else (0,))]
    fresh = generators[0].get_state()
    pair = [_Trial(prepared, given, generator if able else None) for generator in generators]
    different: int | None = None
    try:
        for number in range(calls(prepared)):
            states = [trial.step(number) for trial in pair]
            drew = drew or not torch.equal(fresh, generators[0].get_state())
            if not torch.equal(states[0], states[-1]):
                different = number
                break
        history_of(pair[0].scheduler, prepared)
        drawn = chance.moved(before, chance.states())
        if drawn:
            chance.stir(drawn)
            other = _Trial(prepared, given, torch.Generator("cpu").manual_seed(0) if able else None)
            again = [other.step(number) for number in range(pair[0].taken)][-1]
            if not torch.equal(again, pair[0].state):
                raise UnsupportedPipeline(
                    f"{name} draws its step noise from the random generator of {' and '.join(drawn)} that the whole "
                    "process shares, so no seed names its images: choose --solver ddim"
                )
    except CANNOT_BE_TRIED as error:
        if isinstance(error, UnsupportedPipeline):
            raise
        return Chance(able, able, True)
    finally:
        if chance.others_wait():  # else what moved may be another thread's
            chance.put_back(before)
    return Chance(different is not None, different == 0, drew)


class _Trial:
    """A scheduler that walks its schedule with a made-up prediction."""

    def __init__(self, prepared: Any, given: Mapping[str, Any], generator: torch.Generator | None) -> None:
        self.scheduler = private(prepared)
        self._given = {**given, **({"generator": generator} if generator is not None else {})}
        self._learned = str(prepared.config.get("variance_type") or "").startswith("learned")
        self.state = torch.linspace(-1, 1, 4 * 8 * 8, device=prepared.timesteps.device).reshape(1, 4, 8, 8)
        self.taken = 0

    def step(self, number: int) -> Tensor:
        time = self.scheduler.timesteps[number]
        scale = scaled_input(self.scheduler)
        scaled = scale(self.state, time) if scale is not None else self.state
        prediction = 0.5 * (torch.cat([scaled, scaled], 1) if self._learned else scaled)
        state = self.scheduler.step(prediction, time, self.state, return_dict=False, **self._given)[0]
        self.state = state.nan_to_num().clamp(-1e3, 1e3)  # made-up predictions may lead anywhere
        self.taken += 1
        return self.state


def generators_of(kept: Tensor) -> list[torch.Generator]:
    """Generators in the states that a segment left, one a row."""
    generators = []
    for row in kept:
        generators.append(torch.Generator("cpu"))
        generators[-1].set_state(row.clone())  # a view crashes torch
    return generators


def keyed_generator(noise: Tensor) -> torch.Generator:
    """The generator of a branch, seeded from its own step noise."""
    bits = hashlib.sha256(noise.numpy().tobytes()).digest()[:8]
    return torch.Generator("cpu").manual_seed(int.from_bytes(bits, "big") >> 1)


def kept_states(generators: Sequence[torch.Generator]) -> Tensor:
    """The states of generators, a row each."""
    return torch.stack([generator.get_state() for generator in generators])
