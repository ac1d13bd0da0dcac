"""Particles to jobs: what a worker needs to know of their ancestry, by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.executors.protocol import Leg, MakeJob
from noisewright.run.costs import Costs
from noisewright.run.particle import Particle
from noisewright.run.states import States
from noisewright.run.ways import Ways
from noisewright.samplers.protocol import Sampler


class Jobs:
    """Makes the jobs of a run.

    Args:
        states: what the model was asked already.
        ways: how particles go on.
        costs: where a verifier looks.
        drafts: the kind of the search's own particles (:attr:`Particle.kind`), where it searches with drafts; None
            where one sampler does all.
    """

    def __init__(self, states: States, ways: Ways, costs: Costs, drafts: tuple[int, str | None] | None) -> None:
        self._states = states
        self._ways = ways
        self._costs = costs
        self._drafts = drafts

    def denoise(self, some: Sequence[Particle]) -> MakeJob:
        """Carry on to unfinished particles at one index."""
        return self._job("denoise", self._leg(some))

    def generate(self, some: Sequence[Particle], sampler: Sampler, recipes: Sequence[Mapping[str, Any]]) -> MakeJob:
        """Finish particles, and make their files with what ``recipes`` say of each."""
        leg = self._leg(some)
        return self._job("generate", leg, self._look(leg, sampler), recipes)

    def estimate(self, some: Sequence[Particle]) -> MakeJob:
        """Clean estimates of particles at one index."""
        return self._job("estimate", Leg(tuple(some), tuple(some)))

    def ascend(self, some: Sequence[Particle]) -> MakeJob:
        """A step of gradient ascent from the parents of ``some``."""
        return self._job("ascend", Leg(tuple(some), tuple(one.parent for one in some)))

    def recall(self, some: Sequence[Particle]) -> MakeJob:
        """States as they are."""
        return self._job("recall", Leg(tuple(some), tuple(some)))

    def _leg(self, some: Sequence[Particle]) -> Leg:
        return Leg(tuple(some), tuple(self._states.source(one) for one in some))

    def _look(self, leg: Leg, sampler: Sampler) -> Leg | None:
        """The leg to where a verifier looks at what becomes candidates, or back to there."""
        index = self._costs.look_index(sampler)
        if index is None or leg.particles[0].origin.index > index:
            return None
        if leg.sources[0].index == index:
            return Leg(leg.sources, leg.sources)
        there = tuple(self._ways.denoised(one.parent, index) for one in leg.particles)
        back = leg.sources[0].index > index
        if back and all(self._states.has(one) for one in there):
            return Leg(there, there)
        return Leg(there, tuple(self._states.source(one) for one in there))

    def _job(
        self, kind: Any, leg: Leg, look: Leg | None = None, recipes: Sequence[Mapping[str, Any]] = ()
    ) -> MakeJob:
        own = self._drafts is None or leg.particles[0].kind == self._drafts
        begun = [*leg.sources, *(look.sources if look is not None else ())]
        steps, known = self._states.known(begun)
        estimates = self._states.estimates(begun)
        if look is not None:  # where they are lost, the state is at hand when they are asked for again
            there = self._states.estimates(look.particles)
            estimates |= {key: clean for key, clean in there.items() if clean is not None}
        return MakeJob(kind, leg, "search" if own else "final", tuple(steps), known, estimates, look, tuple(recipes))
