"""Micro-batches in flight: submitted as far as the budget allows, and committed in that order.

One micro-batch is made (by the model) and then, where it has images for verifiers, scored. The model works on the next
one while servers score, where that cannot change what the search decides:

- no target is set: a candidate that reaches it must be the end, with nothing made after it;
- every verifier gave a number before: one that is broken is found out before more is paid for;
- with a budget in seconds, such work was timed before: how large the next micro-batch may be depends on that.

So the journal is the one that a run would have written which did one thing after the other, but for timings.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from noisewright.errors import BudgetExhausted
from noisewright.executors.protocol import Executor, Handle, Interrupted, MakeJob, Outcome, ScoreJob
from noisewright.run.particle import Particle
from noisewright.run.reserve import InFlight, Reserve, Work


@dataclass(frozen=True)
class Verb:
    """What a verb does with a micro-batch.

    Attributes:
        job: makes the job.
        commit: takes what was made: writes it, or gives the jobs that score it first.
        settle: takes what was made and the scores of it, where there are scoring jobs.
        end: waits for what goes on beside the scoring.
    """

    job: Callable[[Sequence[Particle]], MakeJob]
    commit: Callable[[Sequence[Particle], Outcome], Sequence[ScoreJob]]
    settle: Callable[[Sequence[Particle], Outcome, Sequence[Outcome]], None] = lambda some, made, scored: None
    end: Callable[[], None] = lambda: None


@dataclass
class _Flight:
    """A micro-batch in flight."""

    some: list[Particle]
    making: Handle
    made: Outcome | None = None
    scoring: list[Handle] = field(default_factory=list)
    writing: float = 0.0
    settled: bool = False


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
    ) -> None:  # fmt: skip
        """Have ``verb`` done to a group of equal particles.

        Args:
            work: what it costs.
            group: particles that can share a micro-batch, in order.
            verb: what is done.
            overlaps: whether the model may work on the next ones while these are scored.
            after: told of each micro-batch once it is committed.
            owed_nfe: what was spent that no line of the journal speaks of.

        Raises:
            BudgetExhausted: after as many as the budget allows.
        """
        todo = deque(group)
        flying: deque[_Flight] = deque()
        full = False
        try:
            while todo or flying:
                while todo and not full and self._has_room(work, flying, overlaps):
                    self._check()
                    self._note_in_flight(work, flying, owed_nfe())
                    wanted = [todo[n] for n in range(min(self.batch_size, len(todo)))]
                    count = self._reserve.allowed(work, wanted)
                    full = count == 0
                    if not full:
                        some = [todo.popleft() for _ in range(count)]
                        flying.append(_Flight(some, self._executor.submit(verb.job(some))))
                if not flying:
                    break
                self._go_on(work, verb, flying, todo, after)
        except KeyboardInterrupt as error:
            self._save_what_is_there(work, verb, flying, error)
            raise
        finally:
            self._reserve.in_flight = InFlight()
            verb.end()
        if todo:
            raise BudgetExhausted(str(self._reserve.budget))

    def _has_room(self, work: Work, flying: Sequence[_Flight], overlaps: Callable[[], bool]) -> bool:
        """Whether another micro-batch may be made now."""
        making = sum(one.made is None for one in flying)
        return making < self._executor.workers and (not flying or (self._reserve.is_timed(work) and overlaps()))

    def _note_in_flight(self, work: Work, flying: Sequence[_Flight], owed: int) -> None:
        making = [particle for one in flying if one.made is None for particle in one.some]
        scoring = sum(len(one.some) for one in flying if one.made is not None)
        longer = self._reserve.longer_than_steps(work, scoring) if scoring else 0.0
        self._reserve.in_flight = InFlight(making, owed + work.nfe_each * len(making), longer)

    def _go_on(
        self, work: Work, verb: Verb, flying: deque[_Flight], todo: deque[Particle],
        after: Callable[[Sequence[Particle]], None],
    ) -> None:  # fmt: skip
        """Wait for what comes next of the first micro-batch in flight."""
        first = flying[0]
        if first.made is None:
            made = first.making.result()
            if made.shrank_to is not None:
                self._shrink(made, flying, todo)
                return
            began = time.perf_counter()
            first.made = made
            first.scoring = [self._executor.submit(job) for job in verb.commit(first.some, made)]
            first.writing = time.perf_counter() - began
            if first.scoring:
                return
        self._settle(work, verb, first)
        flying.popleft()
        after(first.some)

    def _settle(self, work: Work, verb: Verb, one: _Flight) -> None:
        """Commit a micro-batch with its scores."""
        made = one.made
        assert made is not None  # noqa: S101 - it is settled after it was made
        scored = [handle.result() for handle in one.scoring]
        began = time.perf_counter()
        one.settled = True  # or is about to be, whatever comes between
        verb.settle(one.some, made, scored)
        verifying = sum(outcome.took for outcome in scored)
        took = made.took + one.writing + verifying + time.perf_counter() - began
        stepping = made.metered["seconds"]["denoise"]
        self._reserve.note_pace(work, len(one.some), took, stepping, verifying, made.steady_step)
        for particle in one.some:
            self._reserve.advance_kept(particle)

    def _shrink(self, failed: Outcome, flying: deque[_Flight], todo: deque[Particle]) -> None:
        """Memory ran out: the first in flight goes back in line, and comes in smaller micro-batches."""
        self.batch_size = min(self.batch_size, failed.shrank_to or 1)
        self._on_shrink(self.batch_size, failed)
        todo.extendleft(reversed(flying.popleft().some))

    def _save_what_is_there(
        self, work: Work, verb: Verb, flying: deque[_Flight], error: KeyboardInterrupt
    ) -> None:
        """After Ctrl-C: commit the scores that came already, and the states that were reached."""
        first = flying[0] if flying else None
        came = first is not None and first.scoring and all(one.done() for one in first.scoring)
        if first is not None and came and not first.settled:
            with suppress(Exception, KeyboardInterrupt):  # Ctrl-C is raised in any case
                self._settle(work, verb, first)
        making = next((one for one in flying if one.made is None), None)
        if isinstance(error, Interrupted) and making is not None:
            self._on_interrupt(making.some, error.outcome)
