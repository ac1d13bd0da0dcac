"""What a benchmark will cost, before it is paid: one timed step for each kind of run, and the rest in proportion."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisewright.benchmark.cells import Cell, cells_of
from noisewright.benchmark.sharing import Task, budget_of, checked_cells, host_of, images_in, tasks_of
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.store import is_benchmark, open_results
from noisewright.benchmark.work import Workshop
from noisewright.evaluate.forecast import forecast
from noisewright.outside.texts import clean
from noisewright.progress import Show, duration
from noisewright.request import Request
from noisewright.run.budget import Budget
from noisewright.samplers.quiet import quiet

COUNTS = ("images", "nfe", "forwards")


@dataclass(frozen=True)
class Kind:
    """Runs that differ in prompt, seed and budget alone.

    Attributes:
        coordinates: the labels of the first cell that such a run serves.
        runs: how many there are.
        cells: how many cells they serve.
        images, nfe, forwards, seconds: of all of them.
        error: why one cannot be planned, in one line; then nothing is counted of it.
    """

    coordinates: dict[str, str]
    runs: int
    cells: int
    images: int = 0
    nfe: int = 0
    forwards: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a benchmark will cost.

    Attributes:
        name: the benchmark's.
        cells: of the grid; ``made`` of them are done already.
        runs: that will be made: cells that share their images are one.
        images, nfe, forwards: that will be made and spent.
        seconds: until it is done, with so many ``workers``; loading included.
        loading: seconds of these that one worker needs to load models and verifiers.
        kinds: what it is made of.
        warnings: what the person should know.
    """

    name: str
    cells: int
    made: int
    runs: int
    images: int
    nfe: int
    forwards: int
    seconds: float
    loading: float
    workers: int
    kinds: tuple[Kind, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``--dry-run --json`` prints it."""
        found = {**vars(self), "kinds": [vars(one) for one in self.kinds], "warnings": list(self.warnings)}
        return {"dry_run": True, **found}

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Names and texts, for people."""
        done = f", {self.made} of them made already" if self.made else ""
        fewer = self.runs < self.cells - self.made
        return (
            ("cells", f"{self.cells}{done}"),
            ("runs", f"{self.runs}" + ", since cells that share their images are one" * fewer),
            ("images", str(self.images)),
            ("cost", f"{self.nfe} NFE, {self.forwards} forwards"),
            ("time", f"about {duration(self.seconds)} with {self.workers} worker{'s' * (self.workers != 1)}"),
            *(("failing", f"{_labels(one)}: {one.error}") for one in self.kinds if one.error is not None),
            *(("warning", text) for text in self.warnings),
        )


def estimate(spec: Spec, *, out: str | Path | None = None, workers: int = 1, show: Show | None = None) -> Estimate:
    """What it will cost to make the cells of a benchmark that are not made yet. Nothing is written.

    Of each kind of run one is planned and forecast (:func:`noisewright.evaluate.forecast.forecast`): one with the
    largest budget, on the first prompt that has it. All others are taken to cost in proportion to their budgets.

    Args:
        spec: the benchmark.
        out: its directory, where some of it may be made already.
        workers: how many processes will work.
        show: is told how far it is.

    Raises:
        ValueError, TypeError: wrong use, in one line.
    """
    cells = checked_cells(cells_of(spec))
    made: set[str] = set()
    if out is not None and is_benchmark(out):
        made = {row["cell"] for row in open_results(out).done} & {cell.digest for cell in cells}
    shop = Workshop(Path(), threading.Event(), proving=False)
    kinds: dict[str, list[Task]] = {}
    for task in tasks_of(cells, made):
        kinds.setdefault(_kind(task), []).append(task)
    found, loading, warnings = list[Kind](), 0.0, Counter[str]()
    for number, tasks in enumerate(kinds.values()):
        if show is not None:
            show(number / len(kinds), None, f"kind {number + 1} of {len(kinds)}: {_labels_of(tasks[0].cells[0])}")
        kind, seconds, said = _estimated(shop, tasks)
        found.append(kind)
        loading += seconds
        warnings.update(said)
    sums = {name: sum(getattr(one, name) for one in found) for name in (*COUNTS, "runs")}
    busy = min(workers, max(1, sums["runs"]))
    seconds = sum(one.seconds for one in found) / busy + loading
    return Estimate(
        name=spec.name, cells=len(cells), made=len(made), **sums, seconds=round(seconds, 1), workers=workers,
        loading=round(loading, 1), kinds=tuple(found), warnings=tuple(warnings),
    )  # fmt: skip


def _estimated(shop: Workshop, tasks: Sequence[Task]) -> tuple[Kind, float, list[str]]:
    """What tasks of a kind cost, the seconds that loading for them took, and what there is to say."""
    first = tasks[0].cells[0]
    runs, cells = len(tasks), sum(len(task.cells) for task in tasks)
    labels = dict(first.coordinates)
    try:
        with quiet():
            requests = [_run_of(shop, task) for task in tasks]
            budgets = [budget_of(one) for one in requests]
            largest = max(range(len(tasks)), key=lambda n: _size(budgets[n]))
            began = time.perf_counter()
            shop.plan(first.request)
            loading = time.perf_counter() - began
            plan = shop.plan(requests[largest])
            said = forecast(plan)
    except Exception as error:  # a run of this kind will fail, and the others will not
        return Kind(labels, runs, cells, error=clean(str(error) or type(error).__name__, 1000)), 0.0, []
    shares = [_share(one, said) for one in budgets]
    images, nfe, forwards = (round(sum(shares) * said[name]) for name in COUNTS)
    seconds = round(sum(shares) * said["seconds"], 2)
    return Kind(labels, runs, cells, images, nfe, forwards, seconds), loading, [str(one) for one in said["warnings"]]


def _run_of(shop: Workshop, task: Task) -> Request:
    """The run that makes a task; of a pool with all its verifiers, each of which is shown all images."""
    if not task.pool:
        return task.cells[0].request
    request = host_of(task.pool, lambda cell: images_in(budget_of(cell.request), lambda: shop.nfe_each(cell.request)))
    if all(cell.request.verifier == task.pool[0].request.verifier for cell in task.pool):
        return request
    verifiers = dict.fromkeys(name for cell in task.pool for name in cell.request.verifier or ())
    return request.changed(verifier=list(verifiers), ensemble="rank", judge=["none"])


def _kind(task: Task) -> str:
    """What runs that differ in prompt, seed and budget alone have in common."""
    without = ("prompt", "class_label", "seed", "budget")
    cells = task.pool or task.cells
    same = [{name: value for name, value in cell.request.to_json().items() if name not in without} for cell in cells]
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]


def _size(budget: Budget) -> tuple[float, ...]:
    return tuple(-1.0 if one is None else one for one in (budget.nfe, budget.images, budget.seconds))


def _share(budget: Budget, said: dict[str, Any]) -> float:
    """What a run costs, of one that was forecast: by the limit that it comes to first."""
    limits = ((budget.images, said["images"]), (budget.nfe, said["nfe"]), (budget.seconds, said["seconds"]))
    found = min((limit / each for limit, each in limits if limit is not None and each), default=1.0)
    return min(found, 1.0)


def _labels(kind: Kind) -> str:
    return " ".join(kind.coordinates.values()) or "the cells"


def _labels_of(cell: Cell) -> str:
    return " ".join(cell.coordinates.values()) or "the cells"
