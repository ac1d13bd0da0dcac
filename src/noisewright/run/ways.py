"""Ways: how particles go on from one index to another, and what of two particles is alike."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from noisewright.run.particle import DRAWN_AS, Particle, ancestry, noise_particle


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


def in_full(particle: Particle, steps: int, there: Container[str] = ()) -> Particle:
    """What a finished particle is a draft of, at its end or its start, in so many steps.

    Args:
        particle: a draft, or an image in ``search_steps``.
        steps: of what renders in full.
        there: the ids of finished images; one that an earlier version rendered in its place stays that.

    Raises:
        ValueError: where it has no counterpart.
    """
    if particle.draft is not None:
        return particle.full
    older = with_steps(particle, steps, same_noise=False)
    return older if Ways().finished(older).id in there else with_steps(particle, steps)


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
    why = "expected a starting noise that a draft can be made from, got one of"
    return _rebuilt(particle, steps, lambda one: noise_particle(int(one.args["seed"]), steps, draft, one.steps), why)


def with_steps(particle: Particle, steps: int, same_noise: bool = True) -> Particle:
    """The same starting noise on a schedule of another number of steps.

    Args:
        particle: a starting noise, or a finished image of one.
        steps: of the other schedule.
        same_noise: whether a neighbour's noise is the same there. Its id is another one there, so its lineage says by
            which id it is drawn. Runs of earlier versions have neighbours of the same name with other noise.

    Raises:
        ValueError: where the particle was touched after its start, which has no counterpart on another schedule.
    """
    if particle.verb == "denoise" and particle.index == particle.steps:
        particle = particle.parent

    def args_of(one: Particle) -> Mapping[str, Any]:
        if not same_noise or one.verb == "blend":
            return one.args
        return {DRAWN_AS: one.parent.key if one.verb == "place" else one.id, **one.args}

    why = "expected a search that leaves states alone on their way with search_steps, got one that uses"
    return _rebuilt(particle, steps, lambda one: noise_particle(int(one.args["seed"]), steps), why, args_of)


def _rebuilt(
    particle: Particle, steps: int, noise: Callable[[Particle], Particle], why: str,
    args_of: Callable[[Particle], Mapping[str, Any]] = lambda one: one.args,
) -> Particle:  # fmt: skip
    """A starting noise again, moved as it was from other noises of seeds.

    Raises:
        ValueError: ``why`` and the verb, where it was made by more than seeds and moves.
    """
    made: dict[str, Particle] = {}
    for one in ancestry([particle]):
        if one.verb == "noise":
            made[one.id] = noise(one)
        elif one.verb in ("vary", "place", "blend"):
            made[one.id] = Particle(one.verb, tuple(made[p.id] for p in one.parents), dict(args_of(one)), 0, steps)
        else:
            raise ValueError(f"{why} {one.verb}")
    return made[particle.id]
