"""Work as data: a :class:`Job` goes to a :class:`Worker`, which gives back an :class:`Outcome`.

Everything in a job and an outcome is a value: no closure, no run, no file. So both can be pickled, at any depth of an
ancestry, and it makes no difference who works. The run alone decides and writes, and commits outcomes in the order in
which it submitted their jobs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.run.budget import PHASES
from noisewright.run.lineage import flat, unflat
from noisewright.run.particle import Particle
from noisewright.run.rows import State


class Step(NamedTuple):
    """A state that has to be made, and the particles whose states it is made of."""

    particle: Particle
    needs: tuple[Particle, ...]


@dataclass(frozen=True)
class Leg:
    """Particles at one index, and what each is reached from: the last state on its way that is there."""

    particles: tuple[Particle, ...]
    sources: tuple[Particle, ...]

    @property
    def index(self) -> int:
        """Where it leads to."""
        return self.particles[0].index


@dataclass(frozen=True)
class MakeJob:
    """A micro-batch of work for the model.

    Attributes:
        kind: ``denoise`` to an index, ``estimate`` the clean images at one, ``ascend`` a step of gradient ascent,
            ``generate`` images, or ``recall`` states as they are.
        leg: the particles to make, in the micro-batch's order, and what each goes on from. For ``ascend`` the sources
            are the noises that are moved; for ``estimate`` and ``recall`` they are the particles themselves.
        model: which of the worker's samplers: ``search`` or ``final``.
        steps: what has to be made before, in order.
        known: states by particle id, (1, ...) each, that are there.
        estimates: clean estimates (1, ...) by particle id, of all particles at which the network was asked already;
            None for one that was lost, and is asked for again.
        look: for ``generate``, where a verifier wants to see what the candidates looked like on the way.
        recipes: for ``generate``, what goes into each image's file; none where the worker makes no files
            (:class:`LeavesFiles`).
    """

    kind: Literal["denoise", "estimate", "ascend", "generate", "recall"]
    leg: Leg
    model: Literal["search", "final"] = "search"
    steps: tuple[Step, ...] = ()
    known: Mapping[str, State] = field(default_factory=dict)
    estimates: Mapping[str, Tensor | None] = field(default_factory=dict)
    look: Leg | None = None
    recipes: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        """How many particles it makes."""
        return len(self.leg.particles)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        for name in ("leg", "steps", "look"):
            del values[name]
        legs = [self.leg, self.look]
        groups = [group for leg in legs if leg is not None for group in (leg.particles, leg.sources)]
        groups += [(step.particle, *step.needs) for step in self.steps]
        lines, places = flat([one for group in groups for one in group])
        placed = iter(places)
        return _unpacked, (lines, [[next(placed) for _ in group] for group in groups], self.look is not None, values)


def _unpacked(lines: list[list[Any]], groups: list[list[int]], looks: bool, values: dict[str, Any]) -> MakeJob:
    """What :meth:`MakeJob.__reduce__` took apart: every ancestor stands there once, in a list that is not nested."""
    found = unflat(lines)
    particles = [tuple(found[place] for place in group) for group in groups]
    legs = [Leg(particles[0], particles[1])] + ([Leg(particles[2], particles[3])] if looks else [])
    steps = tuple(Step(first, tuple(needs)) for first, *needs in particles[2 * len(legs) :])
    return MakeJob(leg=legs[0], look=legs[1] if looks else None, steps=steps, **values)


@dataclass(frozen=True)
class ScoreJob:
    """Images for verifiers to score.

    Attributes:
        kind: ``score`` for the search, or ``judge``.
        prompt: what they should show.
        images: (batch, 3, height, width) in [0, 1].
        names: of the verifiers (or of the one judge) to ask, in order.
        whole: a flag for each image: False for what is none, which nobody is shown.
        previews: what the candidates looked like on the way, (batch, 3, height, width), or None.
        wants_details: whether what the verifiers say beside their scores is wanted.
        patient: whether an answer that came too late is a reason for doubt.
        chances: how many more single images a verifier may fail on that never gave a number.
        proven: the verifiers that gave a number before: what they fail on is NaN.
        seconds: how long a server may be waited for; None for as long as it takes.
        shortest: seconds that it is waited for whatever is left.
        waits: whether it mostly waits for servers, or for another device than the model's, so that the model may work
            meanwhile.
        frames: how many frames of a video stand side by side in each image: verifiers see each by itself, and the
            score of the image is the mean.
    """

    kind: Literal["score", "judge"]
    prompt: str
    images: Tensor
    names: tuple[str, ...]
    whole: tuple[bool, ...]
    previews: Tensor | None = None
    wants_details: bool = True
    patient: bool = False
    chances: int = 0
    proven: frozenset[str] = frozenset()
    seconds: float | None = None
    shortest: float = 0.0
    waits: bool = False
    frames: int = 1


Job = MakeJob | ScoreJob


def nothing_metered() -> dict[str, Any]:
    """What work that cost nothing cost."""
    return {"nfe": 0, "forwards": 0, "decodes": 0, "seconds": dict.fromkeys(PHASES, 0.0)}


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two meterings."""
    seconds = {name: round(one["seconds"][name] + other["seconds"][name], 6) for name in PHASES}
    return {**{key: one[key] + other[key] for key in ("nfe", "forwards", "decodes")}, "seconds": seconds}


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        metered: what was counted: ``nfe``, ``forwards``, ``decodes``, and ``seconds`` by phase. An executor that knew
            images already says what making them costs, and in ``spared`` how many seconds it did not take.
        took: seconds from its start to its end.
        shrank_to: where memory ran out: the micro-batch to try instead. Nothing else is there then.
        states: what was reached, (batch, ...), with the solver's state; after ``ascend``, with the velocities.
        clean: estimates (batch, ...) of ``estimate``.
        images: (batch, 3, height, width) in steps of 1/255, without NaN.
        broken: for each image why it is none (``nan``, ``nsfw``), or None.
        flagged: for each image, whether a safety checker blacked it out.
        previews: what the images looked like on the way, or None.
        pngs: the files' bytes; none where the job had no recipes.
        pixels: SHA-256 of each image's RGB bytes; none without files.
        films: of videos, the bytes of each one's .mp4; empty where there are none.
        objective: the summed scores that ``ascend`` climbed from.
        made: states by particle id that had to be made, for the run to remember.
        estimates: clean estimates by particle id that were lost and asked for again.
        index: where the states of a job that was interrupted stand.
        steady_step: seconds of one step that was not the first, where that was measured.
        scores: by verifier, one for each image; NaN where it has none.
        details: by verifier, what it says of each image.
        doubt: why a verifier that never gave a number gave none, where it is given another chance.
        failed: why a judge gave no scores.
        notes: what the person should know.
    """

    metered: Mapping[str, Any] = field(default_factory=nothing_metered)
    took: float = 0.0
    shrank_to: int | None = None
    states: State | None = None
    clean: Tensor | None = None
    images: Tensor | None = None
    broken: tuple[str | None, ...] = ()
    flagged: tuple[bool, ...] = ()
    previews: Tensor | None = None
    pngs: tuple[bytes, ...] = ()
    pixels: tuple[str, ...] = ()
    films: tuple[bytes, ...] = ()
    objective: tuple[float, ...] = ()
    made: Mapping[str, State] = field(default_factory=dict)
    estimates: Mapping[str, Tensor] = field(default_factory=dict)
    index: int | None = None
    steady_step: float | None = None
    scores: Mapping[str, list[float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    doubt: VerifierFailed | None = None
    failed: str | None = None
    notes: tuple[str, ...] = ()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a job whose states so far can be told.

    Attributes:
        outcome: the states reached, at which ``index``, and what was metered.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (self.outcome,)


@runtime_checkable
class Worker(Protocol):
    """Who works: it owns the model and the verifiers, and neither a run nor its files."""

    def do(self, job: Job) -> Outcome:
        """Do a job.

        Running out of memory is an outcome (:attr:`Outcome.shrank_to`), but for a single particle.

        Raises:
            Interrupted: on Ctrl-C, where the states so far can be told.
            VerifierFailed: where a verifier fails that never gave a number.
            Exception: as the model raises it.
        """
        ...


class Handle(Protocol):
    """A job that was submitted. A :class:`concurrent.futures.Future` is one."""

    def result(self) -> Outcome:
        """Wait for the outcome; raises what the worker raised."""
        ...

    def done(self) -> bool:
        """Whether :meth:`result` gives something at once."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Where jobs are done. This is all that a run asks of one; a pool of processes takes ten lines::

        class Pool:
            def __init__(self, workers=2):
                self.workers = workers

            def start(self, worker, request=None):
                self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), keep, (worker,))

            def submit(self, job):
                return self._pool.submit(do, job)  # a Future is a Handle

            def close(self):
                self._pool.shutdown(cancel_futures=True)

    where ``keep`` stores the worker that it is given in a global of the process, and ``do`` lets that one do the job.

    The run keeps ``workers`` jobs of the model in flight, and takes their outcomes in the order in which it submitted
    them, whichever is ready first: what it writes does not depend on who worked. Generating and scoring are separate
    jobs, so one worker may score what another made. How large a micro-batch is, the run decides: a worker that runs out
    of memory says how many it can (:attr:`Outcome.shrank_to`), and the run submits no larger ones from then on, to
    any worker. A worker that died is the executor's matter: a job may be done again by another, which gives the same
    outcome, and what is never answered is raised by :meth:`Handle.result`.

    Attributes:
        workers: how many jobs of the model are worth having in flight; 1 where the model is in this process.
    """

    workers: int

    def start(self, worker: Worker, request: Mapping[str, Any] | None = None) -> None:
        """Be given the worker, once, before any job.

        Args:
            worker: with the model and the verifiers of this process. It can be sent elsewhere as far as these can be
                pickled.
            request: what was asked for, JSON-ready, where the run has it: an executor on other machines rather makes
                its workers from that.
        """
        ...

    def submit(self, job: Job) -> Handle:
        """Have a job done as soon as may be; several may be in flight."""
        ...

    def close(self) -> None:
        """Let go of the workers. What is in flight is not waited for."""
        ...


@runtime_checkable
class LeavesFiles(Protocol):
    """An executor that works where the run is, so that the run makes the images' files itself, beside the scoring.

    Attributes:
        leaves_files: True.
    """

    leaves_files: bool


def particles_of(jobs: Iterable[MakeJob]) -> Sequence[Particle]:
    """What several jobs make, in order."""
    return [one for job in jobs for one in job.leg.particles]
