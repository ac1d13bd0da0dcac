"""What a journal says, added up: the one place that reads its lines. A run and whoever looks at one share it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisewright.outside.inside import inside
from noisewright.run.budget import PHASES, Spent
from noisewright.run.particle import Candidate, Particle, ancestry, from_lineage, from_record, number_or_nan

ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Made:
    """A finished image.

    Attributes:
        file: its PNG, relative to the run directory.
        pixels: SHA-256 of its RGB bytes.
        digest: of the file's bytes, or None in a journal of schema 1.
        seed: of its starting noise, or None.
        steps: it was made in.
        size: of the micro-batch that it was made in.
        place: in that micro-batch.
        broken: why it is no picture (``nan``, ``nsfw``), or None. Verifiers are not asked about such an image.
    """

    file: str
    pixels: str
    digest: str | None
    seed: int | None
    steps: int
    size: int
    place: int
    broken: str | None = None


def recovery(root: Path) -> Callable[[str, str], Particle | None]:
    """What gives a candidate's particle from the recipe in its own image, where the line that described it is damaged.

    Args:
        root: the run directory.
    """

    def recovered(key: str, file: str) -> Particle | None:
        from noisewright.images.metadata import read_recipe

        try:
            return from_lineage(read_recipe(inside(root, file))[1]["lineage"])
        except (ValueError, TypeError, LookupError):
            return None

    return recovered


class Ledger:
    """The state of a run after the lines that were read so far; :meth:`apply` reads the next.

    Lines of schema 1 hold the whole lineage of each particle; of schema 2, each particle is described once, by the
    first line that speaks of it or of a descendant, and named by its id from then on.

    Args:
        recovered: asked for a particle that no line describes (the line is damaged), by id and file of its image; by
            default there is nowhere to look.

    Attributes:
        spent: what was used.
        seconds: by phase.
        particles: by id.
        images: what was finished, by id, in order.
        candidates: what was finished and scored, by id, in order.
        previews: scores of clean estimates, by id.
        judged: scores of judges, by id and judge.
        curve: for each scored candidate its id, how many were scored, NFE and seconds by then.
        batch_size: what micro-batches shrank to, or None.
        unknown: ids of finished images whose lineage is lost.
        proof: what a pilot said of the run's draft (:mod:`noisewright.run.drafts`), or None.
        timed: of each line about finished images, their ids and the seconds that it took, encoding left out.
        evaluated: of each line about images that were made, their ids and NFE.
    """

    def __init__(self, recovered: Callable[[str, str], Particle | None] = lambda key, file: None) -> None:
        self._recovered = recovered
        self.spent = Spent()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.particles: dict[str, Particle] = {}
        self.images: dict[str, Made] = {}
        self.candidates: dict[str, Candidate] = {}
        self.previews: dict[str, dict[str, float]] = {}
        self.judged: dict[str, dict[str, float]] = {}
        self.curve: list[tuple[str, int, int, float]] = []
        self.batch_size: int | None = None
        self.unknown: set[str] = set()
        self.proof: dict[str, Any] | None = None
        self.timed: list[tuple[tuple[str, ...], float]] = []
        self.evaluated: list[tuple[tuple[str, ...], int]] = []
        self.numbers: dict[str, int] = {}
        self._scored = 0

    def describe(self, some: Sequence[Particle]) -> list[dict[str, Any]]:
        """What a line must say of particles, so that it and later lines can name them; they are known from then on."""
        new = ancestry(some, self.particles)
        self.particles.update((one.id, one) for one in new)
        return [one.record() for one in new]

    def of(self, ids: Sequence[str]) -> list[Particle] | None:
        """The particles of a line, or None where one of them is not known."""
        found = [self.particles[key] for key in ids if key in self.particles]
        return found if len(found) == len(ids) else None

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take a line into account; live and replayed lines go through here alike."""
        self._learn(record)
        for key, value in record.get("seconds", {}).items():
            self.seconds[key] = self.seconds.get(key, 0.0) + value
        self.spent.nfe += record.get("nfe", 0)
        self.spent.forwards += record.get("forwards", 0)
        self.spent.seconds = record.get("elapsed", self.spent.seconds)
        verb = record["verb"]
        if verb in ("finish", "score"):
            took = sum(value for key, value in record.get("seconds", {}).items() if key != "encode")
            self.timed.append((tuple(record["ids"]), took))
        if verb == "prove":
            self.proof = dict(record)
        if verb == "finish":
            self.evaluated.append((tuple(record["ids"]), record.get("nfe", 0)))
            self._finish(record)
        elif verb == "score":
            self._score(record)
        elif verb == "preview":
            for row, key in enumerate(record["ids"]):
                self.previews[key] = {name: number_or_nan(values[row]) for name, values in record["scores"].items()}
        elif verb == "judge":
            for key, value in zip(record["ids"], record["scores"], strict=True):
                self.judged.setdefault(key, {})[record["judge"]] = number_or_nan(value)
        elif verb == "shrink":
            self.batch_size = min(self.batch_size or record["batch_size"], record["batch_size"])

    def scored(self, kind: tuple[int, str | None] | int) -> list[tuple[Candidate, int, int, float]]:
        """The candidates of a kind in the order of their scores, each with how many there were, NFE and seconds.

        A number of steps stands for what is no draft. Scores of other kinds do not compare. Where a draft was proved
        and is not used, those in full.
        """
        rows = [(self.candidates[key], images, nfe, seconds) for key, images, nfe, seconds in self.curve]
        if self.proof is not None and not self.proof["used"]:
            return [row for row in rows if row[0].particle.draft is None]
        wanted = kind if isinstance(kind, tuple) else (kind, None)
        return [row for row in rows if row[0].particle.kind == wanted]

    def forget(self, ids: Sequence[str]) -> None:
        """Let go of images that are gone: they are made again."""
        self.spent.images -= len(ids)
        gone = set(ids)
        for key in ids:
            del self.images[key]
            found = self.candidates.pop(key, None)
            if found is not None:
                self._count(found.scores, -1)
        if gone:
            self.curve = [row for row in self.curve if row[0] not in gone]

    def _learn(self, record: Mapping[str, Any]) -> None:
        for line in record.get("particles", ()):
            self._learn_one(line)
        for lineage in record.get("lineages", ()):  # schema 1
            before: list[str] = []
            for line in lineage:
                if line["id"] not in self.particles:
                    self._learn_one({**line, "parents": line.get("parents", before)})
                before = [line["id"]]

    def _learn_one(self, line: Mapping[str, Any]) -> None:
        if line["id"] in self.particles or any(key not in self.particles for key in line["parents"]):
            return  # a parent that is not known was described in a damaged line
        one = from_record(line, self.particles)
        if one.id == line["id"]:
            self.particles[one.id] = one

    def _finish(self, record: Mapping[str, Any]) -> None:
        ids = record["ids"]
        self.spent.images += sum(key not in self.images for key in ids)
        digests, broken = record.get("digests") or [None] * len(ids), record.get("broken") or {}
        for place, (key, file, pixels) in enumerate(zip(ids, record["files"], record["pixels"], strict=True)):
            if not ID.fullmatch(key) or file != f"images/{key}.png":
                raise ValueError(f"expected images/ID.png as the file of an image in the journal, got {file!r:.60}")
            particle = self.particles.get(key)
            self.unknown.discard(key)  # a line before this one spoke of it too
            seed = record["seeds"][place] if particle is None else particle.seed
            self.images[key] = Made(
                file, pixels, digests[place], seed, record["steps"], len(ids), place, broken.get(key)
            )
            if particle is None:
                found = self._recovered(key, file)
                if found is None or found.id != key:
                    self.unknown.add(key)
                else:
                    self.particles.update((one.id, one) for one in ancestry([found], self.particles))

    def _score(self, record: Mapping[str, Any]) -> None:
        for row, key in enumerate(record["ids"]):
            made, particle = self.images.get(key), self.particles.get(key)
            if made is None or particle is None:  # its own line is damaged
                continue
            scores = {name: number_or_nan(values[row]) for name, values in record["scores"].items()}
            if key in self.candidates:
                self._count(self.candidates[key].scores, -1)
            self.candidates[key] = Candidate(particle, self._scored, scores, made.file, made.pixels)
            self._count(scores, 1)
            self._scored += 1
            self.curve.append((key, self._scored, self.spent.nfe, self.spent.seconds))

    def _count(self, scores: Mapping[str, float], by: int) -> None:
        """How many candidates have a number from each verifier."""
        for name, value in scores.items():
            self.numbers[name] = self.numbers.get(name, 0) + by * (not math.isnan(value))
