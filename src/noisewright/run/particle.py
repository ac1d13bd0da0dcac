"""Particles: frozen records of one state each, whose id is the hash of how they came to be.

Resume, de-duplication, lineage, replay and safe distribution all rest on this one idea: the same verb on the same
parents with the same arguments is the same particle, in any process.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def particle_id(verb: str, parents: tuple[str, ...], args: dict[str, Any]) -> str:
    """The 16 hex digits that name what ``verb`` makes of ``parents`` with ``args``."""
    text = json.dumps([verb, list(parents), args], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


MOVES = ("vary", "blend", "place", "ascend")
"""The verbs that make a starting noise from others."""

DRAWN_AS = "drawn_as"
"""The argument of ``vary`` and ``place`` that says by which id their noise is drawn, where it is not their own (of
``place``: not their parent's): they are drawn as what they render in full was, in a search of fewer steps."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Particle:
    """One state at an index of a schedule. Two particles are equal where their ids are.

    Attributes:
        verb: how it was made: ``noise``, ``vary``, ``blend``, ``place``, ``ascend``, ``fork``, ``denoise`` or
            ``renoise``.
        parents: the particles it was made of (none for ``noise``, several for ``blend``, else one).
        args: the verb's arguments, JSON-ready. Drawing verbs carry a draw number.
        index: where it stands on its schedule: 0 = pure noise, N = clean.
        steps: N of that schedule.
        draft: the draft that it is made as (:mod:`noisewright.schemas.drafts`), or None.
    """

    verb: str
    parents: tuple[Particle, ...]
    args: dict[str, Any]
    index: int
    steps: int
    id: str = field(init=False)
    _origin: Particle | None = field(init=False, repr=False)
    _start: Particle | None = field(init=False, repr=False)
    _root: Particle | None = field(init=False, repr=False)
    draft: str | None = field(init=False, repr=False)
    _full: Particle | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        first = self.parents[0] if self.parents else None
        put("id", particle_id(self.verb, tuple(p.id for p in self.parents), self.args))
        # Known from the parent's, so that no ancestry is ever walked for them; None stands for the particle itself.
        put("_origin", first.origin if self.verb == "denoise" and first is not None else None)
        put("_start", first.start if self.index > 0 and first is not None else None)
        put("_root", first.root if self.verb in ("denoise", *MOVES) and first is not None else None)
        put("draft", self.args.get("draft") if first is None else first.draft)
        put("_full", None if self.draft is None else self._in_full())

    def _in_full(self) -> Particle | None:
        """What this draft is a draft of; None where it has no counterpart, on its way through fewer steps."""
        if self.verb == "noise":
            of = self.args.get("of")
            return None if of is None else noise_particle(int(self.args["seed"]), int(of))
        before = [one._full for one in self.parents]
        found = tuple(one for one in before if one is not None)
        if not found or len(found) < len(before):
            return None
        steps, args, index = found[0].steps, self.args, self.index
        if self.verb == "denoise" and self.index == self.steps:
            args, index = {"to": steps}, steps
        elif self.index and has_other_steps(str(self.draft)):
            return None
        return Particle(self.verb, found, args, index, steps)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Particle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Particle({self.verb}, {self.id}, index {self.index} of {self.steps})"

    def __reduce__(self) -> tuple[Any, ...]:
        return from_lineage, (self.lineage(),)  # flat, however long the ancestry is

    def __copy__(self) -> Particle:
        return self

    def __deepcopy__(self, memo: Any) -> Particle:
        return self

    @property
    def parent(self) -> Particle:
        return self.parents[0]

    @property
    def kind(self) -> tuple[int, str | None]:
        """What it is made by: scores of two kinds do not compare."""
        return self.steps, self.draft

    @property
    def full(self) -> Particle:
        """What this is a draft of, from the same noise; itself where it is no draft.

        Raises:
            ValueError: where a draft of fewer steps was touched on its way, which has no counterpart.
        """
        if self.draft is None:
            return self
        if self._full is None:
            raise ValueError(f"a search that uses {self.verb} on the way cannot search with fewer steps than it "
                             "renders with")  # fmt: skip
        return self._full

    @property
    def key(self) -> str:
        """What its randomness is drawn by: its id, or that of what it is a draft of, so that the noise is the same."""
        drawn_as: str | None = self.args.get(DRAWN_AS)
        return drawn_as or (self.id if self._full is None else self._full.id)

    @property
    def seed(self) -> int | None:
        """The seed that gives this particle in plain diffusers, or None where no single seed does."""
        origin = self.origin
        return int(origin.args["seed"]) if origin.verb == "noise" else None

    @property
    def origin(self) -> Particle:
        """Where its randomness was last drawn: itself or an ancestor, with only ``denoise`` in between.

        The noise of stochastic steps belongs to the origin, so it does not depend on how a way is cut into segments.
        """
        return self if self._origin is None else self._origin

    @property
    def start(self) -> Particle:
        """The pure noise (index 0) that it came from last."""
        return self if self._start is None else self._start

    @property
    def root(self) -> Particle:
        """The draw whose step noise it has: its origin, or what that starting noise was first moved from."""
        return self if self._root is None else self._root

    def record(self) -> dict[str, Any]:
        """This particle as JSON; its parents are named, not described."""
        parents = [parent.id for parent in self.parents]
        return {"id": self.id, "verb": self.verb, "args": dict(self.args), "index": self.index, "parents": parents}

    def lineage(self) -> list[dict[str, Any]]:
        """The verbs from pure noise to this particle, oldest first and each once: the recipe that makes it again.

        A verb works on the line before it, except where it names its parents.
        """
        lines: list[dict[str, Any]] = []
        for one in ancestry([self]):
            line = one.record()
            if line["parents"] == [before["id"] for before in lines[-1:]]:
                del line["parents"]
            lines.append(line)
        return lines


def ancestry(particles: Iterable[Particle], known: Container[str] = ()) -> list[Particle]:
    """Particles and all that they came from, parents first and each once, without those whose ids are ``known``."""
    found: dict[str, Particle] = {}
    waiting = list(particles)[::-1]
    while waiting:
        one = waiting[-1]
        missing = [p for p in one.parents if p.id not in found and p.id not in known]
        if one.id in found or one.id in known:
            waiting.pop()
        elif missing:
            waiting.extend(reversed(missing))
        else:
            found[waiting.pop().id] = one
    return list(found.values())


def noise_particle(seed: int, steps: int, draft: str | None = None, of: int | None = None) -> Particle:
    """The starting noise that plain diffusers draws for ``seed``.

    Args:
        seed: any.
        steps: N of its schedule.
        draft: what it is made as, where it is a draft.
        of: the steps of what it is a draft of.
    """
    about = {} if draft is None else {"draft": draft, "of": of}
    return Particle("noise", (), {"seed": seed, "steps": steps, **about}, 0, steps)


def has_other_steps(draft: str) -> bool:
    """Whether the indices of a draft are not those of what it is a draft of."""
    return any(part.split(",")[0] == "steps" for part in draft.split("+"))


def from_record(record: Mapping[str, Any], known: Mapping[str, Particle]) -> Particle:
    """The particle that :meth:`Particle.record` described, made of parents that are ``known``.

    Raises:
        KeyError: where a parent is not.
        ValueError: where it says another index than its verb does.
    """
    one = from_verb(record["verb"], tuple(known[key] for key in record["parents"]), record["args"])
    if one.index != record["index"]:
        raise ValueError(f"expected {one.verb} at index {one.index} in a lineage, got {record['index']!r:.40}")
    return one


def from_verb(verb: str, parents: tuple[Particle, ...], args: dict[str, Any]) -> Particle:
    """A particle from its verb alone, which says where it stands."""
    index = int(args["to"]) if verb in ("denoise", "renoise") else parents[0].index if verb == "fork" else 0
    steps = int(args.get("steps", parents[0].steps if parents else 0))
    return Particle(verb, parents, args, index, steps)


def from_lineage(lineage: Sequence[Mapping[str, Any]]) -> Particle:
    """Rebuild the particle that :meth:`Particle.lineage` described."""
    made: dict[str, Particle] = {}
    last: list[str] = []
    for line in lineage:
        one = from_record({**line, "parents": line.get("parents", last)}, made)
        made[one.id] = one
        last = [one.id]
    if not last:
        raise ValueError("expected a recipe of at least one verb, got an empty lineage")
    return made[last[0]]


@dataclass(frozen=True)
class Candidate:
    """A finished, scored particle.

    Attributes:
        particle: what was finished (index N).
        order: its number in the run, from 0; ties are broken by it.
        scores: by verifier name; higher is better, NaN where the verifier failed on it.
        file: its PNG, relative to the run directory.
        pixels: SHA-256 of its RGB bytes.
    """

    particle: Particle
    order: int
    scores: dict[str, float]
    file: str
    pixels: str

    @property
    def id(self) -> str:
        return self.particle.id

    @property
    def seed(self) -> int | None:
        return self.particle.seed


def number_or_nan(value: float | None) -> float:
    """A score as JSON has it, where NaN is null."""
    return math.nan if value is None else float(value)
