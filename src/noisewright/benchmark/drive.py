"""The driver: it deals the cells of a benchmark out, writes a row for each, and goes on where it was ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from noisewright import registry
from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.display import Display
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.sharing import Task, checked_cells, tasks_of
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.store import Results, Store, opened
from noisewright.benchmark.work import Ended, Made, Workshop
from noisewright.benchmark.workers import Crew
from noisewright.executors.dealt import dealt, ended_gently
from noisewright.executors.optional import DealsRuns
from noisewright.executors.protocol import Executor
from noisewright.outside.messages import short
from noisewright.progress import Show
from noisewright.samplers.device import is_on_gpu

MOST_WORKERS = 1024

LOCAL = "local"


def run_benchmark(
    spec: Spec,
    out: str | Path,
    *,
    workers: int = 1,
    executor: str | Executor = LOCAL,
    show: Show | None = None,
    pictures: bool = False,
    on_row: Callable[[CellRow], None] | None = None,
    retry_failed: bool = True,
) -> Results:
    """Make the cells of a benchmark that its directory does not have yet.

    Ctrl-C ends it after the micro-batch in flight of each worker, with everything kept, and a second one at once; the
    same call goes on. So it does after any kill: what is not in the rows is in the run directories.

    Args:
        spec: the benchmark.
        out: its directory: new, empty, or of the same benchmark, whose grid may have grown since.
        workers: how many processes work; with 1 it is this one.
        executor: whose workers are dealt the runs, in place of processes of this machine: ``"ray:HOST:PORT"``.
        show: is told how far it is.
        pictures: whether to draw pictures of each run.
        on_row: is told of each row once it is written.
        retry_failed: whether cells that failed in an earlier call are tried again.

    Returns:
        The rows; ``interrupted`` says whether it was ended before all cells were made.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is made.
        RuntimeError: in one line, where the directory cannot be written any more.
        KeyboardInterrupt: on a second Ctrl-C.
    """
    if type(workers) is not int or not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f"expected workers in [1, {MOST_WORKERS}], got {workers!r:.60}")
    crew = _dealing(executor, workers)
    cells = checked_cells(cells_of(spec))
    with opened(spec, out) as store, ended_gently() as ending:
        kept = {key for key in store.rows if not retry_failed or store.is_done(key)}
        tasks = tasks_of(cells, kept)
        display = Display(show, tasks, len(cells), workers)
        status = "interrupted"
        try:
            for row, candidates in _made(store.root, tasks, crew or workers, display, ending, pictures):
                store.add(row, candidates)
                display.concluded(row["status"] == "failed")
                if on_row is not None:
                    on_row(row)
            status = _status(store)
        except Ended:
            pass
        finally:
            store.conclude(status)
        return store.results(interrupted=status == "interrupted")


def _dealing(executor: str | Executor, workers: int) -> DealsRuns | None:
    """An executor that is dealt runs; None for the one of this process.

    Raises:
        ValueError, TypeError: in one line.
    """
    if executor == LOCAL:
        return None
    found = registry.make_executor(executor) if isinstance(executor, str) else executor
    if not isinstance(found, DealsRuns):
        raise ValueError(f"expected an executor that can be dealt runs (ray), got {short(executor)}")
    if workers > 1:
        raise ValueError(f"expected the executor's own number of workers, got workers {workers} beside it")
    return found


def _dealt(
    shop: Workshop, crew: DealsRuns, tasks: list[Task], display: Display, ending: threading.Event
) -> Iterator[Made]:
    """The rows of tasks, each made by an executor that has workers of its own.

    Raises:
        Ended: where it was ended before all were made.
    """
    left = iter(tasks)
    with crew.apart(is_on_gpu(tasks[0].cells[0].request.device)) as executors:
        shops = [shop.beside(one) for one in executors]

        def do(task: Task, place: int) -> Iterator[Made]:
            display.begin(place, task)
            yield from shops[place].do(task, lambda done, text: display.tell(place, done, text))
            display.end(place)

        display.works(len(executors))
        yield from dealt(left, len(executors), do, ending)
    if next(left, None) is not None:
        raise Ended


def _made(
    root: Path, tasks: list[Task], workers: int | DealsRuns, display: Display, ending: threading.Event, pictures: bool
) -> Iterator[Made]:
    """The rows of tasks, as they are made: by so many processes, or by whom whole runs are dealt to.

    Raises:
        Ended: where it was ended before all were made.
    """
    if isinstance(workers, int) and workers > 1 and len(tasks) > 1:
        yield from Crew(root, tasks, workers, pictures, display, ending).made()
        return
    shop = Workshop(root, ending, pictures)
    if not isinstance(workers, int):
        if tasks:
            yield from _dealt(shop, workers, tasks, display, ending)
        return
    for task in tasks:
        if ending.is_set():
            raise Ended
        display.begin(0, task)
        yield from shop.do(task, lambda done, text: display.tell(0, done, text))
        display.end(0)


def _status(store: Store) -> str:
    return "failed" if any(row["status"] == "failed" for row in store.rows.values()) else "done"
