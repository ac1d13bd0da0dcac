"""Processes that make tasks: dealt out one at a time, replaced where one dies, ended when the driver is.

A worker talks to the driver through a pipe of its own. It ignores the signals that end the driver, which says ``end``
in their place: the micro-batch in flight is finished then. Where the driver is killed, its workers end by themselves.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from noisewright.benchmark.display import Display
from noisewright.benchmark.sharing import Task
from noisewright.benchmark.telling import failed
from noisewright.benchmark.work import Ended, Made, Workshop
from noisewright.outside.busy import processors

MOST_DEATHS = 3
"""After so many workers died in it a task is given up."""

NEAR = 100
"""How many of the tasks that stand in line are looked at for a worker."""

LOOK_SECONDS = 0.2
"""Between two looks at whether an end was asked for."""

CLOSE_SECONDS = 5.0
"""How long workers with nothing to do may take to end."""

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def threads_each(workers: int) -> int | None:
    """How many threads each of so many workers computes with; None where the user has said it (OMP_NUM_THREADS)."""
    return None if os.environ.get("OMP_NUM_THREADS") else max(1, processors() // workers)


# In the driver


class _Hand:
    """A worker as the driver knows it."""

    def __init__(self, place: int, root: Path, pictures: bool, threads: int | None) -> None:
        context = mp.get_context("spawn")
        self.place = place
        self.task: Task | None = None
        self.made: set[str] = set()
        self.loads = self.begins = ""
        self.ready = False
        self.connection, theirs = context.Pipe()
        given = (theirs, root, pictures, threads)
        self.process = context.Process(target=serve, args=given, name=f"noisewright-{place}", daemon=True)
        with _held_back():
            self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task, self.loads, self.begins, self.made = task, task.loads, task.begins, set()
        self.say("task", task)

    def say(self, *message: Any) -> None:
        with suppress(OSError):  # it died: that is found out when it is listened to
            self.connection.send(message)

    def heard(self) -> tuple[Any, ...] | None:
        """What it says; None where it is no more."""
        try:
            return cast("tuple[Any, ...]", self.connection.recv())
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def _held_back() -> Iterator[None]:
    """A process that is started in here never gets the signals that end the driver, which gets them afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Crew:
    """Workers, and the tasks that they are dealt.

    Args:
        root: the benchmark's directory.
        tasks: to be made.
        count: how many workers there may be.
        pictures: whether to draw pictures of each run.
        display: told how far each is.
        ending: set by who wants it to end.
    """

    def __init__(
        self, root: Path, tasks: Sequence[Task], count: int, pictures: bool, display: Display, ending: threading.Event
    ) -> None:  # fmt: skip
        self._given = root, pictures, threads_each(count)
        self._display = display
        self._ending = ending
        self._deaths: dict[int, int] = {}
        self._stillborn = 0
        self._said_end = False
        self._lines: dict[str, deque[Task]] = {}
        for task in tasks:
            self._lines.setdefault(task.loads, deque()).append(task)
        self._hands = [_Hand(place, *self._given) for place in range(min(count, len(tasks)))]

    def made(self) -> Iterator[Made]:
        """The rows of all tasks, as they come.

        Raises:
            Ended: where it was ended before all were made.
            RuntimeError: where workers do not start.
        """
        try:
            while self._hands and (self._any_left() or any(hand.task for hand in self._hands)):
                if self._ending.is_set() and not self._said_end:
                    self._said_end = True
                    for hand in self._hands:
                        hand.say("end")
                if self._said_end and not any(hand.task for hand in self._hands):
                    break
                spoke = wait([hand.connection for hand in self._hands], LOOK_SECONDS)
                for hand in [one for one in self._hands if one.connection in spoke]:
                    yield from self._heard(hand)
            if self._ending.is_set() and self._any_left():
                raise Ended
        finally:
            self._close()

    def _any_left(self) -> bool:
        return any(self._lines.values())

    def _heard(self, hand: _Hand) -> Iterator[Made]:
        """Take what a worker says into account."""
        message = hand.heard()
        if message is None:
            yield from self._buried(hand)
            return
        kind, *said = message
        if kind == "tell":
            self._display.tell(hand.place, *said)
        elif kind == "made":
            hand.made.add(said[0]["cell"])
            yield said[0], said[1]
        elif kind == "ended":
            assert hand.task is not None  # noqa: S101 - it was in one
            self._put_back(hand.task, hand.made)
            hand.task = None
        else:  # it has nothing to do
            self._stillborn, hand.ready = 0, True
            if hand.task is not None:
                self._display.end(hand.place)
                hand.task = None
            self._deal(hand)

    def _deal(self, hand: _Hand) -> None:
        """Give a worker its next task: one of the model that it has, else of the one with the most left to do."""
        if self._said_end or not self._any_left():
            return
        shared = [other.loads for other in self._hands if other is not hand]
        most = max(self._lines, key=lambda loads: len(self._lines[loads]) / (1 + shared.count(loads)))
        line = self._lines[hand.loads if self._lines.get(hand.loads) else most]
        task = taken(line, hand.begins, {other.begins for other in self._hands if other is not hand})
        self._display.begin(hand.place, task)
        hand.give(task)

    def _put_back(self, task: Task, made: set[str]) -> Task | None:
        """What is left of a task stands first in line."""
        left = task.without(made)
        if left is not None:
            self._lines[task.loads].appendleft(left)
        return left

    def _buried(self, hand: _Hand) -> Iterator[Made]:
        """A worker died: its task is done again by another, a few times at most."""
        hand.process.join()
        code, task = hand.process.exitcode, hand.task
        self._hands.remove(hand)
        hand.close()
        if not hand.ready:
            self._stillborn += 1
            if self._stillborn >= MOST_DEATHS:
                raise RuntimeError(
                    f"expected workers that start, got {self._stillborn} that ended with exit code {code} (a script "
                    'must call this under if __name__ == "__main__":)'
                )
        if task is not None:
            left = self._put_back(task, hand.made)
            (self._display.end if left is None else self._display.again)(hand.place)
            self._deaths[task.number] = self._deaths.get(task.number, 0) + 1
            if left is not None and self._deaths[task.number] >= MOST_DEATHS:
                self._lines[task.loads].popleft()
                for cell in left.cells:
                    said = f"the worker died each of {MOST_DEATHS} times that it was tried (exit code {code})"
                    yield failed(cell, said), []
        if self._any_left() and not self._said_end:
            self._hands.append(_Hand(hand.place, *self._given))

    def _close(self) -> None:
        """End the workers, whatever they do; those that do nothing go by themselves."""
        for hand in self._hands:
            if hand.task is None:
                hand.say("close")
        for hand in self._hands:
            if hand.task is None:
                hand.process.join(CLOSE_SECONDS)
            hand.close()


def taken(line: deque[Task], last: str, others: Container[str]) -> Task:
    """Take a worker's next task out of a line: one of the first few.

    Args:
        line: what is to be done.
        last: how the worker's last task began: it has the images of another that begins so.
        others: how those of the others began, which it rather leaves to them.
    """
    near = [task.begins for task in islice(line, NEAR)]
    new = next((place for place, begins in enumerate(near) if begins not in others), 0)
    place = near.index(last) if last in near else new
    task = line[place]
    del line[place]
    return task


# In a worker


def serve(connection: Connection, root: Path, pictures: bool, threads: int | None) -> None:
    """Make the tasks that come through a pipe, until it says ``close`` or the driver is no more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, name="noisewright-parent", daemon=True).start()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    ending, tasks = threading.Event(), queue.SimpleQueue[Task | None]()
    listening = (connection, ending, tasks)
    threading.Thread(target=_listen, args=listening, name="noisewright-orders", daemon=True).start()
    shop = Workshop(root, ending, pictures)
    connection.send(("idle",))
    while (task := tasks.get()) is not None:
        try:
            for row, candidates in shop.do(task, lambda done, text: connection.send(("tell", done, text))):
                connection.send(("made", row, candidates))
        except Ended:
            connection.send(("ended",))
        else:
            connection.send(("idle",))


def _listen(connection: Connection, ending: threading.Event, tasks: queue.SimpleQueue[Task | None]) -> None:
    while True:
        try:
            kind, *said = connection.recv()
        except (EOFError, OSError):
            os._exit(1)  # the driver is no more; what is finished is on the disk
        if kind == "task":
            tasks.put(said[0])
        elif kind == "end":
            ending.set()
        else:
            tasks.put(None)
            return


def _end_with_driver() -> None:
    """End this process at once where the driver was killed: all that is finished is on the disk."""
    driver = mp.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)
