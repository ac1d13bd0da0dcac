"""What work costs in NFE, and which particles can share a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

from noisewright.run.particle import Particle
from noisewright.run.states import States
from noisewright.run.ways import Ways, alike, life_of
from noisewright.samplers.protocol import Sampler
from noisewright.verifiers.protocol import Verifier, WantsPreviews


class Costs:
    """The price of work, by what is there already.

    Args:
        states: what the model was asked already.
        ways: how particles go on.
        verifiers: what looks at finished candidates, and perhaps at what they were on the way.
    """

    def __init__(self, states: States, ways: Ways, verifiers: Sequence[Verifier]) -> None:
        self._states = states
        self._ways = ways
        self._levels = [float(one.preview_sigma) for one in verifiers if isinstance(one, WantsPreviews)]
        self._remembered: dict[tuple[int, int, int], int] = {}

    def to_reach(self, particle: Particle, sampler: Sampler) -> int:
        """What it costs to make a denoised particle from the last state on its way that is there."""
        source = self._states.source(particle)
        known = sampler.can_advance and self._states.estimated(source)
        looking = self._looking(particle, sampler) if particle.index == sampler.schedule.steps else 0
        return self._nfe(sampler, source.index + known, particle.index) + looking

    def from_noise(self, particle: Particle, sampler: Sampler) -> int:
        """What the full image of a draft costs where nothing of it is there; 0 of what has none."""
        if particle.draft is None or particle.key == particle.id:
            return 0
        one = particle.full
        cost = self._nfe(sampler, one.index, sampler.schedule.steps) if one.index < sampler.schedule.steps else 0
        while one.parents and (one.index or one.verb in ("renoise", "fork")):
            if one.verb == "denoise":
                cost += self._nfe(sampler, one.parent.index, one.index)
            one = one.parent
        return cost

    def groups(self, particles: Sequence[Particle], sampler: Sampler) -> list[tuple[int, list[Particle]]]:
        """Particles to reach that can share a micro-batch, with what each costs."""
        sources = [self._states.source(p) for p in particles]
        keys = [
            (one.index, sampler.can_advance and self._states.estimated(one), sampler.remembers and life_of(one),
             self.to_reach(particle, sampler))
            for one, particle in zip(sources, particles, strict=True)
        ]  # fmt: skip
        return [(key[-1], group) for key, group in alike(keys, particles)]

    def groups_to_preview(self, particles: Sequence[Particle], sampler: Sampler) -> list[tuple[int, list[Particle]]]:
        """Particles to preview that can share a micro-batch, with what each costs."""
        keys = [(p.index, self._states.estimated(p), sampler.remembers and life_of(p)) for p in particles]
        return [(0 if self._states.estimated(group[0]) else 1, group) for _, group in alike(keys, particles)]

    def look_index(self, sampler: Sampler) -> int | None:
        """Where a verifier wants to see what a candidate looked like on the way; None where none does."""
        if not self._levels:
            return None
        return min(sampler.schedule.nearest(self._levels[0]), sampler.schedule.steps - 1)

    def _looking(self, particle: Particle, sampler: Sampler) -> int:
        """NFE besides the way to its end for what a candidate looked like on the way."""
        index = self.look_index(sampler)
        if index is None or particle.origin.index > index:
            return 0
        if self._states.source(particle).index <= index:
            return 0 if sampler.can_advance else 1
        there = self._ways.denoised(particle.parent, index)
        if self._states.has(there):
            return 1
        return sampler.nfe(self._states.source(there).index, index) + 1

    def _nfe(self, sampler: Sampler, start: int, stop: int) -> int:
        """:meth:`Sampler.nfe`, which is asked for every particle of a round, remembered."""
        key = id(sampler), start, stop
        if key not in self._remembered:
            self._remembered[key] = sampler.nfe(start, stop)
        return self._remembered[key]
