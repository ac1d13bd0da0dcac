"""Results as they are kept in the repository: a pool's scores in 16 bits, and tables of cells as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from _evidence.places import RESULTS, weights

STEPS = 2**16 - 2
"""Of the scale between a scorer's lowest and highest score; one more value says that there is no number."""

RIGHT = 0.9995
"""The oracle's score is 1 where the whole scene is right, and else clearly below."""

CLIP, REWARD, ORACLE = "shapes-clip", "shapes-reward", "shapes-oracle"
EQUAL_BY = {"equal-seconds": CLIP, "equal-oracle": ORACLE, "equal-reward": REWARD}
"""Result files of searches at equal seconds, by the verifier that they were given."""


class Lacking(Exception):
    """Rows that are not there, in words."""


@dataclass(frozen=True)
class Pool:
    """Scores of plain candidates.

    Attributes:
        names: of the scorers.
        numbers: (prompts,) places of the prompts in their set, from 1.
        scores: (prompts, candidates, scorers), the candidates by seed; NaN where there is no number.
        about: how they were made: ``steps``, ``guidance``, ``dtype``, ``model``, ``weights`` by name.
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    scores: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> np.ndarray:
        """(prompts, candidates) of one scorer; ``success`` is whether the oracle finds the whole scene right.

        Raises:
            Lacking: where it has no such scorer.
        """
        if name == "success":
            return (self.of("shapes-oracle") >= RIGHT).astype(np.float64)
        if name not in self.names:
            raise Lacking(f"scores by {name}")
        return self.scores[:, :, self.names.index(name)]

    @property
    def count(self) -> int:
        """Candidates a prompt."""
        return self.scores.shape[1]

    @property
    def steps(self) -> int:
        """NFE of a candidate."""
        return int(self.about["steps"])

    def only(self, numbers: Iterable[int], count: int | None = None) -> Pool:
        """The same of some prompts, in the order given, and the first candidates.

        Raises:
            Lacking: where it has not all of them.
        """
        place = {int(number): k for k, number in enumerate(self.numbers)}
        wanted = list(numbers)
        if not set(wanted) <= set(place) or (count or 0) > self.count:
            raise Lacking(f"{count or self.count} candidates of {len(wanted)} prompts at {self.steps} steps")
        rows = [place[number] for number in wanted]
        return Pool(self.names, self.numbers[rows], self.scores[rows][:, : count or self.count], self.about)


def write_pool(file: Path, pool: Pool) -> None:
    """Write a pool's scores, each scorer's in 65,535 steps between its ends.

    A file that has more candidates by the same weights stays: a pool that is being made again has not got there yet.
    """
    if file.is_file():
        held = read_pool(file)
        if dict(held.about) == dict(pool.about) and _count(held) > _count(pool):
            return
    flat = pool.scores.reshape(-1, len(pool.names))
    low, high = np.nanmin(flat, 0), np.nanmax(flat, 0)
    span = np.where(high > low, high - low, 1.0)
    steps = np.where(np.isfinite(pool.scores), np.round((pool.scores - low) / span * STEPS), STEPS + 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    np.savez_compressed(
        temporary, names=np.array(pool.names), numbers=pool.numbers.astype(np.int32), low=low, span=span,
        scores=np.moveaxis(steps, 2, 0).astype(np.uint16), about=np.array(json.dumps(dict(pool.about))),
    )  # fmt: skip
    temporary.replace(file)


def _count(pool: Pool) -> int:
    return int(np.isfinite(pool.scores).any(2).sum())


def read_pool(file: Path) -> Pool:
    """The pool that :func:`write_pool` wrote."""
    with np.load(file, allow_pickle=False) as held:
        steps = np.moveaxis(held["scores"], 0, 2)
        scores = held["low"] + held["span"] * steps / STEPS
        return Pool(
            tuple(str(one) for one in held["names"]), held["numbers"].astype(np.int64),
            np.where(steps > STEPS, np.nan, scores), json.loads(str(held["about"])),
        )  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A cell of a table.

    Attributes:
        labels: what it is.
        columns: numbers by name, one a prompt (or a draw) each, as many in each.
    """

    labels: Mapping[str, str]
    columns: Mapping[str, np.ndarray]

    def of(self, name: str) -> np.ndarray:
        """A column.

        Raises:
            Lacking: where there is none of the name.
        """
        if name not in self.columns:
            raise Lacking(f"{name} of {', '.join(self.labels.values())}")
        return self.columns[name]


@dataclass(frozen=True)
class Table:
    """Cells of a comparison.

    Attributes:
        about: how they were made.
        points: in the order in which they are shown.
    """

    about: Mapping[str, Any]
    points: tuple[Point, ...]

    def at(self, **labels: str) -> Point:
        """The cell with these labels.

        Raises:
            Lacking: where there is none.
        """
        for one in self.points:
            if all(one.labels.get(key) == value for key, value in labels.items()):
                return one
        raise Lacking(f"the cell {', '.join(labels.values())}")


def write_table(file: Path, table: Table) -> None:
    """Write a table as JSON lines: what it is of, then a line a cell."""
    lines = [json.dumps({"about": dict(table.about)})]
    for one in table.points:
        columns = {name: [_short(value) for value in values] for name, values in one.columns.items()}
        lines.append(json.dumps({"labels": dict(one.labels), "columns": columns}, separators=(",", ":")))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_table(file: Path) -> Table:
    """The table that :func:`write_table` wrote."""
    first, *others = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    points = [
        Point(one["labels"], {name: _array(values) for name, values in one["columns"].items()}) for one in others
    ]
    return Table(first["about"], tuple(points))


def _short(value: float) -> float | int | None:
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number == int(number) else float(f"{number:.5g}")


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


class Held:
    """The result files of a directory. What was made by other weights than the bundled ones counts as not there.

    Args:
        root: the directory.
        any_weights: whether that is not looked at.
    """

    def __init__(self, root: Path = RESULTS, any_weights: bool = False) -> None:
        self.root = root
        self._any_weights = any_weights
        self._found: dict[str, Any] = {}

    def pool(self, name: str) -> Pool:
        """A pool.

        Raises:
            Lacking: where it is not there, or was scored by other weights.
        """
        found: Pool = self._read(f"pool-{name}.npz", read_pool)
        return found

    def table(self, name: str) -> Table:
        """A table.

        Raises:
            Lacking: where it is not there, or was made by other weights.
        """
        found: Table = self._read(f"{name}.jsonl", read_table)
        return found

    def has(self, name: str) -> bool:
        """Whether a table is there to be read."""
        with suppress(Lacking):
            self.table(name)
            return True
        return False

    def _read(self, name: str, reader: Any) -> Any:
        if name not in self._found:
            if not (self.root / name).is_file():
                raise Lacking(f"`{name}`")
            found = reader(self.root / name)
            for model, before in found.about.get("weights", {}).items():
                if not self._any_weights and weights(model) != before:
                    raise Lacking(f"`{name}` by the present weights of {model}")
            self._found[name] = found
        return self._found[name]
