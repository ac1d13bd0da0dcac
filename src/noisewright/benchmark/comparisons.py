"""What may be said of a benchmark's rows: means, paired differences and what stands, point by point.

All points are compared on the same prompts and seeds: those that every point is done with. Intervals are percentile
bootstrap intervals over prompts; p is that of a sign-flip permutation test over prompts, adjusted by Holm's correction
over all points of a score; see :mod:`noisewright.measures.paired`. A pair in which one side has no number is left out
and counted. Of categories, curves and marks of over-optimisation there are intervals and no tests.

The smallest p of random flips is 1 in 10,001, so of more than 500 points of a score none can stand after Holm's
correction; a grid that large is for looking, and another for testing what was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from noisewright.benchmark.compared import COSTS, LEVEL, Compared, Difference, Failure, InCategory, Measured, Point
from noisewright.benchmark.curves import curves_of, over_optimised
from noisewright.benchmark.gathered import Columns, Gathered, Key, columns_of, gathered, minus, only
from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.wall import wall_of
from noisewright.measures.paired import holm
from noisewright.outside.messages import short, unknown


class HasRows(Protocol):
    """What is compared: see ``noisewright.benchmark.store.Results``."""

    @property
    def spec(self) -> Spec: ...

    @property
    def rows(self) -> Sequence[CellRow]: ...


def compared(results: HasRows) -> Compared:
    """What may be said of the rows that are there; seconds for ten thousand cells."""
    spec, rows = results.spec, results.rows
    found = gathered(spec, rows)
    there = found.places >= 0
    alive = np.any(there, axis=0)
    common = np.all(there[:, alive], axis=1)
    kept = only(found, common)
    varied = tuple(axis.name for axis in spec.axes if len(axis.values) > 1)
    references = _references(spec, found.labels, alive)
    points = _points(kept, rows, there, references, varied, _categories(spec))
    curves = curves_of(spec, found.labels, varied)
    scores = tuple(found.best)
    judges = tuple(name for name in scores if "judge" in found.roles[name].values())
    deciding = _deciding(found, alive)
    prompts = {one.number for one in spec.prompts}
    cells = len(prompts) * spec.seeds * len(points)
    return Compared(
        name=spec.name, title=spec.title,
        axes={axis.name: tuple(one.label for one in axis.values) for axis in spec.axes}, varied=varied,
        points=points, scores=scores, judges=judges, deciding=deciding, categories=_categories(spec),
        over="seeds" if len(set(kept.numbers.tolist())) == 1 else "prompts", cells=cells, done=int(there.sum()),
        failed=int(found.failed.sum()), waiting=max(0, cells - int(there.sum()) - int(found.failed.sum())),
        ignored=found.ignored, prompts=len(set(kept.numbers.tolist())),
        prompts_left_out=len(prompts - set(kept.numbers.tolist())), pairs=int(common.sum()),
        pairs_left_out=int((~common).sum()), curves=curves, across=spec.across,
        over_optimised=over_optimised(kept, points, curves), wall=wall_of(kept, rows, points, deciding),
        failures=_failures(rows, found),
    )  # fmt: skip


def differences(
    results: HasRows, pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]], score: str
) -> tuple[Difference, ...]:
    """The first point of each pair minus the second by one score, on the prompts and seeds that all of them have.

    Args:
        results: of a benchmark.
        pairs: two points each, by their labels of all axes that vary.
        score: the name of a score or cost. p are adjusted over these pairs.

    Raises:
        ValueError: on labels of no point or of several, or another score.
    """
    found = gathered(results.spec, results.rows)
    named = [(_place(found, first), _place(found, second)) for first, second in pairs]
    all_of = sorted({place for pair in named for place in pair})
    kept = only(found, np.all(found.places[:, all_of] >= 0, axis=1))
    values = kept.best.get(score, kept.costs.get(score))
    if values is None:
        raise ValueError(unknown("score", score, [*kept.best, *COSTS]))
    block = np.stack([minus(values[:, one], values[:, two]) for one, two in named], 1) if named else values[:, :0]
    columns = columns_of({"": block}, kept, {""})[""]
    return _differences(columns, len(kept.numbers))


def _place(found: Gathered, labels: Mapping[str, str]) -> int:
    places = [k for k, one in enumerate(found.labels) if all(one.get(name) == label for name, label in labels.items())]
    if len(places) != 1:
        raise ValueError(f"expected labels of one point, got {short(dict(labels))}, which {len(places)} points have")
    return places[0]


def _categories(spec: Spec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.category for one in spec.prompts if one.category is not None))


def _references(spec: Spec, labels: Sequence[Mapping[str, str]], alive: np.ndarray) -> list[int | None]:
    """For each point the number of the one that it is compared with."""
    number_of = {tuple(one.values()): number for number, one in enumerate(labels)}
    found: list[int | None] = []
    for number, one in enumerate(labels):
        other = number_of.get(tuple({**one, **spec.reference}.values())) if spec.reference else None
        found.append(other if other is not None and other != number and alive[other] and alive[number] else None)
    return found


def _points(
    kept: Gathered,
    rows: Sequence[CellRow],
    there: np.ndarray,
    references: Sequence[int | None],
    varied: Sequence[str],
    categories: Sequence[str],
) -> tuple[Point, ...]:
    numbers = [(k, other) for k, other in enumerate(references) if other is not None]
    first, second = ([pair[side] for pair in numbers] for side in range(2))
    blocks: dict[Key, np.ndarray] = {}
    for name, values in kept.best.items():
        blocks["score", name, "best"], blocks["score", name, "baseline"] = values, kept.baseline[name]
        blocks["score", name, "gain"] = minus(values, kept.baseline[name])
        blocks["score", name, "against"] = minus(values[:, first], values[:, second])
    for name, values in kept.costs.items():
        blocks["cost", name, "best"] = values
        blocks["cost", name, "against"] = minus(values[:, first], values[:, second])
    tested = {key for key in blocks if key[-1] in ("gain", "against")}
    columns = columns_of(blocks, kept, tested)
    tables = {key: _differences(columns[key], len(kept.numbers)) for key in tested}
    of_pair = {k: place for place, (k, _) in enumerate(numbers)}
    in_categories = _by_category(kept, rows, categories)
    points = []
    for number, labels in enumerate(kept.labels):
        mine = [rows[k] for k in kept.places[:, number].tolist() if k >= 0]
        roles = {("score", name): of[number] for name, of in kept.roles.items() if number in of}
        roles |= {("cost", name): "cost" for name in kept.costs if there[:, number].any()}
        measured = {
            one: _measured(columns, tables, one, number, of_pair.get(number), role, len(mine))
            for one, role in roles.items()
        }
        points.append(
            Point(
                number, labels, ", ".join(labels[name] for name in varied) or ", ".join(labels.values()) or "all",
                done=int(there[:, number].sum()), failed=int(kept.failed[number]),
                shared=sum(bool(row.get("shared")) for row in mine), compared=len(mine),
                scores={name: one for (kind, name), one in measured.items() if kind == "score"},
                costs={name: one for (kind, name), one in measured.items() if kind == "cost"},
                phases={name: _mean(array[:, number]) for name, array in kept.phases.items()},
                categories={name: of[number] for name, of in in_categories.items() if of[number]},
                reference=references[number], stopped=dict(Counter(row.get("stopped", "") for row in mine)),
            )
        )  # fmt: skip
    return tuple(points)


def _measured(
    columns: Mapping[Key, Columns],
    tables: Mapping[Key, Sequence[Difference]],
    one: tuple[str, str],
    number: int,
    of_pair: int | None,
    role: str,
    cells: int,
) -> Measured:
    """One score or cost at a point of so many cells; ``of_pair`` is the place of its comparison with the reference."""
    best = columns[(*one, "best")]
    against = None if of_pair is None else tables[(*one, "against")][of_pair]
    return Measured(
        role, n=int(best.n[number]), prompts=int(best.prompts[number]), missing=cells - int(best.n[number]),
        best=best.interval(number),
        baseline=None if role == "cost" else columns[(*one, "baseline")].interval(number),
        gain=None if role == "cost" else tables[(*one, "gain")][number],
        against=against if against is not None and against.n else None,
    )  # fmt: skip


def _differences(columns: Columns, pairs: int) -> tuple[Difference, ...]:
    """Of the columns of one score, with p adjusted over those that have one."""
    adjusted, tests = holm(columns.p), int((~np.isnan(columns.p)).sum())
    return tuple(
        Difference(
            float(columns.mean[k]), float(columns.low[k]), float(columns.high[k]), n=int(columns.n[k]),
            prompts=int(columns.prompts[k]), missing=pairs - int(columns.n[k]), higher=float(columns.higher[k]),
            p=float(columns.p[k]), adjusted=float(adjusted[k]), tests=tests, stands=bool(adjusted[k] < LEVEL),
        )
        for k in range(len(columns.mean))
    )  # fmt: skip


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _by_category(
    kept: Gathered, rows: Sequence[CellRow], categories: Sequence[str]
) -> dict[str, list[dict[str, InCategory]]]:
    """By category and point, then by score; empty where the point has no cell of it."""
    if not len(kept.places) or not categories:
        return {}
    of_pair = np.array([rows[int(places.max())]["category"] for places in kept.places], dtype=object)
    found = {}
    for category in categories:
        some = only(kept, of_pair == category)
        blocks: dict[Any, np.ndarray] = {}
        for name, values in some.best.items():
            blocks[name, "best"], blocks[name, "baseline"] = values, some.baseline[name]
            blocks[name, "gain"] = minus(values, some.baseline[name])
        columns = columns_of(blocks, some)
        found[category] = [
            {
                name: InCategory(
                    int(columns[name, "best"].n[k]), int(columns[name, "best"].prompts[k]),
                    *(columns[name, which].interval(k) for which in ("best", "baseline", "gain")),
                )
                for name in some.best
                if columns[name, "best"].n[k]
            }
            for k in range(len(kept.labels))
        ]  # fmt: skip
    return found


def _deciding(found: Gathered, alive: np.ndarray) -> str | None:
    """The first judge that all points have, else the first judge, else the first verifier."""
    everywhere = set(np.flatnonzero(alive).tolist())
    for roles in ({"judge"}, {"verifier"}, {"other"}):
        names = [name for name, of in found.roles.items() if roles & set(of.values())]
        of_all = [name for name in names if everywhere <= {k for k, role in found.roles[name].items() if role in roles}]
        if names:
            return (of_all or names)[0]
    return None


def _failures(rows: Sequence[CellRow], found: Gathered) -> tuple[Failure, ...]:
    """Failed cells by what they say, the most frequent first."""
    number_of = {tuple(labels.values()): number for number, labels in enumerate(found.labels)}
    names = list(found.labels[0]) if found.labels else []
    alike: dict[str, list[CellRow]] = {}
    for row in rows:
        if row["status"] != "done":
            alike.setdefault(row.get("error") or "no reason is known", []).append(row)
    ordered = sorted(alike.items(), key=lambda one: -len(one[1]))
    places = {
        error: {number_of.get(tuple(row["coordinates"].get(name, "") for name in names)) for row in of}
        for error, of in ordered
    }
    return tuple(
        Failure(error, len(of), tuple(sorted(k for k in places[error] if k is not None)), of[0]["prompt"])
        for error, of in ordered
    )
