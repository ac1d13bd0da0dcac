"""A task, made: by a workshop, which loads a model and verifiers once, in whatever process it is."""

from __future__ import annotations

import copy
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from noisewright import registry
from noisewright.benchmark.cells import Cell
from noisewright.benchmark.pooled import Pool, Scorers
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.sharing import Task, alike, budget_of, host_of, images_in, loads_of
from noisewright.benchmark.spared import Memory
from noisewright.benchmark.store import CELLS
from noisewright.benchmark.telling import Run, failed, read_run_of, rows_of
from noisewright.errors import RunMismatch
from noisewright.execute import execute
from noisewright.executors.protocol import Executor
from noisewright.planning import Plan, load_requested, plan_on, recordable
from noisewright.planning.conditions import condition_of
from noisewright.planning.verifiers import choose_verifiers
from noisewright.progress import portion
from noisewright.request import Request
from noisewright.run.locks import is_being_written
from noisewright.run.reading import is_concluded, is_run
from noisewright.samplers.optional import frames_shown
from noisewright.samplers.quiet import quiet
from noisewright.verifiers.cache import Cached
from noisewright.verifiers.optional import WantsPreviews, usage_of
from noisewright.verifiers.protocol import Verifier, score, waits

if TYPE_CHECKING:
    from noisewright.run.verbs import Run as Verbs

log = logging.getLogger("noisewright")

Made = tuple[CellRow, list[CandidateRow]]
Tell = Callable[[float, str], None]
"""Told of the portion of a task that is done, in [0, 1], and what there is to say."""


class Ended(Exception):
    """A task was ended, as was asked for, before all its cells were made."""


@dataclass
class _Loaded:
    """The pipeline that was loaded last, or why it could not be, and what it was loaded by."""

    key: str = ""
    pipe: Any = None


class Workshop:
    """Makes tasks, one after the other.

    Args:
        root: the benchmark's directory.
        ending: set by who wants it to end after the micro-batch in flight.
        pictures: whether to draw pictures of each run.
        proving: whether to compare a pipeline with its plain call where that was never done.

    Attributes:
        executor: who works on the runs; None is whom their requests name.
    """

    def __init__(
        self, root: Path, ending: threading.Event, pictures: bool = False, proving: bool = True
    ) -> None:
        self.root = root
        self.ending = ending
        self._pictures = pictures
        self._proving = proving
        self.executor: Executor | None = None
        self._loaded = _Loaded()
        self._alone = threading.RLock()  # for what workshops side by side share
        self._known: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._warmed: dict[int, Verifier] = {}
        self._memory = Memory()

    def beside(self, executor: Executor) -> Workshop:
        """A workshop for another thread, whose runs are worked on elsewhere; what is loaded here is shared."""
        other = copy.copy(self)
        other.executor, other._memory = executor, Memory()
        return other

    def do(self, task: Task, tell: Tell = lambda done, text: None) -> Iterator[Made]:
        """The rows of a task's cells, each as soon as it is known; a cell that fails has a row that says so.

        Raises:
            Ended: where it was ended before all were made; what was made is on the disk.
        """
        pool = self._pool(task, _part(tell, 0, 2)) if task.pool else None
        with_candidates = set() if pool is None else _first_of_each(task.pool, self._images)
        for place, cell in enumerate(task.cells):
            part = _part(tell, place, len(task.cells)) if pool is None else _part(tell, 1, 2)
            try:
                with quiet():
                    with self._alone:
                        made = None if pool is None else self._read_off(pool, cell, cell.digest in with_candidates)
                    made = self._own(cell, part) if made is None else made
            except (Ended, KeyboardInterrupt):
                raise
            except Exception as error:  # of this cell alone, perhaps: the others are made all the same
                yield failed(cell, error), []
            else:
                yield made

    # A run of its own

    def _own(self, cell: Cell, tell: Tell) -> Made:
        """A cell as a run of its own: made, gone on with, or read where it is there."""
        return rows_of(cell, self._run(cell.request, tell))

    def _run(self, request: Request, tell: Tell) -> Run:
        """The run of a request, concluded.

        Raises:
            Ended: where it was ended before; it can be gone on with.
            Exception: whatever it fails with.
        """
        name = f"{CELLS}/{request.digest}"
        if not self._is_there(request):
            if self.ending.is_set():
                raise Ended
            if not self._has(request):
                tell(0.0, "loading the model")
            plan = self.plan(request)
            if self.executor is not None:
                plan.give_to(self.executor)
            plan.executor = self._memory.executor(plan)
            tell(0.0, "")
            try:
                self._execute(plan, self.root / name, tell)
            except RunMismatch:
                if not _set_aside(self.root / name):
                    raise
                self._execute(plan, self.root / name, tell)
        return read_run_of(self.root, name)

    def _is_there(self, request: Request) -> bool:
        root = self.root / CELLS / request.digest
        return is_run(root) and is_concluded(root)

    def _execute(self, plan: Plan, root: Path, tell: Tell) -> None:
        def after_batch(run: Verbs) -> None:
            tell(portion(run), _words(run))
            if self.ending.is_set():
                run.stop()

        if execute(plan, root, after_batch, pictures=self._pictures).interrupted:
            raise Ended

    # A pool

    def _pool(self, task: Task, tell: Tell) -> Pool | None:
        """The run that serves a task's cells; None where it fails, and each has to see by itself."""
        try:
            with quiet():
                request = host_of(task.pool, self._images)
                run = self._run(request, tell)
                return Pool(self.root, run, lambda: self.nfe_each(request), self._frames(request), self._check)
        except (Ended, KeyboardInterrupt):
            raise
        except Exception:
            log.debug("no run serves the cells of a pool", exc_info=True)
            return None

    def _read_off(self, pool: Pool, cell: Cell, with_candidates: bool) -> Made | None:
        """A cell read off a pool's run; None where it has to be, or is, a run of its own."""
        if self._is_there(cell.request):
            return None
        try:
            row, candidates = pool.tell(cell, self._scorers(cell.request))
        except (Ended, KeyboardInterrupt):
            raise
        except Exception:  # its own run says it in its own words
            log.debug("a cell is a run of its own after all", exc_info=True)
            return None
        return row, candidates if with_candidates else []

    def _scorers(self, request: Request) -> Scorers:
        """The verifiers and judges of a request, checked as a plan checks them."""
        pipe = self.pipe(request)
        info = registry.card(getattr(pipe, "name_or_path", None))
        condition = condition_of(pipe, request.prompt, request.class_label, info)
        return Scorers(*choose_verifiers(request, None, None, condition[0], info, pipe, self._known_of(pipe)))

    def _check(self) -> None:
        if self.ending.is_set():
            raise Ended

    def _images(self, cell: Cell) -> int:
        """How many images a cell of a pool wants."""
        return images_in(budget_of(cell.request), lambda: self.nfe_each(cell.request))

    def nfe_each(self, request: Request) -> int:
        """What an image costs in NFE, for whatever prompt and seed."""
        return self._about(request)[0]

    def _frames(self, request: Request) -> int:
        return self._about(request)[1]

    def _about(self, request: Request) -> tuple[int, int]:
        """What an image costs in NFE, and how many frames it shows: for whatever prompt and seed."""
        key = alike(request)
        if key not in self._sizes:
            plan = self.plan(request)
            self._sizes[key] = plan.final.nfe(0, plan.final.schedule.steps), frames_shown(plan.final)
        return self._sizes[key]

    # What is loaded

    def plan(self, request: Request) -> Plan:
        """The plan of a request, on its pipeline.

        Raises:
            ValueError, TypeError, UnsupportedPipeline: in one line.
        """
        recorded, live = recordable(request)
        with self._alone:
            pipe = self.pipe(recorded)
            plan = plan_on(recorded, pipe, known=self._known_of(pipe), proving=self._proving, tuned=False, **live)
            self._sizes[alike(request)] = plan.final.nfe(0, plan.final.schedule.steps), frames_shown(plan.final)
            self._warm([*plan.verifiers, *plan.judges], str(plan.spec["sampler"].get("prompt", "")))
        return plan

    def _warm(self, some: Sequence[Verifier], prompt: str) -> None:
        """Let new verifiers load what they load at their first call, which no cell's seconds should have in them."""
        for one in some:
            local = not (waits(one) or usage_of(one) is not None or isinstance(one, (Cached, WantsPreviews)))
            if local and self._proving and id(one) not in self._warmed:
                self._warmed[id(one)] = one
                with suppress(Exception):  # it says why where it is asked in earnest
                    score(one, torch.full((1, 3, 64, 64), 0.5), prompt)

    def _known_of(self, pipe: Any) -> dict[str, Any]:
        """The verifiers that were made for a pipeline's device, by name."""
        return self._known.setdefault(str(getattr(pipe, "device", "cpu")), {})

    def _has(self, request: Request) -> bool:
        return self._loaded.key == loads_of(request)

    def pipe(self, request: Request) -> Any:
        """The pipeline of a request: the last that was loaded, where it is that.

        Raises:
            ValueError: in one line, where it cannot be loaded; it is not tried again while nothing else is asked for.
        """
        key = loads_of(request)
        held = self._loaded
        if held.key != key:
            held.key, held.pipe = "", None  # two need not be in memory at once
            try:
                held.pipe = load_requested(request)
            except (ValueError, OSError, ImportError) as error:
                held.pipe = error
            held.key = key
        found = held.pipe
        if isinstance(found, Exception):
            raise ValueError(str(found)) from found
        return found


def _set_aside(root: Path) -> bool:
    """Put a run that is not concluded, and is another now, out of the way: a verifier of one's own was mended, say.

    Returns:
        Whether that was it, and not that somebody is working on it.
    """
    if is_being_written(root) is not False:
        return False
    number = next(n for n in itertools.count(1) if not (root.parent / f"{root.name}.{n}").exists())
    root.rename(root.parent / f"{root.name}.{number}")
    return True


def _first_of_each(pool: Sequence[Cell], count: Callable[[Cell], int]) -> set[str]:
    """Of the cells of a pool with the same verifiers, the largest: its candidates are those of all of them."""
    found: dict[str, Cell] = {}
    for cell in pool:
        key = repr(cell.request.verifier)
        if key not in found or count(cell) > count(found[key]):
            found[key] = cell
    return {cell.digest for cell in found.values()}


def _part(tell: Tell, place: int, count: int) -> Tell:
    return lambda done, text: tell((place + done) / count, text)


def _words(run: Verbs) -> str:
    best = run.best
    scores = ", ".join(f"{name} {value:.4g}" for name, value in best.scores.items()) if best else ""
    images = f"{run.spent.images} image{'s' * (run.spent.images != 1)}"
    return ", ".join(one for one in (f"best {scores}" if scores else "", images, f"{run.spent.nfe} NFE") if one)
