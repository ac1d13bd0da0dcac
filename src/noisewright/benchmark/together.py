"""Fields of a grid that one by one are well, and together are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from noisewright import registry
from noisewright.benchmark.problems import Problems
from noisewright.benchmark.spec import Axis
from noisewright.outside.messages import first_line, short
from noisewright.request import NONE, Request
from noisewright.run.ensembles import ensemble_weights

MOST_LOOKED_AT = 20_000
"""Points of a group's axes: of more, what is wrong is said when the cells are made."""

GROUPS = (
    ("search", "search_args"), ("verifier", "judge", "ensemble", "target"), ("height", "width"),
    ("search_steps", "draft"),
)  # fmt: skip
"""Fields that say something of each other, the one first that others are looked at with."""


def check_together(
    axes: Sequence[Axis], base: Mapping[str, Any], problems: Problems, above: tuple[str, str] = ("base", "axes")
) -> None:
    """A problem for each point of the axes whose fields contradict each other.

    Args:
        axes: of a grid, each well by itself.
        base: the fields of all cells.
        problems: collects.
        above: the tables in which base and axes stand.
    """
    for group in GROUPS:
        within = [axis for axis in axes if any(name in one.changes for one in axis.values for name in group)]
        if math.prod(len(axis.values) for axis in within) > MOST_LOOKED_AT:
            continue
        said: set[str] = set()
        for fields, places in _points(group, within, base):
            text = _refused(fields)
            if not text or text in said:
                continue
            said.add(text)
            if within:
                axis, place = max(zip(within, places, strict=True), key=lambda one: axes.index(one[0]))
                problems.add(text, above[1], axis.name, place)
            else:
                problems.add(text, above[0], next(name for name in reversed(group) if name in base))


def _points(
    group: Sequence[str], axes: Sequence[Axis], base: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
    """The fields of a group at each point of axes, and the place of the point on each."""
    own = {name: value for name, value in base.items() if name in group}
    for places in product(*(range(len(axis.values)) for axis in axes)):
        changes = [axis.values[place].changes for axis, place in zip(axes, places, strict=True)]
        yield {**own, **{name: one[name] for one in changes for name in group if name in one}}, places


def _refused(fields: Mapping[str, Any]) -> str:
    """Why a request does not take fields together; "" where it does."""
    try:
        request = Request(prompt="any", **fields)
        if request.search_args:
            registry.check_arguments(request.search, request.search_args)
        _check_verifiers(request)
    except (ValueError, TypeError, ImportError, OSError) as error:
        return first_line(error)
    return ""


def _check_verifiers(request: Request) -> None:
    """Verifiers and judges by what their scores are called: each once, and none of both kinds.

    Raises:
        ValueError: in one line.
    """
    names = _scores(request.verifier)
    judges = _scores(None if request.judge == NONE else request.judge)
    if both := [one for one in names if one in judges]:
        raise ValueError(f"expected a judge that the search never sees, got {', '.join(both)} as both")
    for what, some in (("verifiers", names), ("judges", judges)):
        if len(set(some)) < len(some):
            raise ValueError(f"expected {what} with distinct names, got {', '.join(some)}")
    weighed = [*ensemble_weights(request.ensemble), *(request.target if isinstance(request.target, Mapping) else ())]
    strange = [one for one in weighed if one not in names]
    if names and strange:
        what = "a target or a weight" if isinstance(request.target, Mapping) else "a weight"
        raise ValueError(f"expected {what} of a verifier ({', '.join(names)}), got one of {short(strange[0])}")


def _scores(given: Sequence[Any] | None) -> list[str]:
    return [registry.score_name(one) for one in given or () if isinstance(one, str)]
