"""The states of unfinished particles: in memory, in ``states/``, or made again from their lineage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.diffusion.noise import blend, gaussian, place, renoise, rotate, seed_of
from noisewright.run.particle import Particle
from noisewright.run.store import Store
from noisewright.samplers.protocol import Sampler

CACHED_STATES_BYTES = 256 * 2**20
"""How much of the states is held in memory, the solvers' included; the rest is read from ``states/``."""


@dataclass(frozen=True)
class Place:
    """Where a particle's state lies: a row of the file of its micro-batch.

    Attributes:
        name: of the file in ``states/``.
        row: its row there.
        count: how many rows there are.
        digest: what the file is read with; None for one of schema 1.
    """

    name: str
    row: int
    count: int
    digest: str | None = None


class States:
    """What the model was asked already, particle by particle: where each is, and what was estimated there.

    Args:
        store: where the states are kept.
        say: told once of what is lost or damaged, and made again.
    """

    def __init__(self, store: Store, say: Callable[[str], None] = lambda text: None) -> None:
        self._store = store
        self._say = say
        self._memory: OrderedDict[str, tuple[Tensor, Any]] = OrderedDict()
        self._bytes = 0
        self._reached: dict[str, dict[int, Particle]] = {}
        self._places: dict[str, Place] = {}
        self._estimated: dict[str, Place] = {}
        self._sound: dict[str, bool] = {}

    def note_reached(self, particles: Sequence[Particle], digest: str | None = None) -> None:
        """A micro-batch of denoised (or ascended) particles is there now."""
        for row, particle in enumerate(particles):
            self._reached.setdefault(particle.origin.id, {})[particle.index] = particle
            self._places[particle.id] = Place(particles[0].id, row, len(particles), digest)

    def note_estimated(self, particles: Sequence[Particle], digest: str | None = None) -> None:
        """The clean estimates of a micro-batch of particles are there now."""
        if not self.estimated(particles[0]):
            for row, particle in enumerate(particles):
                self._estimated[particle.id] = Place(f"{particles[0].id}-clean", row, len(particles), digest)

    def has(self, particle: Particle) -> bool:
        """Whether the state of a denoised (or ascended) particle is there.

        What denoising gave can be made again from its lineage; what ascent gave takes the verifiers, so there the file
        is looked at.
        """
        there = self._reached.get(particle.origin.id, {}).get(particle.index) == particle
        return there and (particle.verb != "ascend" or self._is_sound(particle))

    def _is_sound(self, particle: Particle) -> bool:
        if particle.id in self._memory:
            return True
        place = self._places[particle.id]
        if place.name not in self._sound:
            self._sound[place.name] = self._kept(particle.id, self._places) is not None
        return self._sound[place.name]

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

    def save(self, particles: Sequence[Particle], x: Tensor, state: Any) -> str | None:
        """Keep the states (batch, ...) of a micro-batch, and the solver's; of ascended ones, their velocities.

        Returns:
            The digest that the file is read with, for the journal.
        """
        self._sound.pop(particles[0].id, None)
        for row, particle in enumerate(particles):
            self._remember(particle.id, _row((x, state), row, len(particles)))
        return self._store.save_state(particles[0].id, (x, state))

    def save_estimates(self, particles: Sequence[Particle], clean: Tensor) -> str | None:
        """Keep the clean estimates (batch, ...) of a micro-batch; returns the file's digest."""
        for row, particle in enumerate(particles):
            self._remember(f"{particle.id}-clean", _row((clean, None), row, len(particles)))
        return self._store.save_state(f"{particles[0].id}-clean", (clean, None))

    def save_previews(self, particles: Sequence[Particle], images: Tensor) -> str | None:
        """Keep what particles looked like on the way, (batch, 3, height, width) in [0, 1], until they are scored."""
        digest = self._store.save_state(f"{particles[0].id}-preview", ((images * 255).round().byte(), None))
        self.note_finished([particle.id for particle in particles], digest)
        return digest

    def forget_previews(self, particles: Sequence[Particle]) -> None:
        """Let go of what :meth:`save_previews` kept."""
        for kept in [self._places.pop(f"{particle.id}-preview", None) for particle in particles]:
            if kept is not None and kept.row == 0:
                self._store.forget_state(kept.name)

    def note_finished(self, ids: Sequence[str], digest: str | None) -> None:
        """A micro-batch of particles is finished, and there are previews of them."""
        for row, key in enumerate(ids):
            self._places[f"{key}-preview"] = Place(f"{ids[0]}-preview", row, len(ids), digest)

    def previews(self, particles: Sequence[Particle]) -> Tensor | None:
        """What :meth:`save_previews` kept of all of these, or None where there is none of one."""
        rows = [self._kept(f"{particle.id}-preview", self._places) for particle in particles]
        return torch.cat([row[0] for row in rows if row]).float() / 255 if all(rows) else None

    def velocity(self, particle: Particle) -> Tensor | float:
        """What an ascended particle was saved with, (1, ...); 0 where the ascent begins."""
        if particle.verb != "ascend":
            return 0.0
        velocity: Tensor = self._ascended(particle)[1]
        return velocity

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
            found = self._memory.get(f"{particle.id}-clean") or self._kept(particle.id, self._estimated)
            if found is None:  # the file was lost: ask again
                found = sampler.predict(self.one(particle, sampler)[0], particle.index), None
                self._remember(f"{particle.id}-clean", found)
            rows.append(found[0])
        return torch.cat(rows)

    def one(self, particle: Particle, sampler: Sampler) -> tuple[Tensor, Any]:
        """One particle's state (1, ...) and solver state: held, read, or made again from what it came from."""
        held = self._there(particle)
        if held is not None:
            return held
        wanted, uses = self._to_make(particle)
        made: dict[str, tuple[Tensor, Any]] = {}
        for one, needs in wanted:
            made[one.id] = self._made(one, [made[p.id] if p.id in made else self._found(p) for p in needs], sampler)
            self._remember(one.id, made[one.id])
            for parent in needs:  # what nothing waits for any more is let go
                uses[parent.id] -= 1
                if not uses[parent.id]:
                    made.pop(parent.id, None)
        return made[particle.id]

    def _to_make(self, particle: Particle) -> tuple[list[tuple[Particle, list[Particle]]], dict[str, int]]:
        """What has to be made for a particle's state, in order and with what each takes; and how often each is used."""
        order: dict[str, tuple[Particle, list[Particle]]] = {}
        uses: dict[str, int] = {}
        waiting = [particle]
        while waiting:
            one = waiting[-1]
            needs = self._needs(one)
            missing = [p for p in needs if p.id not in order and self._there(p) is None]
            if one.id in order:
                waiting.pop()
            elif missing:
                waiting.extend(missing)
            else:
                order[waiting.pop().id] = one, needs
                for parent in needs:
                    uses[parent.id] = uses.get(parent.id, 0) + 1
        return list(order.values()), uses

    def _needs(self, particle: Particle) -> list[Particle]:
        """The particles whose states a particle's is made of."""
        return [self.source(particle)] if particle.verb == "denoise" else list(particle.parents)

    def _found(self, particle: Particle) -> tuple[Tensor, Any]:
        found = self._there(particle)
        if found is None:
            raise ValueError(f"expected the state of {particle.id}, got none: it was removed while it was being read")
        return found

    def _there(self, particle: Particle) -> tuple[Tensor, Any] | None:
        """A particle's state from memory or from its file, or None where there is none."""
        if particle.id in self._memory:
            self._memory.move_to_end(particle.id)
            x, state = self._memory[particle.id]
            return x, None if particle.verb == "ascend" else state
        if particle.verb == "ascend":
            return self._ascended(particle)[0], None
        found = self._kept(particle.id, self._places) if particle.verb == "denoise" else None
        if found is not None:
            self._remember(particle.id, found)
        return found

    def _ascended(self, particle: Particle) -> tuple[Tensor, Any]:
        """What gradient ascent made, with its velocity."""
        found = self._memory.get(particle.id) or self._kept(particle.id, self._places)
        if found is None:
            raise ValueError(
                f"expected the noise that gradient ascent made in states/ for {particle.id}, got none: it takes the "
                "verifier to make it again"
            )
        return found

    def _kept(self, key: str, places: dict[str, Place]) -> tuple[Tensor, Any] | None:
        """A particle's row of the file of its micro-batch, or None where there is none or it is damaged."""
        if key not in places:
            return None
        place = places[key]
        found = self._store.state(place.name, place.digest)
        if found is None:
            if not key.endswith("-preview"):
                self._say("states of unfinished candidates were lost or damaged; they are made again")
            return None
        return _row(found, place.row, place.count)

    def _made(self, particle: Particle, before: list[tuple[Tensor, Any]], sampler: Sampler) -> tuple[Tensor, Any]:
        """A particle's state from those of what it is made of."""
        args, parents = particle.args, particle.parents
        if particle.verb == "noise":
            return sampler.noise([int(args["seed"])]), None
        if particle.verb == "blend":
            return blend([x for x, _ in before], args["weights"]), None
        x, state = before[0]
        if particle.verb == "denoise":
            return carry(self._needs(particle), sampler, x, state, particle.index)
        if particle.verb == "vary":
            return rotate(x, gaussian(x.shape, particle.id), args["cosine"]), None
        if particle.verb == "place":
            basis = torch.cat([gaussian(x.shape, parents[0].id, "axis", k) for k in range(len(args["at"]))])
            return place(x, basis, args["at"]), None
        if particle.verb == "renoise":
            drawn = gaussian(x.shape, particle.id)
            return renoise(x, sampler.schedule, parents[0].index, particle.index, drawn), None
        if particle.verb == "fork":
            return x, _reseeded(state, particle.id)
        raise ValueError(f"expected a verb of noisewright's in the lineage, got {particle.verb!r}")

    def _remember(self, key: str, state: tuple[Tensor, Any]) -> None:
        before = self._memory.pop(key, None)
        self._bytes += _bytes_of(state) - (0 if before is None else _bytes_of(before))
        self._memory[key] = state
        while self._bytes > CACHED_STATES_BYTES and len(self._memory) > 1:
            self._bytes -= _bytes_of(self._memory.popitem(last=False)[1])


def _bytes_of(state: Any) -> int:
    """What the tensors of a state, the solver's included, take in memory."""
    if isinstance(state, (Tensor, np.ndarray)):
        return int(state.nbytes)
    if isinstance(state, dict):
        return sum(map(_bytes_of, state.values()))
    return sum(map(_bytes_of, state)) if isinstance(state, (list, tuple)) else 0


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
    start, noise = particles[0].index, None
    seeds: list[int | None] = [None] * len(particles)
    if sampler.stochastic:
        streams = [StepNoises(p, x.shape[1:]) for p in particles]
        seeds = [stream.seed if start == 0 else None for stream in streams]

        def noise(index: int) -> Tensor:
            return torch.stack([stream.at(index) for stream in streams])

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
            return gaussian(self._shape, self._origin.id, index)
        if index < self._drawn:
            self._begin()
        for _ in range(self._drawn, index):
            torch.randn(self._shape, generator=self._generator)
        self._drawn = index + 1
        return torch.randn(self._shape, generator=self._generator)


def _row(saved: tuple[Tensor, Any], row: int, count: int) -> tuple[Tensor, Any]:
    """One particle's part of what a micro-batch was saved as."""
    x, state = saved
    return x[row : row + 1].clone(), row_of(state, row, count)


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
