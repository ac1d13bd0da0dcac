"""Micro-batches in flight: submitted as far as the budget allows, and committed in that order.

One micro-batch is made (by the model) and then, where it has images for verifiers, scored. The model works on the next
one while servers score, where that cannot change what the search decides:

- no target is set: a candidate that reaches it must be the end, with nothing made after it;
- every verifier gave a number before: one that is broken is found out before more is paid for;
- with a budget in seconds, such work was timed before: how large the next micro-batch may be depends on that.

So the journal is the one that a run would have written which did one thing after the other, but for timings.

Where several workers make micro-batches, those that are ready before their turn are scored before it too, and wait for
it; nothing of them is written before. A slow worker so holds up what is written, but no other worker.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from noisewright.errors import BudgetExhausted, PartlyMade, Stopped, VerifierFailed
from noisewright.executors.optional import WaitsForAny, largest_of, most_next
from noisewright.executors.protocol import Executor, Handle, Interrupted, MakeJob, Outcome, ScoreJob
from noisewright.run.particle import Particle
from noisewright.run.reserve import InFlight, Reserve, Work

AHEAD = 12
"""Micro-batches in flight for each worker, where none is slower than the others by more than that: the rest waits."""

AHEAD_OF_TIME = 2
"""The same with a budget in seconds, of which nothing is known until they are there."""


@dataclass(frozen=True)
class Verb:
    """What a verb does with a micro-batch.

    Attributes:
        job: makes the job.
        commit: takes what was made, and writes it.
        score: gives the jobs that score what was made; none where nothing is to be scored.
        settle: takes what was made and the scores of it, where there are scoring jobs.
        end: waits for what goes on beside the scoring.
    """

    job: Callable[[Sequence[Particle]], MakeJob]
    commit: Callable[[Sequence[Particle], Outcome], None]
    score: Callable[[Sequence[Particle], Outcome], Sequence[ScoreJob]] = lambda some, made: ()
    settle: Callable[[Sequence[Particle], Outcome, Sequence[Outcome]], None] = lambda some, made, scored: None
    end: Callable[[], None] = lambda: None


@dataclass
class _Flight:
    """A micro-batch in flight.

    Attributes:
        some: its particles.
        making: the job that makes them.
        made: what came of it, once it is written.
        scoring: the jobs that score it; None where nobody was asked yet.
        writing: seconds that writing it took.
        settled: whether its scores are written, or about to be.
    """

    some: list[Particle]
    making: Handle
    made: Outcome | None = None
    scoring: list[Handle] | None = None
    writing: float = 0.0
    settled: bool = False

    @property
    def waits_for(self) -> list[Handle]:
        """What is not done yet of what is being done of it."""
        now = [self.making] if self.scoring is None else self.scoring
        return [one for one in now if not one.done()]

    @property
    def is_made(self) -> bool:
        return self.made is not None or self.making.done()

    @property
    def is_scored(self) -> bool:
        return self.scoring is not None and all(one.done() for one in self.scoring)


@dataclass
class _Line:
    """Particles of one verb: those to do, and micro-batches of those in flight, in the order of their commits.

    Attributes:
        todo: what is not submitted yet.
        flying: what is.
        again: how many of the first to do were in flight already, before all that is.
        place: where the next of these comes in flight.
        full: whether the budget has no room for more.
        ending: raised when all that is in flight is written.
    """

    todo: deque[Particle]
    flying: deque[_Flight] = field(default_factory=deque)
    again: int = 0
    alone: int = 0
    place: int = 0
    full: bool = False
    ending: Stopped | None = None

    def first(self, count: int) -> list[Particle]:
        """The next particles to submit, as many as may be together."""
        most = min(count, self.again or self.alone or len(self.todo))
        return [self.todo[number] for number in range(most)]

    def submitted(self, one: _Flight) -> None:
        """The first particles to do are in flight now."""
        for _ in one.some:
            self.todo.popleft()
        if not self.again:
            self.alone = max(0, self.alone - len(one.some))
            self.flying.append(one)
            return
        self.again -= len(one.some)
        self.flying.insert(self.place, one)
        self.place += 1

    def done(self) -> None:
        """The first in flight is written."""
        self.flying.popleft()
        self.place = max(0, self.place - 1)

    def put_back(self, seeds: Collection[int] | None = None) -> None:
        """The first in flight is to be done again, before the others; of some ``seeds`` alone, where they are given."""
        some = self.flying.popleft().some
        there = [one for one in some if seeds is None or one.seed in seeds]
        self.todo.extendleft(reversed([*there, *(one for one in some if one not in there)]))
        self.again, self.alone, self.place = self.again + len(there), len(some) - len(there), 0


class Batches:
    """Works through equal particles, a micro-batch at a time.

    Args:
        executor: where jobs are done.
        reserve: what the budget has room for.
        batch_size: the largest micro-batch; it shrinks when memory runs out, and is remembered.
        on_shrink: told of the new size and what the attempt had cost.
        on_interrupt: told of what Ctrl-C interrupted.
        check: raises where the run has been asked to stop.
    """

    def __init__(
        self, executor: Executor, reserve: Reserve, batch_size: int, *,
        on_shrink: Callable[[int, Outcome], None],
        on_interrupt: Callable[[Sequence[Particle], Outcome], None],
        check: Callable[[], None],
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        self.batch_size = batch_size
        self._executor = executor
        self._reserve = reserve
        self._on_shrink = on_shrink
        self._on_interrupt = on_interrupt
        self._check = check

    def shrink_to(self, size: int | None) -> None:
        """Make no larger micro-batches than an earlier process could."""
        self.batch_size = self.batch_size if size is None else min(self.batch_size, size)

    def run(
        self, work: Work, group: Sequence[Particle], verb: Verb, *, overlaps: Callable[[], bool],
        after: Callable[[Sequence[Particle]], None], owed_nfe: Callable[[], int],
        at_most: Callable[[], int | None] = lambda: None,
    ) -> None:  # fmt: skip
        """Have ``verb`` done to a group of equal particles.

        Args:
            work: what it costs.
            group: particles that can share a micro-batch, in order.
            verb: what is done.
            overlaps: whether the model may work on the next ones while these are scored.
            after: told of each micro-batch once it is committed.
            owed_nfe: what was spent that no line of the journal speaks of.
            at_most: how many may be in the next micro-batch, where that is fewer than could be.

        Raises:
            BudgetExhausted: after as many as the budget allows.
            Stopped: where the run has been asked to stop, once what is in flight is there.
        """
        line = _Line(deque(group))
        try:
            while line.todo or line.flying:
                while self._has_room(work, line, overlaps):
                    self._submit(work, line, verb, owed_nfe(), at_most())
                if not line.flying:
                    break
                self._go_on(work, line, verb, overlaps, after)
        except (KeyboardInterrupt, VerifierFailed) as error:
            self._save_what_is_there(work, verb, line, error)
            raise
        finally:
            self._reserve.in_flight = InFlight()
            verb.end()
        if line.ending is not None:
            raise line.ending
        if line.todo:
            raise BudgetExhausted(str(self._reserve.budget))

    def _has_room(self, work: Work, line: _Line, overlaps: Callable[[], bool]) -> bool:
        """Whether another micro-batch may be made now."""
        if not line.todo or line.full or line.ending is not None:
            return False
        workers, flying = self._executor.workers, line.flying
        ahead = AHEAD if self._reserve.budget.seconds is None else AHEAD_OF_TIME
        if len(flying) >= ahead * workers or sum(not one.is_made for one in flying) >= workers:
            return False
        return not flying or (self._reserve.is_timed(work) and overlaps())

    def _submit(self, work: Work, line: _Line, verb: Verb, owed: int, at_most: int | None) -> None:
        """Have the next micro-batch made, where the budget has room for one."""
        try:
            self._check()
        except Stopped as error:
            if not line.flying:
                raise
            line.ending = error
            return
        self._note_in_flight(work, line.flying, owed)
        limits = (self.batch_size, most_next(self._executor), at_most)
        wanted = line.first(min(one for one in limits if one))
        count = self._reserve.allowed(work, wanted)
        line.full = count == 0
        if not line.full:
            some = wanted[:count]
            line.submitted(_Flight(some, self._executor.submit(verb.job(some))))

    def _note_in_flight(self, work: Work, flying: Sequence[_Flight], owed: int) -> None:
        making = [particle for one in flying if one.made is None for particle in one.some]
        scoring = sum(len(one.some) for one in flying if one.made is not None)
        longer = self._reserve.longer_than_steps(work, scoring) if scoring else 0.0
        self._reserve.in_flight = InFlight(making, owed + work.nfe_each * len(making), longer)

    def _go_on(
        self, work: Work, line: _Line, verb: Verb, overlaps: Callable[[], bool],
        after: Callable[[Sequence[Particle]], None],
    ) -> None:  # fmt: skip
        """Wait for what comes next of the first micro-batch in flight, or of another that is ready before."""
        first = line.flying[0]
        if isinstance(self._executor, WaitsForAny):
            self._score_ahead(verb, line.flying, overlaps)
            if first.waits_for:
                self._executor.wait([handle for one in line.flying for handle in one.waits_for])
                return
        if first.made is None:
            try:
                made = first.making.result()
            except PartlyMade as error:
                if not any(one.seed in error.seeds for one in first.some):
                    raise
                line.put_back(error.seeds)  # what is there is committed first, and then the others fail or not
                return
            if made.shrank_to is not None:
                self._shrink(made, line)
                return
            self._write(verb, first, made)
            if first.scoring:
                return
        self._settle(work, verb, first)
        line.done()
        after(first.some)

    def _score_ahead(self, verb: Verb, flying: Sequence[_Flight], overlaps: Callable[[], bool]) -> None:
        """Have those scored that were made before their turn; what fails of them is said when it is theirs."""
        ready = [one for number, one in enumerate(flying) if number and one.scoring is None and one.making.done()]
        for one in ready if overlaps() else ():
            with suppress(Exception):
                made = one.making.result()
                if made.shrank_to is None:
                    one.scoring = [self._executor.submit(job) for job in verb.score(one.some, made)]

    def _write(self, verb: Verb, one: _Flight, made: Outcome) -> None:
        """Commit what was made of a micro-batch, and have it scored."""
        began = time.perf_counter()
        verb.commit(one.some, made)
        one.made = made
        if one.scoring is None:
            one.scoring = [self._executor.submit(job) for job in verb.score(one.some, made)]
        one.writing = time.perf_counter() - began

    def _settle(self, work: Work, verb: Verb, one: _Flight) -> None:
        """Commit a micro-batch with its scores."""
        made = one.made
        assert made is not None  # noqa: S101 - it is settled after it was made
        scored = [handle.result() for handle in one.scoring or ()]
        began = time.perf_counter()
        one.settled = True  # or is about to be, whatever comes between
        verb.settle(one.some, made, scored)
        verifying = sum(outcome.took for outcome in scored)
        took = made.took + one.writing + verifying + time.perf_counter() - began
        stepping = made.metered["seconds"]["denoise"]
        self._reserve.note_pace(work, len(one.some), took, stepping, verifying, made.steady_step)
        for particle in one.some:
            self._reserve.advance_kept(particle)

    def _shrink(self, failed: Outcome, line: _Line) -> None:
        """Memory ran out: the first in flight goes back in line, and comes in smaller micro-batches.

        Where each worker has a size of its own, the others go on with theirs.
        """
        size, largest = failed.shrank_to or 1, largest_of(self._executor)
        self.batch_size = min(self.batch_size, size if largest is None else largest)
        self._on_shrink(self.batch_size, failed)
        line.put_back()

    def _save_what_is_there(
        self, work: Work, verb: Verb, line: _Line, error: KeyboardInterrupt | VerifierFailed
    ) -> None:
        """After Ctrl-C or a verifier's failure: commit what came already, in order, and the states that were reached.

        What is written of images without their scores is scored when the run goes on.
        """
        with suppress(Exception, KeyboardInterrupt):  # the first error is raised in any case
            scored = isinstance(error, KeyboardInterrupt)
            for one in line.flying:
                scored = scored and not one.settled  # which it was about to be
                if one.made is None and one.making.done() and (made := one.making.result()).shrank_to is None:
                    verb.commit(one.some, made)
                    one.made = made
                if one.made is None:
                    break
                scored = scored and one.is_scored
                if scored:
                    self._settle(work, verb, one)
        making = next((one for one in line.flying if one.made is None), None)
        if isinstance(error, Interrupted) and making is not None:
            self._on_interrupt(making.some, error.outcome)
