"""Ways: how particles go on from one index to another, and what of two particles is alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from noisewright.run.particle import Particle, noise_particle


class Ways:
    """The particles that others become by denoising, each made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, int], Particle] = {}

    def denoised(self, particle: Particle, to: int) -> Particle:
        """What ``particle`` is at the later index ``to``: one name for a way from a draw, however it is cut.

        Raises:
            ValueError: where it is past that index.
        """
        if particle.index == to:
            return particle
        if particle.index > to:
            raise ValueError(f"expected an index after {particle.index}, got {to}; renoise() goes back")
        key = (particle.id, to)
        if key not in self._made:
            before = particle.parent if particle.verb == "denoise" else particle
            self._made[key] = Particle("denoise", (before,), {"to": to}, to, particle.steps)
        return self._made[key]

    def finished(self, particle: Particle) -> Particle:
        """The image that a particle ends as."""
        return self.denoised(particle, particle.steps)

    def finished_noise(self, seed: int, steps: int) -> Particle:
        """The finished image of a seed."""
        return self.denoised(noise_particle(seed, steps), steps)


def draws_of(particle: Particle) -> Iterator[tuple[str, int]]:
    """The draws that a particle comes from by steps and forks alone, each with how far along it the way went."""
    while True:
        yield particle.origin.id, particle.index
        particle = particle.origin
        if particle.verb != "fork":
            return
        particle = particle.parent


def life_of(particle: Particle) -> int:
    """The index at which a particle's life began: the solver's states of those that began elsewhere are not alike."""
    while particle.verb in ("denoise", "fork"):
        particle = particle.parent
    return particle.index


def distinct(particles: Sequence[Particle]) -> list[Particle]:
    """Particles, each once."""
    return list({p.id: p for p in particles}.values())


def alike(keys: Sequence[Any], particles: Sequence[Particle]) -> list[tuple[Any, list[Particle]]]:
    """Particles in groups of equal keys, in order of first appearance."""
    groups: dict[Any, list[Particle]] = {}
    for key, particle in zip(keys, particles, strict=True):
        groups.setdefault(key, []).append(particle)
    return list(groups.items())


def check_start(particle: Particle) -> None:
    """Refuse what is no pure noise.

    Raises:
        ValueError: naming its index.
    """
    if particle.index != 0:
        raise ValueError(f"expected a particle of pure noise (index 0), got index {particle.index}")


def in_full(particle: Particle, steps: int) -> Particle:
    """What a finished particle is a draft of, at its end or its start, in so many steps.

    Raises:
        ValueError: where it has no counterpart.
    """
    return with_steps(particle, steps) if particle.draft is None else particle.full


def given(particle: Particle, kind: tuple[int, str | None], full_steps: int) -> Particle:
    """A starting noise of an earlier image, as a search makes images of it.

    Args:
        particle: of an image in full, or made as the search's are.
        kind: of the search's particles.
        full_steps: of what is rendered in full.

    Raises:
        ValueError: where it is of another number of steps, or of another draft.
    """
    steps, draft = kind
    if particle.draft is None and draft is not None and particle.steps == full_steps:
        return as_draft(particle, steps, draft)
    if particle.kind != kind:
        got = particle.steps if particle.draft is None else f"the draft {particle.draft}"
        raise ValueError(f"expected an image made in {steps} steps to start from, got one of {got}")
    return particle


def as_draft(particle: Particle, steps: int, draft: str) -> Particle:
    """A starting noise of full steps as one of a draft of so many.

    Raises:
        ValueError: where it is no starting noise that has such a draft.
    """
    if particle.verb == "noise":
        return noise_particle(int(particle.args["seed"]), steps, draft, particle.steps)
    if particle.verb in ("vary", "place", "blend"):
        parents = tuple(as_draft(one, steps, draft) for one in particle.parents)
        return Particle(particle.verb, parents, particle.args, 0, steps)
    raise ValueError(f"expected a starting noise that a draft can be made from, got one of {particle.verb}")


def with_steps(particle: Particle, steps: int) -> Particle:
    """The same starting noise on a schedule of another number of steps.

    The noise of a neighbour (``vary``) is another one there; a draft (:attr:`Particle.full`) has the same.

    Raises:
        ValueError: where the particle was touched after its start, which has no counterpart on another schedule.
    """
    if particle.verb == "noise":
        return noise_particle(int(particle.args["seed"]), steps)
    if particle.verb in ("vary", "place", "blend"):
        return Particle(particle.verb, tuple(with_steps(p, steps) for p in particle.parents), particle.args, 0, steps)
    if particle.verb == "denoise" and particle.index == particle.steps:
        return with_steps(particle.parent, steps)
    raise ValueError(f"a search that uses {particle.verb} cannot search with fewer steps than it renders with")
