"""A task, made: by a workshop, which loads a model and verifiers once, in whatever process it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.benchmark.cells import Cell
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.sharing import Task, loads_of
from noisewright.benchmark.store import CELLS
from noisewright.benchmark.telling import failed, read_run_of, told
from noisewright.execute import execute
from noisewright.planning import Plan, load_requested, plan_on, recordable
from noisewright.request import Request
from noisewright.run.reading import is_concluded, is_run
from noisewright.samplers.quiet import quiet

if TYPE_CHECKING:
    from noisewright.run.verbs import Run

Made = tuple[CellRow, list[CandidateRow]]
Tell = Callable[[float, str], None]
"""Told of the portion of a task that is done, in [0, 1], and what there is to say."""


class Ended(Exception):
    """A task was ended, as was asked for, before all its cells were made."""


class Workshop:
    """Makes tasks, one after the other.

    Args:
        root: the benchmark's directory.
        ending: set by who wants it to end after the micro-batch in flight.
        pictures: whether to draw pictures of each run.
    """

    def __init__(self, root: Path, ending: threading.Event, pictures: bool = False) -> None:
        self.root = root
        self.ending = ending
        self._pictures = pictures
        self._loaded: tuple[str, Any] = "", None
        self._known: dict[str, dict[str, Any]] = {}

    def do(self, task: Task, tell: Tell = lambda done, text: None) -> Iterator[Made]:
        """The rows of a task's cells, each as soon as it is known; a cell that fails has a row that says so.

        Raises:
            Ended: where it was ended before all were made; what was made is on the disk.
        """
        for place, cell in enumerate(task.cells):
            part = _part(tell, place, len(task.cells))
            try:
                with quiet():
                    made = self._own(cell, part)
            except (Ended, KeyboardInterrupt):
                raise
            except Exception as error:  # of this cell alone, perhaps: the others are made all the same
                yield failed(cell, error), []
            else:
                yield made

    def _own(self, cell: Cell, tell: Tell) -> Made:
        """A cell as a run of its own: made, gone on with, or read where it is there."""
        name = f"{CELLS}/{cell.digest}"
        root = self.root / name
        if not (is_run(root) and is_concluded(root)):
            if self.ending.is_set():
                raise Ended
            tell(0.0, "loading the model")
            plan = self.plan(cell.request)
            tell(0.0, "")
            self._run(plan, root, tell)
        return told(cell, read_run_of(self.root, name))

    def plan(self, request: Request) -> Plan:
        """The plan of a request, on its pipeline.

        Raises:
            ValueError, TypeError, UnsupportedPipeline: in one line.
        """
        recorded, live = recordable(request)
        pipe = self.pipe(recorded)
        known = self._known.setdefault(str(getattr(pipe, "device", "cpu")), {})
        return plan_on(recorded, pipe, known=known, **live)

    def pipe(self, request: Request) -> Any:
        """The pipeline of a request: the last that was loaded, where it is that.

        Raises:
            ValueError: in one line, where it cannot be loaded; it is not tried again while nothing else is asked for.
        """
        key = loads_of(request)
        if self._loaded[0] != key:
            self._loaded = "", None  # two need not be in memory at once
            try:
                self._loaded = key, load_requested(request)
            except (ValueError, OSError, ImportError) as error:
                self._loaded = key, error
        found = self._loaded[1]
        if isinstance(found, Exception):
            raise ValueError(str(found)) from found
        return found

    def _run(self, plan: Plan, root: Path, tell: Tell) -> None:
        """Run a plan to its end.

        Raises:
            Ended: where it was ended before; it can be gone on with.
        """

        def after_batch(run: Run) -> None:
            if self.ending.is_set():
                run.stop()
            tell(_portion(run), _words(run))

        result = execute(plan, root, after_batch, pictures=self._pictures)
        if result.interrupted:
            raise Ended


def _part(tell: Tell, place: int, count: int) -> Tell:
    return lambda done, text: tell((place + done) / count, text)


def _portion(run: Run) -> float:
    """The part of the nearest limit that is used."""
    spent, budget = run.spent, run.budget
    limits = ((spent.images, budget.images), (spent.nfe, budget.nfe), (run.elapsed, budget.seconds))
    return min(1.0, max((used / limit for used, limit in limits if limit), default=0.0))


def _words(run: Run) -> str:
    best = run.best
    scores = ", ".join(f"{name} {value:.4g}" for name, value in best.scores.items()) if best else ""
    images = f"{run.spent.images} image{'s' * (run.spent.images != 1)}"
    return ", ".join(one for one in (f"best {scores}" if scores else "", images, f"{run.spent.nfe} NFE") if one)
