"""The driver: it deals the cells of a benchmark out, writes a row for each, and goes on where it was ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from noisewright.benchmark.cells import cells_of
from noisewright.benchmark.display import Display
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.sharing import Task, checked_cells, tasks_of
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.store import Results, Store, opened
from noisewright.benchmark.work import Ended, Made, Workshop
from noisewright.benchmark.workers import Crew
from noisewright.progress import Show

MOST_WORKERS = 1024


def run_benchmark(
    spec: Spec,
    out: str | Path,
    *,
    workers: int = 1,
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
    cells = checked_cells(cells_of(spec))
    with opened(spec, out) as store, ended_gently() as ending:
        kept = {key for key in store.rows if not retry_failed or store.is_done(key)}
        tasks = tasks_of(cells, kept)
        display = Display(show, tasks, len(cells), workers)
        status = "interrupted"
        try:
            for row, candidates in _made(store.root, tasks, workers, display, ending, pictures):
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


def _made(
    root: Path, tasks: list[Task], workers: int, display: Display, ending: threading.Event, pictures: bool
) -> Iterator[Made]:
    """The rows of tasks, as they are made.

    Raises:
        Ended: where it was ended before all were made.
    """
    if workers > 1 and len(tasks) > 1:
        yield from Crew(root, tasks, workers, pictures, display, ending).made()
        return
    shop = Workshop(root, ending, pictures)
    for task in tasks:
        if ending.is_set():
            raise Ended
        display.begin(0, task)
        yield from shop.do(task, lambda done, text: display.tell(0, done, text))
        display.end(0)


def _status(store: Store) -> str:
    return "failed" if any(row["status"] == "failed" for row in store.rows.values()) else "done"


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
