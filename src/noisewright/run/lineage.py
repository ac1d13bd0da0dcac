"""Lineages written down: as lists without ids, as text, and several that share their ancestors."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from noisewright.run.particle import Particle, ancestry, from_verb


def flat(particles: Sequence[Particle]) -> tuple[list[list[Any]], list[int]]:
    """Particles and all that they came from, each once and parents first, and the line of each of ``particles``.

    Each line is ``[verb, args, how many lines up each parent is]``: without the ids, which follow from the rest, and
    not nested, however long the ancestry is.
    """
    lines: list[list[Any]] = []
    places: dict[str, int] = {}
    for number, one in enumerate(ancestry(particles)):
        places[one.id] = number
        lines.append([one.verb, dict(one.args), [number - places[parent.id] for parent in one.parents]])
    return lines, [places[one.id] for one in particles]


def unflat(lines: Sequence[Sequence[Any]]) -> list[Particle]:
    """The particle of each line of :func:`flat`.

    Raises:
        IndexError: where a line names a parent that is not before it.
    """
    made: list[Particle] = []
    for verb, args, ups in lines:
        if any(not 0 < up <= len(made) for up in ups):
            raise IndexError(f"no parent {ups} lines up")
        made.append(from_verb(verb, tuple(made[-up] for up in ups), args))
    return made


def compact(particle: Particle) -> list[list[Any]]:
    """A particle and all that it came from, as :func:`flat` has it: a long ancestry packs into a few bytes a line."""
    return flat([particle])[0]


class Lineages:
    """:func:`compact` as JSON text, made from a parent's where that was asked for lately.

    The candidates of a long search share nearly all of their ancestry, which is then written out once and not for each.
    """

    MOST_LINES = 200_000
    """Of all the lineages that are remembered."""

    CLIMB = 8
    """How many ancestors of a particle are looked at for one whose lineage is remembered."""

    def __init__(self) -> None:
        self._recent: OrderedDict[str, tuple[dict[str, int], str]] = OrderedDict()
        self._lines = 0

    def text(self, particle: Particle) -> str:
        """The lines as a JSON array."""
        above: list[Particle] = []
        for one in itertools.islice(_firsts(particle), self.CLIMB):
            if one.id in self._recent:
                break
            above.append(one)
        for one in reversed(above):
            self._remember(one)
        return f"[{self._written(particle)[1]}]"

    def _written(self, particle: Particle) -> tuple[dict[str, int], str, dict[str, int]]:
        """The line numbers and the whole text: those of a parent's lineage, by id, and those that are new."""
        known = [self._recent[parent.id] for parent in particle.parents if parent.id in self._recent]
        base, text = max(known, key=lambda one: len(one[0]), default=({}, ""))
        new: dict[str, int] = {}
        texts = [text] if text else []
        for number, one in enumerate(ancestry([particle], base), start=len(base)):
            new[one.id] = number
            ups = [number - (new[p.id] if p.id in new else base[p.id]) for p in one.parents]
            texts.append(json.dumps([one.verb, one.args, ups], separators=(",", ":"), allow_nan=False))
        return base, ",".join(texts), new

    def _remember(self, particle: Particle) -> None:
        base, text, new = self._written(particle)
        self._recent[particle.id] = {**base, **new}, text
        self._lines += len(base) + len(new)
        while self._lines > self.MOST_LINES and len(self._recent) > 1:
            self._lines -= len(self._recent.popitem(last=False)[1][0])


def _firsts(particle: Particle) -> Iterator[Particle]:
    """The first parent, its first parent, and so on."""
    while particle.parents:
        particle = particle.parents[0]
        yield particle


def from_compact(lines: Sequence[Sequence[Any]]) -> Particle:
    """Rebuild the particle that :func:`compact` described.

    Raises:
        IndexError: where a line names a parent that is not before it.
    """
    made = unflat(lines)
    if not made:
        raise ValueError("expected a recipe of at least one verb, got an empty lineage")
    return made[-1]
