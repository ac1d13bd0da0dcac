"""The numbers of a benchmark's rows as arrays: a row a prompt and seed, a column a point of the grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from noisewright.benchmark.compared import COSTS, PHASES, Interval
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.spec import Spec
from noisewright.measures.bootstrap import by_group, intervals
from noisewright.measures.paired import means, sign_flip

Key = tuple[str, ...]
"""Of a block of columns: what it is of."""


@dataclass(frozen=True)
class Gathered:
    """Cells by pair (a prompt and one of its seeds) and point; what is not there is NaN.

    Attributes:
        labels: of each point, by axis.
        numbers: (pairs,) the prompt's place in its set.
        repeats: (pairs,) which of its seeds.
        places: (pairs, points) which of the rows a cell is, -1 where it is not done.
        best: by score, (pairs, points) of the best candidate.
        baseline: by score, (pairs, points) of the plain image.
        costs: ``nfe, seconds, images, diversity``, (pairs, points).
        phases: seconds by phase and ``total``, (pairs, points).
        roles: by score, then by the number of a point: ``verifier``, ``judge`` or ``other``.
        failed: (points,) cells that failed.
        ignored: rows of no point of the grid.
    """

    labels: tuple[Mapping[str, str], ...]
    numbers: np.ndarray
    repeats: np.ndarray
    places: np.ndarray
    best: Mapping[str, np.ndarray]
    baseline: Mapping[str, np.ndarray]
    costs: Mapping[str, np.ndarray]
    phases: Mapping[str, np.ndarray]
    roles: Mapping[str, Mapping[int, str]]
    failed: np.ndarray
    ignored: int

    @property
    def groups(self) -> np.ndarray:
        """(pairs,): what intervals and tests are drawn over: prompts, or the seeds of the only one."""
        return self.repeats if len(set(self.numbers.tolist())) == 1 else self.numbers


@dataclass(frozen=True)
class Columns:
    """Statistics of (pairs, columns): an array (columns,) each.

    Attributes:
        mean: of the finite numbers.
        low: lower end of the 95 % interval; NaN of fewer than two groups.
        high: upper end.
        n: finite numbers.
        prompts: that they are of.
        higher: share above 0, zeros counted half.
        p: of the sign-flip test; NaN where it was not asked for, or where there are fewer than two groups.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    prompts: np.ndarray
    higher: np.ndarray
    p: np.ndarray

    def interval(self, k: int) -> Interval:
        """Of one column."""
        return Interval(float(self.mean[k]), float(self.low[k]), float(self.high[k]))


def points_of(spec: Spec) -> tuple[Mapping[str, str], ...]:
    """The labels of each point by axis, in the order of the grid."""
    names = [axis.name for axis in spec.axes]
    return tuple(
        dict(zip(names, labels, strict=True))
        for labels in product(*([value.label for value in axis.values] for axis in spec.axes))
    )


def gathered(spec: Spec, rows: Sequence[CellRow]) -> Gathered:
    """The rows' numbers as arrays."""
    points, names = points_of(spec), [axis.name for axis in spec.axes]
    number_of = {tuple(labels.values()): number for number, labels in enumerate(points)}
    point_of = np.array([number_of.get(tuple(row["coordinates"].get(name, "") for name in names), -1) for row in rows])
    point_of = point_of.astype(np.int64)
    done = [k for k, row in enumerate(rows) if row["status"] == "done" and point_of[k] >= 0]
    pairs = sorted({(rows[k]["number"], rows[k]["repeat"]) for k in done})
    pair_of = {pair: place for place, pair in enumerate(pairs)}
    places = np.full((len(pairs), len(points)), -1, dtype=np.int64)
    for k in done:
        places[pair_of[rows[k]["number"], rows[k]["repeat"]], point_of[k]] = k
    there = places[places >= 0].tolist()  # a later row of a cell wins
    numbers, repeats = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    failed = Counter(int(point_of[k]) for k, row in enumerate(rows) if row["status"] != "done")
    names_of_scores = _scores(rows, there)

    def array(values: Mapping[int, Any]) -> np.ndarray:
        flat = np.full(len(rows) + 1, np.nan)  # the last is that of places that are -1
        flat[list(values)] = np.array(list(values.values()), dtype=np.float64)
        return flat[places]

    return Gathered(
        points, numbers, repeats, places,
        {name: array({k: rows[k]["best"]["scores"].get(name) for k in there}) for name in names_of_scores},
        {name: array({k: rows[k]["baseline"]["scores"].get(name) for k in there}) for name in names_of_scores},
        {name: array({k: _cost(rows[k], name) for k in there}) for name in COSTS},
        {name: array({k: _phase(rows[k], name) for k in there}) for name in (*PHASES, "total")},
        _roles(rows, places, names_of_scores), np.array([failed[k] for k in range(len(points))], dtype=np.int64),
        int((point_of < 0).sum()),
    )  # fmt: skip


def _scores(rows: Sequence[CellRow], there: Sequence[int]) -> list[str]:
    """Names of scores: verifiers first, then judges, then others, each in order of appearance."""
    verifiers = {name: None for k in there for name in rows[k]["verifiers"]}
    judges = {name: None for k in there for name in rows[k]["judges"]}
    others = {name: None for k in there for name in (*rows[k]["best"]["scores"], *rows[k]["baseline"]["scores"])}
    return list(verifiers | judges | others)


def _roles(rows: Sequence[CellRow], places: np.ndarray, scores: Sequence[str]) -> dict[str, dict[int, str]]:
    """Roles by score and point; where the rows of a point disagree, what a verifier saw is a verifier's."""
    found: dict[str, dict[int, str]] = {name: {} for name in scores}
    for point in range(places.shape[1]):
        for k in places[:, point][places[:, point] >= 0].tolist():
            row = rows[k]
            for name in (*row["best"]["scores"], *row["baseline"]["scores"], *row["verifiers"], *row["judges"]):
                role = "verifier" if name in row["verifiers"] else "judge" if name in row["judges"] else "other"
                if found[name].get(point) != "verifier":
                    found[name][point] = role
    return found


def _cost(row: CellRow, name: str) -> float | None:
    return row.get("seconds", {}).get("total") if name == "seconds" else row.get(name)  # type: ignore[return-value]


def _phase(row: CellRow, name: str) -> float | None:
    seconds = row.get("seconds", {})
    if name != "other":
        return seconds.get(name)
    named = sum(seconds.get(one, 0.0) for one in PHASES)
    return max(0.0, seconds["total"] - named) if "total" in seconds else None


def only(found: Gathered, pairs: np.ndarray) -> Gathered:
    """The same of some of the pairs."""

    def some(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[pairs] for name, array in arrays.items()}

    return replace(
        found, numbers=found.numbers[pairs], repeats=found.repeats[pairs], places=found.places[pairs],
        best=some(found.best), baseline=some(found.baseline), costs=some(found.costs), phases=some(found.phases),
    )  # fmt: skip


def minus(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Their difference; infinite on both sides it is NaN."""
    with np.errstate(invalid="ignore"):
        return values - other


def columns_of(blocks: Mapping[Any, np.ndarray], kept: Gathered, tested: Container[Any] = ()) -> dict[Any, Columns]:
    """The statistics of many blocks of columns at once; columns that stand there twice are computed once.

    Args:
        blocks: (pairs, columns) by any key, columns as many as there are.
        kept: what the pairs are.
        tested: keys of the blocks whose p is wanted.
    """
    numbers, groups = kept.numbers, kept.groups
    places: dict[tuple[bytes, bool], int] = {}
    distinct: list[np.ndarray] = []
    where = {key: np.empty(block.shape[1], dtype=np.int64) for key, block in blocks.items()}
    for key, block in blocks.items():
        for column, values in enumerate(block.T):
            known = (values.tobytes(), key in tested)
            if known not in places:
                places[known] = len(distinct)
                distinct.append(values)
            where[key][column] = places[known]
    if not distinct:
        return {key: Columns(*[np.empty(0)] * 7) for key in blocks}
    stacked = np.stack(distinct, axis=1)
    wanted = np.array([is_tested for _, is_tested in places])
    n = np.isfinite(stacked).sum(0)
    of_prompts, of_groups = ((by_group(stacked, labels)[1] > 0).sum(0) for labels in (numbers, groups))
    low, high, p = (np.full(len(distinct), np.nan) for _ in range(3))
    enough = np.flatnonzero(of_groups >= 2)
    low[enough], high[enough] = intervals(stacked[:, enough], groups=groups)
    enough = np.flatnonzero((of_groups >= 2) & wanted)
    p[enough] = sign_flip(stacked[:, enough], groups=groups)
    signs = np.where(np.isfinite(stacked), (np.sign(stacked) + 1) / 2, np.nan)
    every = (means(stacked), low, high, n, of_prompts, means(signs), p)
    return {key: Columns(*(one[at] for one in every)) for key, at in where.items()}
