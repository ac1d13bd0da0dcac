"""How far a benchmark is, and how long it will take: by what tasks of the same kind took."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from noisewright.benchmark.sharing import Task
from noisewright.progress import Show
from noisewright.run.budget import parse_budget

STEPS = 20
"""What a request that names none is taken for, and"""
SECOND = 5.0
"""how many images a second of a budget is worth, until something was timed."""

SHOWN_WORKERS = 4
"""Of how many workers it is said what they are in."""


@dataclass
class _Worker:
    task: Task
    began: float
    done: float = 0.0
    text: str = ""


class Display:
    """Tells a display how far all tasks are; workers may tell it from threads of their own.

    Args:
        show: the display, or None.
        tasks: that will be made.
        cells: of the whole grid.
        workers: how many work at a time.
        now: the clock.
    """

    def __init__(
        self, show: Show | None, tasks: Sequence[Task], cells: int, workers: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._show = show
        self._now = now
        self._lock = threading.RLock()
        self._cells = cells
        self._concluded = cells - sum(len(task.cells) for task in tasks)
        self._failed = 0
        self._workers = max(1, workers)
        self._in: dict[int, _Worker] = {}
        self._kinds = {task.number: _kind(task) for task in tasks}
        self._waiting = Counter(self._kinds.values())
        self._weights = {_kind(task): _weight(task) for task in tasks}
        self._took: dict[str, tuple[int, float]] = {}
        self._ended = 0.0

    def works(self, workers: int) -> None:
        """So many work at a time, as is known now."""
        self._workers = max(1, workers)

    def begin(self, worker: int, task: Task) -> None:
        """A worker takes a task."""
        with self._lock:
            self._waiting[self._kind(task)] -= 1
            self._in[worker] = _Worker(task, self._now())
            self._tell()

    def tell(self, worker: int, done: float, text: str) -> None:
        """A worker says how much of its task is done, and what there is to say."""
        with self._lock:
            one = self._in.get(worker)
            if one is None:
                return
            one.done, one.text = done, text
            if not done:
                one.began = self._now()  # it was loading its model until now
            self._tell()

    def concluded(self, failed: bool = False) -> None:
        """A cell is done, or failed."""
        with self._lock:
            self._concluded += 1
            self._failed += failed
            self._tell()

    def end(self, worker: int) -> None:
        """A worker is through with its task."""
        with self._lock:
            one = self._in.pop(worker, None)
            if one is not None:
                count, took = self._took.get(self._kind(one.task), (0, 0.0))
                self._took[self._kind(one.task)] = count + 1, took + self._now() - one.began
                self._ended += self._weights[self._kind(one.task)]

    def again(self, worker: int) -> None:
        """A worker died: what it was in is waited for anew."""
        one = self._in.pop(worker, None)
        if one is not None:
            self._waiting[self._kind(one.task)] += 1

    def left(self) -> float | None:
        """Seconds that are left, or None where nothing was timed yet."""
        seconds = sum(took for _, took in self._took.values())
        if not self._took:
            return None
        rate = seconds / self._ended if self._ended else 0.0

        def each(kind: str) -> float:
            count, took = self._took.get(kind, (0, 0.0))
            return took / count if count else rate * self._weights[kind]

        waiting = sum(count * each(kind) for kind, count in self._waiting.items() if count)
        inside = sum(each(self._kind(one.task)) * (1 - one.done) for one in self._in.values())
        return (waiting + inside) / self._workers

    def _kind(self, task: Task) -> str:
        """Of a whole task, whatever part of it is left."""
        return self._kinds[task.number]

    def _portion(self) -> float:
        every = self._ended + sum(self._weights[kind] * count for kind, count in self._waiting.items())
        inside = [(self._weights[self._kind(one.task)], one.done) for one in self._in.values()]
        every += sum(weight for weight, _ in inside)
        made = self._ended + sum(weight * done for weight, done in inside)
        return made / every if every else 1.0

    def _tell(self) -> None:
        if self._show is None:
            return
        words = [f"{self._concluded} of {self._cells} cells"]
        words += [f"{self._failed} failed"] if self._failed else []
        shown = sorted(self._in.items())[:SHOWN_WORKERS]
        parts = [", ".join(filter(None, [_labels(one.task), one.text])) for _, one in shown]
        self._show(self._portion(), self.left(), " | ".join([", ".join(words), *parts]))


def _kind(task: Task) -> str:
    """What tasks that take about as long have in common."""
    return repr([sorted(cell.coordinates.items()) for cell in task.cells])


def _labels(task: Task) -> str:
    cell = task.cells[0]
    labels = " ".join(cell.coordinates.values())
    return f"prompt {cell.prompt.number}" + (f": {labels}" if labels else "")


def _weight(task: Task) -> float:
    """About how long a task takes, in images of one step."""
    return sum(_weight_of(cell.request.budget, cell.request.num_inference_steps or STEPS) for cell in task.cells)


def _weight_of(given: Sequence[str] | None, steps: int) -> float:
    budget = parse_budget(list(given) if given else "16 images")
    limits = [
        budget.images * steps if budget.images else None, budget.nfe,
        budget.seconds * SECOND * steps if budget.seconds else None,
    ]  # fmt: skip
    return float(min((one for one in limits if one is not None), default=steps)) + steps
