"""What a benchmark is asked for, as a value: the grid, its prompts and seeds, and what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPEC_VERSION = 1
"""Of spec files and of a benchmark's ``benchmark.json``."""


@dataclass(frozen=True)
class Value:
    """One point of an axis.

    Attributes:
        label: what it is called in tables and plots.
        changes: fields of :class:`~noisewright.request.Request` by name, of which it sets at least one.
    """

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """What is varied: a field of the request, or several together under a name of their own.

    Attributes:
        name: the field's name, or what the axis is called.
        values: in order; at least one, and no label twice.
    """

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class SetPrompt:
    """One prompt of a set.

    Attributes:
        text: the prompt.
        number: its place in the set, from 1, before anything was left out: its seeds go by it.
        category: what the set files it under, or None.
    """

    text: str
    number: int
    category: str | None = None


@dataclass(frozen=True)
class Spec:
    """A benchmark.

    Attributes:
        name: a short one, as directories have.
        title: one line.
        base: fields of the request that all cells share, by name (never ``prompt`` and ``seed``).
        axes: what is varied; the grid is their product.
        prompts: in order.
        prompt_set: what they were read from, for the report: a file's name without its directory, or a bundled set's.
        seeds: how many starting seeds each prompt has.
        seed: the first seed of the first prompt.
        seed_step: seeds between those of two neighbouring prompts: prompt k has ``seed + seed_step * (k - 1)`` and on,
            so that prompts do not share one draw of luck; 0 gives all prompts the same seeds.
        reference: label by axis: what every other point is compared with along these axes; empty: only with the plain
            image of the same prompt and seed.
        across: the axis whose values are the points of a curve (as a rule ``budget`` or ``num_inference_steps``), or
            None; the report draws its plots against NFE and seconds along it.
        notes: paragraphs for the report: what the source of the comparison says, with its figures.
    """

    name: str
    title: str
    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    prompts: tuple[SetPrompt, ...]
    prompt_set: str = ""
    seeds: int = 1
    seed: int = 0
    seed_step: int = 1000
    reference: Mapping[str, str] = field(default_factory=dict)
    across: str | None = None
    notes: tuple[str, ...] = ()
