"""The states of unfinished particles that are there: in memory, or in ``states/``. Workers make the rest again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisewright.executors.protocol import Step
from noisewright.run.particle import Particle
from noisewright.run.rows import State, bytes_of, one_row
from noisewright.run.store import Store

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
        self._memory: OrderedDict[str, State] = OrderedDict()
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
            self._remember(particle.id, one_row((x, state), row, len(particles)))
        return self._store.save_state(particles[0].id, (x, state))

    def save_estimates(self, particles: Sequence[Particle], clean: Tensor) -> str | None:
        """Keep the clean estimates (batch, ...) of a micro-batch; returns the file's digest."""
        for row, particle in enumerate(particles):
            self._remember(f"{particle.id}-clean", one_row((clean, None), row, len(particles)))
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

    def known(self, particles: Sequence[Particle]) -> tuple[list[Step], dict[str, State]]:
        """What there is to make particles' states from.

        Returns:
            What has to be made, in order and with what each is made of; and the states that are there, by id.
        """
        if all(one.verb == "noise" for one in particles):  # drawn together
            return [], {}
        found: dict[str, State] = {}
        order: dict[str, Step] = {}
        waiting = list(reversed(particles))
        while waiting:
            one = waiting[-1]
            if one.id in order or one.id in found or self._find(one, found):
                waiting.pop()
                continue
            needs = (self.source(one),) if one.verb == "denoise" else one.parents
            missing = [p for p in needs if p.id not in order and p.id not in found and not self._find(p, found)]
            if missing:
                waiting.extend(missing)
            else:
                order[waiting.pop().id] = Step(one, tuple(needs))
        return list(order.values()), found

    def _find(self, particle: Particle, found: dict[str, State]) -> bool:
        """Add a particle's state to ``found`` where it is there."""
        state = self._there(particle)
        if state is not None:
            found[particle.id] = state
        return state is not None

    def estimates(self, particles: Sequence[Particle]) -> dict[str, Tensor | None]:
        """The clean estimates (1, ...) of those at which the network was asked already; None where one was lost."""
        found: dict[str, Tensor | None] = {}
        for particle in particles:
            if self.estimated(particle):
                key = self._asked(particle).id
                held = self._memory.get(f"{key}-clean") or self._kept(key, self._estimated)
                found[particle.id] = None if held is None else held[0]
        return found

    def remember(self, made: Mapping[str, State], estimates: Mapping[str, Tensor] | None = None) -> None:
        """Keep at hand what a job had to make, by particle id."""
        for key, state in made.items():
            self._remember(key, state)
        for key, clean in (estimates or {}).items():
            self._remember(f"{key}-clean", (clean, None))

    def _there(self, particle: Particle) -> State | None:
        """A particle's state from memory or from its file, or None where there is none.

        Raises:
            ValueError: where it is one of gradient ascent, which its lineage alone does not make again.
        """
        if particle.id in self._memory:
            self._memory.move_to_end(particle.id)
            return self._memory[particle.id]
        if particle.verb not in ("denoise", "ascend"):
            return None
        found = self._kept(particle.id, self._places)
        if found is not None:
            self._remember(particle.id, found)
        elif particle.verb == "ascend":
            raise ValueError(
                f"expected the noise that gradient ascent made in states/ for {particle.id}, got none: it takes the "
                "verifier to make it again"
            )
        return found

    def _kept(self, key: str, places: dict[str, Place]) -> State | None:
        """A particle's row of the file of its micro-batch, or None where there is none or it is damaged."""
        if key not in places:
            return None
        place = places[key]
        found = self._store.state(place.name, place.digest)
        if found is None:
            if not key.endswith("-preview"):
                self._say("states of unfinished candidates were lost or damaged; they are made again")
            return None
        return one_row(found, place.row, place.count)

    def _remember(self, key: str, state: State) -> None:
        before = self._memory.pop(key, None)
        self._bytes += bytes_of(state) - (0 if before is None else bytes_of(before))
        self._memory[key] = state
        while self._bytes > CACHED_STATES_BYTES and len(self._memory) > 1:
            self._bytes -= bytes_of(self._memory.popitem(last=False)[1])
