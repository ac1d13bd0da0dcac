"""The states of unfinished particles: in memory, in ``states/``, or made again from their lineage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.noise import blend, gaussian, place, renoise, rotate, seed_of
from noisewright.particle import Particle
from noisewright.sampler import Sampler
from noisewright.store import Store

CACHED_STATES_BYTES = 256 * 2**20
"""How much of the states is held in memory; the rest is read from ``states/``."""


MOVES = ("vary", "blend", "place", "ascend")
"""The verbs that make a starting noise from others."""


class States:
    """What the model was asked already, particle by particle: where each is, and what was estimated there.

    Args:
        store: where the states are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._memory: OrderedDict[str, tuple[Tensor, Any]] = OrderedDict()
        self._reached: dict[str, dict[int, Particle]] = {}
        self._estimated: set[str] = set()

    def note_reached(self, particle: Particle) -> None:
        """A denoised particle is there now."""
        self._reached.setdefault(particle.origin.id, {})[particle.index] = particle

    def note_estimated(self, key: str) -> None:
        """The clean estimate of a particle is there now."""
        self._estimated.add(key)

    def has(self, particle: Particle) -> bool:
        """Whether the state of a denoised (or ascended) particle is there."""
        return self._reached.get(particle.origin.id, {}).get(particle.index) == particle

    def source(self, particle: Particle) -> Particle:
        """What a denoised particle is made from: the last state on its way that is there."""
        origin = particle.origin
        before = [one for index, one in self._reached.get(origin.id, {}).items() if index < particle.index]
        return max(before, key=lambda one: one.index, default=origin)

    def estimated(self, particle: Particle) -> bool:
        """Whether the network was asked at this very state already, by a preview of it or of what it is a fork of."""
        return self._asked(particle).id in self._estimated

    def _asked(self, particle: Particle) -> Particle:
        """The particle whose preview stands for this one: itself, or what it is a fork of."""
        while particle.verb == "fork" and particle.id not in self._estimated:
            particle = particle.parent
        return particle

    def save(self, particle: Particle, x: Tensor, state: Any) -> None:
        """Keep the state (1, ...) of a particle, and the solver's."""
        self._store.save_state(particle.id, (x, state))
        self._remember(particle.id, (x, state))

    def save_estimate(self, particle: Particle, clean: Tensor) -> None:
        """Keep the clean estimate (1, ...) of a particle."""
        self._store.save_state(f"{particle.id}-clean", (clean, None))
        self._remember(f"{particle.id}-clean", (clean, None))

    def save_ascent(self, particle: Particle, x: Tensor, velocity: Tensor) -> None:
        """Keep a starting noise that gradient ascent made, and the velocity it came with, (1, ...) each."""
        self.save(particle, x, None)
        self._store.save_state(f"{particle.id}-velocity", (velocity, None))

    def velocity(self, particle: Particle) -> Tensor | float:
        """What :meth:`save_ascent` kept; 0 where the ascent begins."""
        if particle.verb != "ascend":
            return 0.0
        return _there(self._store.state(f"{particle.id}-velocity"), particle)[0]

    def batch(self, particles: Sequence[Particle], sampler: Sampler) -> tuple[Tensor, Any]:
        """The states of particles at one index, (batch, ...), and their solver's state."""
        seeds = [int(p.args["seed"]) for p in particles if p.verb == "noise"]
        if len(seeds) == len(particles):
            return sampler.noise(seeds), None
        rows = [self.one(p, sampler) for p in particles]
        return torch.cat([x for x, _ in rows]), _join([state for _, state in rows])

    def estimates(self, particles: Sequence[Particle], sampler: Sampler) -> Tensor:
        """The clean estimates of particles for which :meth:`estimated` is true, (batch, ...)."""
        rows = []
        for particle in map(self._asked, particles):
            key = f"{particle.id}-clean"
            found = self._memory.get(key) or self._store.state(key)
            if found is None:  # the file was lost: ask again
                found = sampler.predict(self.one(particle, sampler)[0], particle.index), None
                self.save_estimate(particle, found[0])
            rows.append(found[0])
        return torch.cat(rows)

    def one(self, particle: Particle, sampler: Sampler) -> tuple[Tensor, Any]:
        """One particle's state (1, ...) and solver state."""
        if particle.id in self._memory:
            self._memory.move_to_end(particle.id)
            return self._memory[particle.id]
        found: tuple[Tensor, Any]
        if particle.verb == "denoise":
            stored = self._store.state(particle.id)
            if stored is None:  # lost, or never kept
                before = self.source(particle)
                x, state = self.one(before, sampler)
                stored = carry([before], sampler, x, state, particle.index)
            found = stored
        elif particle.verb == "ascend":
            found = _there(self._store.state(particle.id), particle)
        else:
            found = self._draw(particle, sampler)
        self._remember(particle.id, found)
        return found

    def _draw(self, particle: Particle, sampler: Sampler) -> tuple[Tensor, Any]:
        args = particle.args
        if particle.verb == "noise":
            return sampler.noise([int(args["seed"])]), None
        if particle.verb == "blend":
            return blend([self.one(p, sampler)[0] for p in particle.parents], args["weights"]), None
        x, state = self.one(particle.parent, sampler)
        if particle.verb == "vary":
            return rotate(x, gaussian(x.shape, particle.id), args["cosine"]), None
        if particle.verb == "place":
            basis = torch.cat([gaussian(x.shape, particle.parent.id, "axis", k) for k in range(len(args["at"]))])
            return place(x, basis, args["at"]), None
        if particle.verb == "renoise":
            drawn = gaussian(x.shape, particle.id)
            return renoise(x, sampler.schedule, particle.parent.index, particle.index, drawn), None
        if particle.verb == "fork":
            return x, _reseeded(state, particle.id)
        raise ValueError(f"expected a verb of noisewright's in the lineage, got {particle.verb!r}")

    def _remember(self, key: str, state: tuple[Tensor, Any]) -> None:
        self._memory[key] = state
        size = state[0].numel() * state[0].element_size()
        while len(self._memory) > max(1, CACHED_STATES_BYTES // max(1, size)):
            self._memory.popitem(last=False)


def _there(state: Any, particle: Particle) -> tuple[Tensor, Any]:
    if state is None:
        raise ValueError(
            f"expected the noise that gradient ascent made in states/{particle.id}.pt, got none: it takes the verifier "
            "to make it again"
        )
    found: tuple[Tensor, Any] = state
    return found


def carry(
    particles: Sequence[Particle], sampler: Sampler, x: Tensor, state: Any, stop: int, clean: Tensor | None = None
) -> tuple[Tensor, Any]:
    """Denoise the states of particles at one index to ``stop``, stochastic steps with :class:`StepNoises`.

    Args:
        particles: what ``x`` are the states of.
        sampler: the model.
        x: (batch, ...).
        state: the solver's.
        stop: the index to go to.
        clean: clean estimates at ``x`` that are known already.
    """
    start = particles[0].index
    streams = [StepNoises(p, x.shape[1:]) for p in particles]

    def noise_at(index: int) -> Tensor:
        return torch.stack([stream.at(index) for stream in streams])

    seeds = [int(p.args["seed"]) if p.verb == "noise" else None for p in particles]
    noise = noise_at if sampler.stochastic else None
    if clean is not None:
        x, state = sampler.advance(x, start, clean, state, noise)
        start += 1
    return (x, state) if start == stop else sampler.denoise(x, start, stop, state, noise, seeds)


class StepNoises:
    """The noise of a particle's stochastic steps, asked for in the order of the steps.

    From a seeded start it is what plain diffusers draws: its generator goes on where the starting noise ended, a draw a
    step. A starting noise that was moved (rotated, blended, ascended) keeps the step noise of what it was moved from,
    so that a neighbour is one in its image too. After a fork or a re-noising it is keyed by that draw.

    Args:
        particle: on its way.
        shape: of its state.
    """

    def __init__(self, particle: Particle, shape: Sequence[int]) -> None:
        self._origin = particle.origin
        while self._origin.verb in MOVES:
            self._origin = self._origin.parents[0].origin
        self._shape = tuple(shape)
        self._drawn = 0
        if self._origin.verb == "noise":
            self._generator = torch.Generator("cpu").manual_seed(int(self._origin.args["seed"]))
            torch.randn(self._shape, generator=self._generator)

    def at(self, index: int) -> Tensor:
        """The noise of the step from ``index``; never of an earlier step than the last one asked for."""
        if self._origin.verb != "noise":
            return gaussian(self._shape, self._origin.id, index)
        if index < self._drawn:
            raise ValueError(f"expected a step from {self._drawn} on, got {index}")
        for _ in range(self._drawn, index):
            torch.randn(self._shape, generator=self._generator)
        self._drawn = index + 1
        return torch.randn(self._shape, generator=self._generator)


def row_of(state: Any, row: int, count: int) -> Any:
    """One particle's part of a batched solver state."""
    if isinstance(state, Tensor) and state.ndim > 0 and state.shape[0] == count:
        return state[row : row + 1].clone()
    if isinstance(state, dict):
        return {key: row_of(value, row, count) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [row_of(value, row, count) for value in state]
    return state


def _join(states: Sequence[Any]) -> Any:
    """The batched solver state of several particles that stand at the same index."""
    first = states[0]
    if isinstance(first, Tensor) and first.ndim > 0:
        return torch.cat(list(states))
    if isinstance(first, dict):
        return {key: _join([state[key] for state in states]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_join([state[n] for state in states]) for n in range(len(first))]
    return first


def _reseeded(state: Any, key: str) -> Any:
    """The solver state of a fork: the history is shared, the random numbers of a pipeline's own scheduler are not."""
    if not (isinstance(state, dict) and "generators" in state):
        return state
    generator = torch.Generator("cpu").manual_seed(seed_of(key))
    return {**state, "generators": generator.get_state()[None]}
