"""The states of particles, made from their lineage: noise, and what the free verbs make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.noise import blend, gaussian, place, renoise, rotate, seed_of
from noisewright.executors.protocol import Step
from noisewright.executors.steps import carry
from noisewright.run.particle import DRAWN_AS, Particle
from noisewright.run.rows import State, joined
from noisewright.samplers.protocol import Sampler


class Making:
    """The states of some particles, from those that are known and the steps that make the rest.

    Args:
        steps: what has to be made, in order, each with what it is made of.
        known: states by particle id, (1, ...) each.
        wanted: the particles whose states will be asked for.
        sampler: the model.

    Attributes:
        made: by id, the states that were made of the wanted particles and of what those were made of directly: worth
            remembering, since the next particles come from there.
    """

    def __init__(
        self, steps: Sequence[Step], known: Mapping[str, State], wanted: Sequence[Particle], sampler: Sampler
    ) -> None:
        self._known = known
        self._sampler = sampler
        self.made: dict[str, State] = {}
        lasting = {one.id for one in wanted}
        lasting |= {need.id for step in steps if step.particle.id in lasting for need in step.needs}
        uses: dict[str, int] = {}
        for step in steps:
            for need in step.needs:
                uses[need.id] = uses.get(need.id, 0) + 1
        for step in steps:
            before = [self.one(need) for need in step.needs]
            self.made[step.particle.id] = made(step.particle, step.needs, before, sampler)
            for need in step.needs:  # what nothing waits for any more is let go
                uses[need.id] -= 1
                if not uses[need.id] and need.id not in lasting:
                    self.made.pop(need.id, None)

    def one(self, particle: Particle) -> State:
        """A particle's state (1, ...) and its solver's."""
        x, state = self._found(particle)
        return x, None if particle.verb == "ascend" else state

    def velocities(self, particles: Sequence[Particle], like: Tensor) -> Tensor:
        """The velocities (batch, ...) of noises, shaped as ``like``; 0 where no ascent was made yet."""
        rest = like.new_zeros(1, *like.shape[1:])
        return torch.cat([self._found(one)[1] if one.verb == "ascend" else rest for one in particles])

    def _found(self, particle: Particle) -> State:
        found = self.made.get(particle.id) or self._known.get(particle.id)
        return made(particle, (), (), self._sampler) if found is None else found

    def batch(self, particles: Sequence[Particle]) -> State:
        """The states of particles at one index, (batch, ...), and their solver's."""
        fresh = [p for p in particles if p.verb == "noise" and p.id not in self.made and p.id not in self._known]
        if len(fresh) == len(particles):
            return self._sampler.noise([int(p.args["seed"]) for p in particles]), None
        rows = [self.one(p) for p in particles]
        return torch.cat([x for x, _ in rows]), joined([state for _, state in rows])


def made(particle: Particle, needs: Sequence[Particle], before: Sequence[State], sampler: Sampler) -> State:
    """A particle's state from those of what it is made of.

    Args:
        particle: what is made.
        needs: what it is made of: its parents, or what stands before it on its way.
        before: their states.
        sampler: the model.

    Raises:
        ValueError: on a verb that makes no state.
    """
    args = particle.args
    if particle.verb == "noise":
        return sampler.noise([int(args["seed"])]), None
    if particle.verb == "blend":
        return blend([x for x, _ in before], args["weights"]), None
    x, state = before[0]
    if particle.verb == "denoise":
        return carry(needs, sampler, x, state, particle.index)
    if particle.verb == "vary":
        return rotate(x, gaussian(x.shape, particle.key), args["cosine"]), None
    if particle.verb == "place":
        by = args.get(DRAWN_AS, needs[0].key)
        basis = torch.cat([gaussian(x.shape, by, "axis", k) for k in range(len(args["at"]))])
        return place(x, basis, args["at"]), None
    if particle.verb == "renoise":
        return renoise(x, sampler.schedule, needs[0].index, particle.index, gaussian(x.shape, particle.key)), None
    if particle.verb == "fork":
        return x, _reseeded(state, particle.key)
    raise ValueError(f"expected a verb of noisewright's in the lineage, got {particle.verb!r}")


def _reseeded(state: Any, key: str) -> Any:
    """The solver state of a fork: the history is shared, the random numbers of a pipeline's own scheduler are not."""
    if not (isinstance(state, dict) and "generators" in state):
        return state
    generator = torch.Generator("cpu").manual_seed(seed_of(key))
    return {**state, "generators": generator.get_state()[None]}
