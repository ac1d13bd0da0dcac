"""Whole runs, dealt to executors side by side: each has a thread of this process, which alone decides and writes."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from noisewright.executors.local import compute_alone

Task = TypeVar("Task")
Found = TypeVar("Found")

LOOK_SECONDS = 0.2
"""Between two looks at whether an end was asked for."""


def dealt(
    tasks: Iterator[Task], count: int, do: Callable[[Task, int], Iterable[Found]], ending: threading.Event
) -> Iterator[Found]:
    """Have tasks done side by side, each by whoever is free.

    Args:
        tasks: what is to be done, none of it None; the next is taken in the thread that asks for what was found, when
            somebody is free.
        count: how many are done at a time.
        do: does one, at the place of a number below ``count``; gives what it finds.
        ending: where it is set no more tasks are taken. Those in hand come to an end by themselves.

    Yields:
        What was found, as it comes.

    Raises:
        Exception: what a task raised first, once those in hand are at their ends.
    """
    orders = [queue.SimpleQueue[Any]() for _ in range(count)]
    said = queue.SimpleQueue[tuple[int, str, Any]]()

    def serve(place: int) -> None:
        compute_alone()
        while (order := orders[place].get()) is not None:
            try:
                for found in do(order, place):
                    said.put((place, "found", found))
            except BaseException as error:
                said.put((place, "failed", error))
            said.put((place, "free", None))

    for place in range(count):
        threading.Thread(target=serve, args=(place,), name=f"noisewright-run-{place}", daemon=True).start()
    free, error = list(range(count)), None
    more = True
    try:
        while True:
            while free and more and error is None and not ending.is_set():
                task = next(tasks, None)
                more = task is not None
                if more:
                    orders[free.pop(0)].put(task)
            if len(free) == count:
                break
            try:
                place, kind, what = said.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if kind == "found":
                yield what
            elif kind == "failed":
                error = error or what
            else:
                free.append(place)
    finally:
        for order in orders:
            order.put(None)
    if error is not None:
        raise error


@contextmanager
def ended_gently() -> Iterator[threading.Event]:
    """What is set by the first signal that would have ended the work; the second does what it always did."""
    event = threading.Event()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            before[number](number, frame)
        event.set()

    if threading.current_thread() is threading.main_thread():
        before = {one: handler for one in numbers if callable(handler := signal.getsignal(one))}
        before = {one: handler for one, handler in before.items() if not isinstance(handler, signal.Handlers)}
    for number in before:
        signal.signal(number, end)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
