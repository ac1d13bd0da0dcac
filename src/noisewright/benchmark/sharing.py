"""Which cells share work: best of 8 is in best of 128, and one image may be shown to every verifier.

Cells that ask for the same but for budget, verifiers, ensemble and judges, and whose search draws fresh noises one
after the other, are a pool: one run makes the images of the largest, and all are read off it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace

from noisewright.benchmark.cells import Cell
from noisewright.planning.plans import DEFAULT_BUDGET
from noisewright.request import LOADED_BY, Request
from noisewright.run.budget import Budget, parse_budget
from noisewright.schemas.drafts import draft_of

POOLED_SEARCH = "random"
VARIED = ("budget", "verifier", "ensemble", "judge")
"""In which fields the cells of a pool may differ."""


@dataclass(frozen=True)
class Task:
    """Cells of one prompt and seed that are made together.

    Attributes:
        number: its place among the tasks, from 0.
        cells: to be made, in the order of the grid.
        pool: all cells of the grid that one run serves, those among ``cells`` and others; empty where each cell is a
            run of its own.
    """

    number: int
    cells: tuple[Cell, ...]
    pool: tuple[Cell, ...] = ()

    @property
    def loads(self) -> str:
        """What its pipeline is loaded by."""
        return loads_of(self.cells[0].request)

    @property
    def begins(self) -> str:
        """What tasks share that may begin with the same starting noises."""
        return begins_of(self.cells[0].request)

    def without(self, made: Container[str]) -> Task | None:
        """What is left of it when cells were ``made``, by their digests; None where nothing is."""
        left = tuple(cell for cell in self.cells if cell.digest not in made)
        return replace(self, cells=left) if left else None


def loads_of(request: Request) -> str:
    """What a pipeline is loaded by, as a key."""
    return repr([getattr(request, name) for name in LOADED_BY])


def checked_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Cells, no two of which ask for the same.

    Raises:
        ValueError: in one line, naming two that do.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        other = found.setdefault(cell.digest, cell)
        if other is not cell:
            both = f"{_named(other)} and {_named(cell)}"
            raise ValueError(f"expected cells that differ, got {both}, which ask for the same")
    return list(found.values())


def tasks_of(cells: Iterable[Cell], made: Container[str] = ()) -> list[Task]:
    """The tasks of a grid: those of one model stand together.

    Args:
        cells: of the grid.
        made: those that need not be made, by their digests.
    """
    pools: dict[str, list[Cell]] = {}
    for cell in cells:
        pools.setdefault(pool_of(cell.request) or cell.digest, []).append(cell)
    tasks = []
    for some in pools.values():
        todo = tuple(cell for cell in some if cell.digest not in made)
        if todo:
            tasks.append(Task(0, todo, tuple(some) if len(some) > 1 else ()))
    order: dict[str, int] = {}
    tasks.sort(key=lambda task: order.setdefault(task.loads, len(order)))
    return [replace(task, number=number) for number, task in enumerate(tasks)]


def pool_of(request: Request) -> str | None:
    """What the requests of a pool share, as a key; None where a request is in none."""
    plain = request.search == POOLED_SEARCH and request.search_args in ({}, {"n": None})
    named = all(isinstance(one, str) for one in [*(request.verifier or ()), *(request.judge or ())])
    drafts = request.search_steps, draft_of(request.draft), request.profile
    beyond = (request.target, *drafts, request.keep, request.score_cache)
    if not plain or not named or any(one is not None for one in beyond) or budget_of(request).seconds is not None:
        return None
    return f"pool {_digest(request, (*VARIED, 'search_args'))}"


def alike(request: Request) -> str:
    """What the requests of pools that differ in prompt and seed alone share, as a key."""
    return _digest(request, (*VARIED, "search_args", "prompt", "class_label", "seed"))


def begins_of(request: Request) -> str:
    """What requests share that may begin with the same starting noises, as a key."""
    return repr([loads_of(request), request.prompt, request.class_label, request.seed])


def _digest(request: Request, without: Container[str]) -> str:
    same = {name: value for name, value in request.to_json().items() if name not in without}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]


def budget_of(request: Request) -> Budget:
    """The budget of a request, or what it is by default."""
    return parse_budget(DEFAULT_BUDGET if request.budget is None else list(request.budget))


def images_in(budget: Budget, nfe_each: Callable[[], int]) -> int:
    """How many images a search of a pool makes.

    Args:
        budget: in images, NFE or both.
        nfe_each: what an image costs; asked only where that matters.
    """
    limits = [budget.images] if budget.images is not None else []
    limits += [budget.nfe // nfe_each()] if budget.nfe is not None else []
    return min(limits)


def host_of(pool: Sequence[Cell], count: Callable[[Cell], int]) -> Request:
    """The run that serves a pool: as many images as any wants, and one verifier alone, whose time is then known.

    Where all have the same verifiers it is the largest cell itself.

    Args:
        pool: its cells.
        count: how many images each wants.
    """
    most = max(count(cell) for cell in pool)
    large = [cell.request for cell in pool if count(cell) == most]
    if all(cell.request.verifier == pool[0].request.verifier for cell in pool):
        return large[0]
    alone = [one for one in large if one.verifier is not None and len(one.verifier) == 1]
    if alone:
        return alone[0]
    verifier = next(name for cell in pool for name in cell.request.verifier or ())
    return large[0].changed(verifier=[verifier], ensemble="rank", judge=["none"])


def _named(cell: Cell) -> str:
    labels = ", ".join(f"{axis}={label}" for axis, label in cell.coordinates.items())
    return f"prompt {cell.prompt.number} with {labels or 'no axis'}"
