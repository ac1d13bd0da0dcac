"""Images that are made once: what one run of a prompt and seed made, the next run there is given in place of making it.

Searches begin with the same starting noises, one search at two budgets with the same rounds, and equal particles are
equal images. An executor between a run and its own keeps what was made and answers from there. It says what making it
costs, so that budgets, journals and rows are those of a run by itself; seconds that were not spent are ``spared``.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from noisewright.benchmark.sharing import begins_of
from noisewright.executors import optional
from noisewright.executors.local import LocalExecutor
from noisewright.executors.optional import WaitsForAny
from noisewright.executors.pictures import encoded
from noisewright.executors.protocol import Executor, Handle, Interrupted, Job, Leg, MakeJob, Outcome, Worker
from noisewright.images.metadata import pixels_of
from noisewright.planning import Plan
from noisewright.run.particle import ancestry
from noisewright.samplers.protocol import Sampler

MOST_BYTES = 2**28
"""How much of the pixels of one prompt and seed is kept; later images than fit are made each time."""

LEAST, RECENT = 2, 5
"""Of how many micro-batches of a size it must be known, and of how many it is remembered, what they cost."""


@dataclass(frozen=True)
class _Image:
    """A finished image, (height, width, 3) uint8, and its place in the micro-batch that it was made in."""

    pixels: np.ndarray
    size: int
    place: int


@dataclass(frozen=True)
class _Answers:
    """What a sampler gave: images by particle id, and by their size what the last whole micro-batches cost."""

    sampler: Sampler
    memory: Memory
    images: dict[str, _Image]
    timings: dict[int, deque[Outcome]]

    def note(self, job: MakeJob, made: Outcome) -> None:
        """Keep what was really made, where all of it was made here and cost what it should."""
        count, nfe = len(job), len(job) * self.sampler.nfe(0, job.leg.index)
        if made.images is None or made.films or made.metered["nfe"] != nfe:
            return
        self.timings.setdefault(count, deque(maxlen=RECENT)).append(Outcome(metered=made.metered, took=made.took))
        for place, (one, pixels) in enumerate(zip(job.leg.particles, pixels_of(made.images), strict=True)):
            if made.broken[place] is None and one.id not in self.images and self.memory.has_room(pixels.nbytes):
                self.images[one.id] = _Image(pixels.copy(), count, place)

    def is_timed(self, count: int) -> bool:
        """Whether it is known what micro-batches of so many cost: the first one alone may have been slow."""
        return len(self.timings.get(count, ())) >= LEAST

    def usual(self, count: int) -> Outcome:
        """What a whole micro-batch of so many costs: the one that took the median time."""
        return sorted(self.timings[count], key=lambda one: one.took)[(len(self.timings[count]) - 1) // 2]


@dataclass
class Memory:
    """The images of one prompt and seed, and how long micro-batches took."""

    most_bytes: int = MOST_BYTES
    _begins: str = ""
    _bytes: int = 0
    _images: dict[str, dict[str, _Image]] = field(default_factory=dict)
    _timings: dict[str, dict[int, deque[Outcome]]] = field(default_factory=dict)

    def executor(self, plan: Plan) -> Executor | None:
        """Who does a plan's work: with this memory, but for a budget in seconds, whose time must be spent."""
        if plan.budget.seconds is not None:
            return plan.executor
        begins = begins_of(plan.request)
        if begins != self._begins:
            self._begins, self._bytes, self._images = begins, 0, {}
        answers = {"search": self._answers_of(plan.sampler), "final": self._answers_of(plan.final)}
        executor = plan.executor or LocalExecutor()
        return (SparingWaiting if isinstance(executor, WaitsForAny) else Sparing)(executor, answers)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may be kept; they count as kept then."""
        fits = self._bytes + size <= self.most_bytes
        self._bytes += size * fits
        return fits

    def _answers_of(self, sampler: Sampler) -> _Answers:
        about = dict(sampler.description)
        alike = {name: one for name, one in about.items() if "prompt" not in name and name != "class_label"}
        whole, kind = (json.dumps(one, sort_keys=True, default=str) for one in (about, alike))
        return _Answers(sampler, self, self._images.setdefault(whole, {}), self._timings.setdefault(kind, {}))


class Sparing:
    """An :class:`~noisewright.executors.protocol.Executor` that has done what was done before.

    Shared are images from pure noise to the end of which the lineage says all: none from a state on the way, of
    gradient ascent (verifiers decide it), or that a verifier looks at on the way. Of a micro-batch known in part the
    rest is made as a smaller one: mates change no image but for rounding, and a file's recipe says in which it was
    made. What is known is given only where micro-batches of that size were timed.

    What the executor may have besides (:mod:`noisewright.executors.optional`) this one has as well.

    Args:
        executor: makes the rest.
        answers: what is known of ``search`` and ``final``.
    """

    def __init__(self, executor: Executor, answers: Mapping[str, _Answers]) -> None:
        self._executor = executor
        self._answers = answers
        self.workers = executor.workers
        self.asks_servers = optional.asks_servers(executor)
        self.scorers = optional.scorers_of(executor)

    def start(self, worker: Worker, request: Mapping[str, Any] | None = None) -> None:
        self._executor.start(worker, request)
        self.workers = self._executor.workers

    def submit(self, job: Job) -> Handle:
        if not (isinstance(job, MakeJob) and _is_told_by_lineage(job)):
            return self._executor.submit(job)
        return _Work(self._executor, self._answers[job.model], job)

    def most_next(self) -> int | None:
        return optional.most_next(self._executor)

    def largest(self) -> int | None:
        return optional.largest_of(self._executor)

    def close(self) -> None:
        self._executor.close()


class SparingWaiting(Sparing):
    """The same of one that waits for whichever of several jobs comes first."""

    _executor: Any

    def wait(self, handles: Sequence[Handle]) -> None:
        self._executor.wait([one.making if isinstance(one, _Work) else one for one in handles])


def _is_told_by_lineage(job: MakeJob) -> bool:
    """Whether the lineages of a job's particles say all about its images."""
    sources = job.leg.sources
    plain = job.kind == "generate" and job.look is None and not job.estimates
    return plain and all(one.index == 0 for one in sources) and all(one.verb != "ascend" for one in ancestry(sources))


class _Work:
    """A job of images, of which some may be known."""

    def __init__(self, executor: Executor, answers: _Answers, job: MakeJob) -> None:
        self._answers, self._job = answers, job
        found = {place: answers.images.get(one.id) for place, one in enumerate(job.leg.particles)}
        self._known = {k: one for k, one in found.items() if one is not None and answers.is_timed(len(job))}
        self._rest = [place for place in found if place not in self._known]
        self._part = _part(job, self._rest) if self._known else job
        self.making = executor.submit(self._part)
        self._outcome: Outcome | None = None

    def done(self) -> bool:
        return self.making.done()

    def result(self) -> Outcome:
        if self._outcome is None:  # it may be asked for before its turn, and again when it is
            try:
                made = self.making.result()
            except Interrupted as error:  # whose states are not those of the whole job where some of it is known
                raise (KeyboardInterrupt if self._known else error) from None
            self._answers.note(self._part, made)
            self._outcome = self._joined(made) if self._known and made.shrank_to is None else made
        return self._outcome

    def _joined(self, made: Outcome) -> Outcome:
        """What was made and what was known, as if all had been made."""
        began, known = time.perf_counter(), self._known.values()
        images = torch.from_numpy(np.stack([one.pixels for one in known])).permute(0, 3, 1, 2).float() / 255
        recipes = [_made_in(self._job.recipes[k], one.size, one.place) for k, one in self._known.items()]
        pngs, pixels = encoded(images, recipes)
        order = np.argsort([*self._known, *self._rest]).tolist()

        def ordered(one: Sequence[Any], other: Sequence[Any]) -> tuple[Any, ...]:
            return tuple([*one, *other][place] for place in order)

        together = images if made.images is None else torch.cat([images, made.images])
        usual = self._answers.usual(len(self._job))
        seconds = {**usual.metered["seconds"], "encode": made.metered["seconds"]["encode"]}
        spared = max(0.0, usual.took - made.took - (time.perf_counter() - began))
        return Outcome(
            metered={**usual.metered, "seconds": seconds, "spared": round(spared, 4)}, took=usual.took,
            images=together[order], made=made.made,
            broken=ordered([None] * len(known), made.broken), flagged=ordered([False] * len(known), made.flagged),
            pngs=ordered(pngs, made.pngs), pixels=ordered(pixels, made.pixels),
        )  # fmt: skip


def _part(job: MakeJob, places: Sequence[int]) -> MakeJob:
    """The images of a job at some places; where there are none, the states that the others begin with."""
    if not places:
        return replace(job, kind="recall", leg=Leg(job.leg.sources, job.leg.sources), recipes=())
    leg = Leg(tuple(job.leg.particles[k] for k in places), tuple(job.leg.sources[k] for k in places))
    recipes = (_made_in(job.recipes[k], len(places), place) for place, k in enumerate(places))
    return replace(job, leg=leg, recipes=tuple(recipes))


def _made_in(recipe: Mapping[str, Any], size: int, place: int) -> dict[str, Any]:
    return {**recipe, "micro_batch": {"size": size, "place": place}}
