"""Ray actors, and the jobs that they are dealt: one at a time each, done again by another where an actor dies."""

from __future__ import annotations

import importlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from noisewright import __version__
from noisewright.errors import RunInterrupted
from noisewright.executors import ray_cluster
from noisewright.executors.optional import Blueprint, Part
from noisewright.executors.protocol import Job, MakeJob, Outcome, ScoreJob
from noisewright.executors.ray_actor import Opened, RayActor, Said
from noisewright.executors.ray_hand import Hand, Sent, Wanted
from noisewright.outside.messages import first_line
from noisewright.outside.texts import clean

MOST_DEATHS = 3
"""After so many actors died in it a job is given up, and the run ends. After as many that died while they started no
other is begun: the run goes on with those that there are, or ends where there are none.
"""

WAIT_SECONDS = 1.0
"""Between two looks at what is not a job's end: whether any worker is left."""

LOOK_SECONDS = 1e-3
"""At most so often the cluster is asked what is ready, where nobody waits for it."""

LEFT_SECONDS = 120.0
"""How long a run goes on without any worker, while the cluster may give it another."""

SAY_SECONDS = 30.0
"""After so long without the workers that were asked for it is said what is waited for."""

UNLIMITED = 2**31
"""The largest micro-batch of a worker that never ran out of memory."""

OUT_OF_MEMORY = ("OutOfMemoryError", "running low on memory", "memory pressure")
"""What Ray says of an actor that it ended because its host had no memory left."""

log = logging.getLogger("noisewright")


@dataclass
class Task:
    """A job of a :class:`Crew`: a :class:`~noisewright.executors.protocol.Handle`."""

    crew: Crew
    job: Job
    deaths: int = 0
    outcome: Any = None
    shrank: Outcome | None = None
    error: Exception | None = None
    over: bool = False

    def done(self) -> bool:
        if not self.over:
            self.crew.look()
        return self.over

    def result(self) -> Outcome:
        return self.crew.result(self)


class Crew:
    """Actors that do jobs; used by one thread.

    Args:
        wanted: what there should be.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._ray = ray_cluster.ray()
        self._errors = importlib.import_module("ray.exceptions")
        self._wanted = wanted
        self._line: deque[Task] = deque()
        self._most: dict[int, int] = {}
        self._stillborn = 0
        self._looked = self._had_one = time.monotonic()
        self._refused: str | None = None
        self._is_complete = False
        self._blueprint: tuple[Any, Mapping[str, Sent]] | None = None
        self.hands = [self._new(number, part) for number, part in enumerate(wanted.parts)]

    # Actors

    def _new(self, number: int, part: Part) -> Hand:
        kind = self._ray.remote(RayActor)
        actor = kind.options(max_restarts=0, max_task_retries=0, **self._wanted.options).remote(self._wanted.threads)
        hand = Hand(number, part, actor)
        if self._blueprint is not None:
            self._open(hand)
        return hand

    def _open(self, hand: Hand) -> None:
        assert self._blueprint is not None  # noqa: S101 - there is something to build
        blueprint, given = self._blueprint
        hand.is_open = False
        hand.began = hand.actor.begin.remote()
        for name, one in given.items():
            if hand.holds.get(name) != one.token:
                hand.actor.hold.remote(name, one.token, one.reference)
        hand.holds = {name: one.token for name, one in given.items()}
        hand.waits_for = hand.actor.open.remote(blueprint, hand.part, hand.holds, __version__)

    def open(self, blueprint: Blueprint, given: Mapping[str, Sent]) -> None:
        """Have every actor build a worker, in place of the one that it had; waits for all of them.

        Args:
            blueprint: what it is built from.
            given: the objects that were given for it, by name.

        Raises:
            ValueError: in one line, where one cannot, with the name of its host, and where actors die while they start.
        """
        self._blueprint = self._ray.put(blueprint), given
        self._refused, self._stillborn, self._had_one = None, 0, time.monotonic()
        self._is_complete = False
        self._most.clear()
        for hand in self.hands:
            hand.task = None
            self._open(hand)
        said = time.monotonic() + SAY_SECONDS
        while self._refused is None and not all(hand.is_open for hand in self.hands):
            self._listen(WAIT_SECONDS)
            if time.monotonic() > said:
                ready = sum(hand.is_open for hand in self.hands)
                log.warning("waiting for the Ray cluster: %d of %d workers are ready", ready, len(self.hands))
                said = time.monotonic() + SAY_SECONDS
        if self._refused is not None:
            raise ValueError(self._refused)
        self._is_complete = True

    # Jobs

    def submit(self, job: Job) -> Task:
        """Have a job done by the first actor that can."""
        task = Task(self, job)
        self._line.append(task)
        self._deal()
        return task

    def look(self) -> None:
        """Take into account what is ready, without waiting."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._listen(0)

    def wait(self, tasks: Sequence[Task]) -> None:
        """Until one of several jobs is over."""
        while not any(task.over for task in tasks):
            self._listen(WAIT_SECONDS)

    def result(self, task: Task) -> Outcome:
        """A job's outcome; raises what the worker raised."""
        while True:
            self.wait([task])
            if task.error is not None:
                raise task.error
            if task.shrank is not None:
                return task.shrank
            try:
                found: Outcome = self._ray.get(task.outcome)
            except self._errors.RayError as error:
                full = ray_cluster.full(error)
                if full is not None:  # it is there, and has no place here
                    raise full from None
                task.over, task.outcome = False, None
                self._again(task, "its host", error)  # which went with what was on it
                self._deal()
            else:
                return found

    def forget(self) -> None:
        """Let go of the jobs that nobody has begun."""
        self._line.clear()

    # Sizes

    def most(self, hands: Sequence[Hand]) -> int:
        """The largest micro-batch of any of these; unlimited where one never ran out of memory."""
        return max(map(self._size, hands), default=UNLIMITED)

    @property
    def makers(self) -> list[Hand]:
        """Who can make images."""
        return [hand for hand in self.hands if hand.part != "verifiers"]

    @property
    def idle(self) -> list[Hand]:
        """Of these, who has nothing to do."""
        return [hand for hand in self.makers if hand.is_open and hand.task is None]

    # What happens

    def _listen(self, seconds: float) -> None:
        """Take into account what comes within some time; returns at the first."""
        waiting = {hand.waits_for: hand for hand in self.hands if hand.waits_for is not None}
        if waiting:
            ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=seconds)
            if ready and len(waiting) > 1:
                ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for reference in ready:
                self._heard(waiting[reference])
        self._looked = time.monotonic()
        if self._has_all_parts():
            self._had_one = self._looked
        elif self._refused is None and self._looked - self._had_one > LEFT_SECONDS and self._line:
            self._give_up(RunInterrupted("no worker is left for a job, and the Ray cluster gave no other"))
        self._deal()

    def _has_all_parts(self) -> bool:
        """Whether of each part somebody is there, or is loading: who has a process has not been given up."""
        missing = set(self._wanted.parts) - {hand.part for hand in self.hands if hand.is_open}
        if not missing or self._looked - self._had_one <= LEFT_SECONDS:
            return not missing
        began = [hand for hand in self.hands if hand.part in missing and hand.began is not None]
        if not began:
            return False
        ready, _ = self._ray.wait([hand.began for hand in began], num_returns=len(began), timeout=0)
        return missing == {hand.part for hand in began if hand.began in ready}

    def _heard(self, hand: Hand) -> None:
        """What an actor says of what it was doing."""
        try:
            said: Opened | Said = self._ray.get(hand.waits_for)
        except self._errors.RayError as error:
            full = ray_cluster.full(error)
            if full is None or hand.task is None:
                self._buried(hand, error)
            else:  # it lives, and has no place to put what it made
                hand.task.error, hand.task.over = full, True
                hand.waits_for = hand.task = None
            return
        hand.waits_for, task = None, hand.task
        if isinstance(said, Opened):
            hand.host = said.host
            if said.refused is None:
                hand.is_open, self._stillborn = True, 0
            else:
                self._refuse(hand, f"a worker on {said.host} cannot start: {said.refused}")
            return
        hand.task = None
        assert task is not None  # noqa: S101 - it was doing one
        if said.shrank_to is not None:
            self._most[hand.number] = min(said.shrank_to, self._most.get(hand.number, said.shrank_to))
            task.shrank = self._shrunk(task, hand)
        task.error, task.over = said.raised, True

    def _shrunk(self, task: Task, hand: Hand) -> Outcome:
        """The outcome of a job that one worker's memory was too small for."""
        size = self._most[hand.number]
        notes: tuple[str, ...] = ()
        if len(self.makers) > 1:
            notes = (f"out of memory on {hand.host}: micro-batches of {size} there from here on",)
        metered = Outcome().metered
        if task.outcome is not None:
            with suppress(self._errors.RayError):  # it went with its host, and what it cost with it
                metered = self._ray.get(task.outcome).metered
        return Outcome(shrank_to=size, notes=notes, metered=metered)

    def _buried(self, hand: Hand, error: Exception) -> None:
        """An actor died: its job stands first in line again, and another takes its place."""
        task, was_open = hand.task, hand.is_open
        with suppress(Exception):
            self._ray.kill(hand.actor)
        said = clean(first_line(error), 300)
        if not was_open:
            self._stillborn += 1
            if self._stillborn >= MOST_DEATHS:
                self._refuse(hand, f"{self._stillborn} workers in a row died while they started: {said}")
                return
        if task is not None and any(one in f"{type(error).__name__} {error}" for one in OUT_OF_MEMORY):
            self._starved(hand, task)
        elif task is not None:
            self._again(task, hand.host, error)
        log.warning("a worker on %s died%s", hand.host, "; its job is done by another" * (task is not None))
        self.hands[self.hands.index(hand)] = self._new(hand.number, hand.part)

    def _starved(self, hand: Hand, task: Task) -> None:
        """A host's memory ran out, and the worker with it: it is given half as much from here on."""
        if isinstance(task.job, MakeJob) and len(task.job) > 1:
            self._most[hand.number] = len(task.job) // 2
            task.outcome, task.over = None, True
            task.shrank = self._shrunk(task, hand)
        else:
            self._again(task, hand.host, MemoryError("its host ran out of memory"))

    def _again(self, task: Task, host: str, error: Exception) -> None:
        """A job is done again, a few times at most."""
        task.deaths += 1
        if task.deaths < MOST_DEATHS:
            self._line.appendleft(task)
            return
        count = f"{len(task.job)} images" if isinstance(task.job, MakeJob) else "scoring"
        said = clean(first_line(error), 300)
        task.error, task.over = RunInterrupted(
            f"a job ({count}) ended {task.deaths} workers one after the other, the last on {host}: {said}"
        ), True

    def _refuse(self, hand: Hand, why: str) -> None:
        """A worker cannot be built: nothing begins; one that takes another's place is done without."""
        if self._is_complete and any(one.part == hand.part and one.is_open for one in self.hands if one is not hand):
            log.warning("%s; the others go on without it", why)
            self.hands.remove(hand)
            with suppress(Exception):
                self._ray.kill(hand.actor)
        else:
            self._give_up(RunInterrupted(why))

    def _give_up(self, error: Exception) -> None:
        """Nothing more can be done: every job ends with an error."""
        for task in [*self._line, *(hand.task for hand in self.hands if hand.task is not None)]:
            task.error, task.over = error, True
        self._line.clear()
        self._refused = self._refused or str(error)

    # Dealing

    def _deal(self) -> None:
        """Give those who have nothing to do what stands in line, in order."""
        for task in list(self._line):
            if self._too_large(task):
                continue
            hand = self._one_for(task.job)
            if hand is not None:
                self._line.remove(task)
                self._give(hand, task)

    def _one_for(self, job: Job) -> Hand | None:
        """Who of those who have nothing to do is to do a job: of makers the one with the largest micro-batches."""
        free = [hand for hand in self.hands if hand.is_open and hand.task is None]
        if isinstance(job, ScoreJob):
            scorers = [hand for hand in free if hand.part != "model"]
            return min(scorers, key=lambda hand: hand.part == "all", default=None)
        able = [hand for hand in free if hand.part != "verifiers" and self._size(hand) >= len(job)]
        return max(able, key=self._size, default=None)

    def _size(self, hand: Hand) -> int:
        return self._most.get(hand.number, UNLIMITED)

    def _too_large(self, task: Task) -> bool:
        """Whether no worker can do a job any more; it is over then."""
        largest = self.most(self.makers)
        if not isinstance(task.job, MakeJob) or len(task.job) <= largest:
            return False
        self._line.remove(task)
        task.shrank, task.over = Outcome(shrank_to=largest), True
        return True

    def _give(self, hand: Hand, task: Task) -> None:
        try:
            with ray_cluster.errors_told():
                hand.waits_for, task.outcome = hand.actor.do.options(num_returns=2).remote(task.job)
        except RunInterrupted as error:
            task.error, task.over = error, True
        else:
            hand.task = task

    # The end

    def close(self) -> None:
        """End the actors, whatever they do."""
        self._line.clear()
        for hand in self.hands:
            with suppress(Exception):
                self._ray.kill(hand.actor)
        self.hands = []


