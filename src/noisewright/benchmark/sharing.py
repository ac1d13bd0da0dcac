"""Which cells are made together: a task for each piece of work that is dealt out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from noisewright.benchmark.cells import Cell
from noisewright.request import LOADED_BY, Request


@dataclass(frozen=True)
class Task:
    """Cells of one prompt and seed that are made together.

    Attributes:
        number: its place among the tasks, from 0.
        cells: to be made, in the order of the grid.
    """

    number: int
    cells: tuple[Cell, ...]

    @property
    def loads(self) -> str:
        """What its pipeline is loaded by."""
        return loads_of(self.cells[0].request)


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


def tasks_of(cells: Iterable[Cell]) -> list[Task]:
    """The tasks of cells that are to be made: those of one model stay together."""
    order: dict[str, int] = {}
    groups = [(cell,) for cell in cells]
    groups.sort(key=lambda some: order.setdefault(loads_of(some[0].request), len(order)))
    return [Task(number, some) for number, some in enumerate(groups)]


def _named(cell: Cell) -> str:
    labels = ", ".join(f"{axis}={label}" for axis, label in cell.coordinates.items())
    return f"prompt {cell.prompt.number} with {labels or 'no axis'}"
