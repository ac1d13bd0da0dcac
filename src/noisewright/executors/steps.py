"""Steps of a micro-batch, and the noise that stochastic ones draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.noise import gaussian
from noisewright.run.particle import Particle
from noisewright.samplers.optional import draws_inside
from noisewright.samplers.protocol import Sampler


def carry(
    particles: Sequence[Particle], sampler: Sampler, x: Tensor, state: Any, stop: int, clean: Tensor | None = None
) -> tuple[Tensor, Any]:
    """Denoise the states of particles at one index to ``stop``, stochastic steps with :class:`StepNoises`.

    Args:
        particles: what ``x`` are the states of.
        sampler: the model.
        x: (batch, ...).
        state: the solver's.
        stop: the index to go to; where they stand there already, nothing is done.
        clean: clean estimates at ``x`` that are known already.
    """
    start, noise = particles[0].index, None
    if start == stop:
        return x, state
    seeds: list[int | None] = [None] * len(particles)
    if sampler.stochastic:
        streams = [StepNoises(p, x.shape[1:]) for p in particles]
        seeds = [stream.seed if start == 0 else None for stream in streams]

        def noise(index: int) -> Tensor:
            return torch.stack([stream.at(index) for stream in streams])

    if clean is not None:
        x, state = sampler.advance(x, start, clean, state, noise)
        start += 1
    if start == stop:
        return x, state
    return sampler.denoise(x, start, stop, state, noise, seeds, **origins_of(particles, sampler))


def predicted(particles: Sequence[Particle], sampler: Sampler, x: Tensor, index: int) -> Tensor:
    """Clean estimates of the states of particles at one index, (batch, ...)."""
    return sampler.predict(x, index, **origins_of(particles, sampler))


def origins_of(particles: Sequence[Particle], sampler: Sampler) -> dict[str, Any]:
    """The argument that a sampler takes which draws more than starting noises: the seeds that particles come from."""
    return {"origins": [first_seed(one) for one in particles]} if draws_inside(sampler) else {}


def first_seed(particle: Particle) -> int | None:
    """The seed of the starting noise that a particle comes from in the end, by its first parents."""
    while particle.parents:
        particle = particle.parents[0]
    return int(particle.args["seed"]) if particle.verb == "noise" else None


class StepNoises:
    """The noise of a particle's stochastic steps, asked for in the order of the steps.

    From a seeded start it is what plain diffusers draws: its generator goes on where the starting noise ended, a draw a
    step. A starting noise that was moved (rotated, blended, ascended) keeps the step noise of what it was moved from,
    so that a neighbour is one in its image too. After a fork or a re-noising it is keyed by that draw.

    Args:
        particle: on its way.
        shape: of its state.

    Attributes:
        seed: the diffusers seed whose generator it goes on with, or None.
    """

    def __init__(self, particle: Particle, shape: Sequence[int]) -> None:
        self._origin = particle.root
        self._shape = tuple(shape)
        self.seed = int(self._origin.args["seed"]) if self._origin.verb == "noise" else None
        self._begin()

    def _begin(self) -> None:
        self._drawn = 0
        if self.seed is not None:
            self._generator = torch.Generator("cpu").manual_seed(self.seed)
            torch.randn(self._shape, generator=self._generator)

    def at(self, index: int) -> Tensor:
        """The noise of the step from ``index``; an earlier step than the last one asked for begins again."""
        if self.seed is None:
            return gaussian(self._shape, self._origin.key, index)
        if index < self._drawn:
            self._begin()
        for _ in range(self._drawn, index):
            torch.randn(self._shape, generator=self._generator)
        self._drawn = index + 1
        return torch.randn(self._shape, generator=self._generator)
