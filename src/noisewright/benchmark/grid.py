"""A grid without a spec file: up to three fields that are varied, as people type them in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.benchmark.axes import axis_of, check_axes, check_fields, typed_axis
from noisewright.benchmark.problems import Problems
from noisewright.benchmark.spec import Axis, SetPrompt, Spec

ACROSS = ("budget", "num_inference_steps")
"""Fields along which curves are drawn, the first that is varied."""


def grid_spec(
    axes: Sequence[str] | Mapping[str, Sequence[Any]], base: Mapping[str, Any], prompts: Sequence[SetPrompt],
    prompt_set: str = "", *, seeds: int = 1, seed: int = 0,
) -> Spec:  # fmt: skip
    """The benchmark of a grid.

    Args:
        axes: as typed (``steps=10,25``, see :func:`~noisewright.benchmark.axes.typed_axis`), or values by field.
        base: fields that all requests share.
        prompts: in order.
        prompt_set: what they were read from.
        seeds: of each prompt.
        seed: the first.

    Raises:
        ValueError, TypeError: with a line for each thing that is wrong.
    """
    problems = Problems()
    fields = check_fields(base, problems)
    if isinstance(axes, Mapping):
        tried = [axis_of(name, list(values), fields, problems) for name, values in axes.items()]
        found = [one for one in tried if one is not None]
    else:
        found = [_typed(text, problems) for text in axes]
    check_axes(found, problems)
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        problems.add(f"expected {twice} on one axis, got it on two")
    problems.raise_any()
    shared = {name: value for name, value in fields.items() if not _sets(found, name)}
    return Spec(
        "grid", " by ".join(names) or "grid", shared, tuple(found), tuple(prompts), prompt_set, seeds=seeds, seed=seed,
        across=next((name for name in ACROSS if name in names), None),
    )  # fmt: skip


def _typed(text: str, problems: Problems) -> Axis:
    try:
        return typed_axis(text)
    except (ValueError, TypeError) as error:
        problems.add(str(error))
        return Axis("", ())


def _sets(axes: Sequence[Axis], field: str) -> bool:
    """Whether every value of an axis sets a field, so that what all share of it says nothing."""
    return any(axis.values and all(field in one.changes for one in axis.values) for axis in axes)
