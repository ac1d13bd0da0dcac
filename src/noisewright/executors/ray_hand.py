"""Ray actors as the driver knows them, what it sent them, and what it asks of the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noisewright.executors.optional import Part

if TYPE_CHECKING:
    from noisewright.executors.ray_crew import Task


@dataclass
class Hand:
    """An actor as the driver knows it.

    Attributes:
        number: its place among the others; one that takes the place of a dead one has its number.
        part: what it has of a worker.
        actor: Ray's handle.
        waits_for: the reference of what it is doing; None where it does nothing.
        began: the reference that is ready once its process is there, whatever it loads then.
        is_open: whether it has a worker.
        host: where it is, once that is known.
        task: that it does.
        holds: tokens of the objects that it was sent, by name.
    """

    number: int
    part: Part
    actor: Any
    waits_for: Any = None
    began: Any = None
    is_open: bool = False
    host: str = "a worker"
    task: Task | None = None
    holds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """An object that was given, in the cluster.

    Attributes:
        token: what it is known by.
        reference: to its pickle.
    """

    token: int
    reference: Any


@dataclass(frozen=True)
class Wanted:
    """What actors are asked of the cluster.

    Attributes:
        parts: of each.
        options: for Ray, of each: processors, GPUs.
        threads: that each computes with.
    """

    parts: tuple[Part, ...]
    options: dict[str, Any]
    threads: int | None
