"""How far work is, while it goes on: by the step, in a terminal, in a notebook, or as a line now and then.

A display is a function ``show(done, left, text)`` with the portion that is done in [0, 1], the seconds that are left or
None, and what there is to say. Who counts something of its own calls it; :class:`RunProgress` calls it for a run.
"""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from noisewright.outside.streams import Spared
from noisewright.outside.texts import clean

if TYPE_CHECKING:
    from noisewright.run.verbs import Run

Show = Callable[[float, float | None, str], None]

LINE_SECONDS = 30.0
"""Between two lines where nothing can be drawn; what ends before has none."""

DRAWN_SECONDS = 0.25
"""Between two pictures of the bar in a notebook, each of which is sent to the browser."""

PHASES = {"encode": "encoding the prompt", "decode": "decoding and scoring"}
"""What a run does where it takes no steps."""


# What is shown


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


@contextmanager
def bar(file: Any) -> Iterator[Show]:
    """A bar that is drawn again and again in one line of a terminal, and gone at the end.

    Args:
        file: the terminal's stream; the work goes on without a bar where that goes away.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    spared: Any = Spared(file)
    console = Console(file=spared, highlight=False)
    columns = (
        SpinnerColumn(), BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"), TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task("starting ...", total=1.0, left="")

        def show(done: float, left: float | None, text: str) -> None:
            drawn.update(task, completed=done, description=clean(text), left=_left(left))

        yield show


@contextmanager
def lines(write: Callable[[str], Any], every: float = LINE_SECONDS) -> Iterator[Show]:
    """A line each ``every`` seconds, where nothing can be drawn; the first when so many have passed."""
    before = time.monotonic()

    def show(done: float, left: float | None, text: str) -> None:
        nonlocal before
        now = time.monotonic()
        if now - before >= every:
            before = now
            write(": ".join(part for part in (", ".join(filter(None, [f"{done:.0%}", _left(left)])), text) if part))

    yield show


@contextmanager
def in_notebook() -> Iterator[Show]:
    """A bar in the output of a notebook's cell, which is cleared at the end."""
    from IPython.display import HTML, display

    handle: Any = display(HTML(_drawn(0.0, None, "starting ...")), display_id=True)
    before = time.monotonic()

    def show(done: float, left: float | None, text: str) -> None:
        nonlocal before
        now = time.monotonic()
        if handle is not None and now - before >= DRAWN_SECONDS:
            before = now
            handle.update(HTML(_drawn(done, left, text)))

    try:
        yield show
    finally:
        if handle is not None:
            handle.update(HTML(""))


def _drawn(done: float, left: float | None, text: str) -> str:
    words = "  ".join(part for part in (f"{done:.0%}", _left(left), clean(text)) if part)
    return (
        f'<div style="display:flex;gap:1em;align-items:center"><progress value="{done:.4f}" max="1"></progress>'
        f"<code>{html.escape(words)}</code></div>"
    )


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"


def is_notebook() -> bool:
    """Whether this runs in a notebook's kernel, whose output is a page."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def displayed(wanted: bool | None) -> Iterator[Show | None]:
    """What Python callers get: a notebook's bar, a terminal's, or lines.

    Args:
        wanted: None shows a bar where somebody looks, in a notebook or where standard error is a terminal; True shows
            lines elsewhere; False shows nothing.
    """
    error = sys.stderr
    if wanted is False:
        yield None
    elif is_notebook():
        with in_notebook() as show:
            yield show
    elif error is not None and error.isatty():
        with bar(error) as show:
            yield show
    elif wanted and error is not None:
        with lines(lambda text: Spared(error).write(f"noisewright: {clean(text)}\n")) as show:
            yield show
    else:
        yield None


# What is counted


class RunProgress:
    """Follows a run by the step, and tells a display: how much is done, the time left, the best so far.

    Call :meth:`follow` before the run's first verb and :meth:`leave` after its last; the run itself calls the object
    after each micro-batch.

    Args:
        show: the display.
    """

    def __init__(self, show: Show) -> None:
        self._show = show
        self._run: Run | None = None
        self._done = 0.0

    def follow(self, run: Run, nfe: int | None = None) -> None:
        """Look at every step of a run from now on.

        Args:
            run: new, or one that is continued.
            nfe: what it will cost in all, as far as that is known.
        """
        self._run, self._nfe, meter = run, nfe, run.sampler.meter
        self._best, self._phase = "", ""
        self._counted = meter.nfe - run.spent.nfe
        self._at, self._began = self._portion(), time.monotonic()
        meter.on_step, meter.on_phase = self._step, self._enter
        self._tell()

    def conclude(self) -> None:
        """The search is over; what is left are the judges and the pictures."""
        self._phase = "judging and saving"
        self._tell()

    def leave(self) -> None:
        """Look no more."""
        if self._run is not None:
            self._run.sampler.meter.on_step = self._run.sampler.meter.on_phase = None
            self._run = None

    def __call__(self, run: Run) -> None:
        best = run.best
        scores = ", ".join(f"{name} {value:.4g}" for name, value in best.scores.items()) if best else ""
        self._best, self._phase = f"best {scores}" if scores else "", ""
        self._tell()

    def _step(self, images: int) -> None:
        self._phase = ""
        self._tell()

    def _enter(self, phase: str) -> None:
        self._phase = PHASES.get(phase, "")
        self._tell()

    def _tell(self) -> None:
        run = self._run
        if run is None:
            return
        self._done = max(self._done, self._portion())  # a bar does not go back
        took, made = time.monotonic() - self._began, self._done - self._at
        left = took * (1 - self._done) / made if made > 0 and self._done < 1 else None  # after the last step none knows
        if run.budget.seconds is not None and left is not None:
            left = min(left, max(0.0, run.budget.seconds - run.elapsed))
        images = run.spent.images
        words = [self._best, f"{images} image{'s' * (images != 1)}", f"{self._used()} NFE", self._phase]
        self._show(self._done, left, ", ".join(word for word in words if word))

    def _used(self) -> int:
        """NFE so far: by the step where this process takes them, else by the micro-batch, as workers report them."""
        run = self._run
        assert run is not None  # noqa: S101 - who calls this follows a run
        return max(run.sampler.meter.nfe - self._counted, run.spent.nfe)

    def _portion(self) -> float:
        """The part of the nearest limit that is used; the last step is never the end, which is saving."""
        run = self._run
        assert run is not None  # noqa: S101
        budget, used = run.budget, self._used()
        each = max(1, run.final.nfe(0, run.final.schedule.steps))
        nfe = self._nfe or budget.nfe or (budget.images and budget.images * each)
        limits = ((used, nfe), (run.elapsed, budget.seconds))
        return min(1.0, max((now / limit for now, limit in limits if limit), default=0.0))


def portion(run: Run) -> float:
    """The part of a run's nearest limit that is used, by what its journal says."""
    spent, budget = run.spent, run.budget
    limits = ((spent.images, budget.images), (spent.nfe, budget.nfe), (run.elapsed, budget.seconds))
    return min(1.0, max((used / limit for used, limit in limits if limit), default=0.0))


# Of many runs


def parts_of(show: Show, count: int) -> Callable[[int], Show]:
    """Displays of the prompts' parts of the whole, by their numbers; the time left is that of all."""
    began, first = time.monotonic(), -1.0

    def part(number: int) -> Show:
        nonlocal began, first
        if first < 0:  # those that were done before took no time
            began, first = time.monotonic(), (number - 1) / count

        def show_part(done: float, left: float | None, text: str) -> None:
            whole = (number - 1 + done) / count
            took, made = time.monotonic() - began, whole - first
            show(whole, took * (1 - whole) / made if made > 0 else left, f"prompt {number} of {count}, {text}")

        return show_part

    return part


class Together:
    """Tells a display of prompts that are run side by side, and ends their runs where that is asked for.

    Args:
        show: the display, or None.
        count: how many prompts there are.
        ending: set by who wants the runs to end after their micro-batches in flight.
    """

    def __init__(self, show: Show | None, count: int, ending: threading.Event) -> None:
        self._show, self._count, self._ending = show, count, ending
        self._done: dict[int, float] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def of(self, number: int) -> Callable[[Run], None]:
        """What is called after each micro-batch of a prompt's run."""

        def after_batch(run: Run) -> None:
            self._note(number, portion(run))
            if self._ending.is_set():
                run.stop()

        return after_batch

    def end(self, number: int) -> None:
        """A prompt is through."""
        self._note(number, 1.0)

    def _note(self, number: int, done: float) -> None:
        with self._lock:
            self._done[number] = done
            if self._show is None:
                return
            whole, ended = sum(self._done.values()) / self._count, sum(one == 1 for one in self._done.values())
            took = time.monotonic() - self._began
            left = took * (1 - whole) / whole if whole > 0 else None
            self._show(whole, left, f"{ended} of {self._count} prompts, {len(self._done) - ended} in hand")
