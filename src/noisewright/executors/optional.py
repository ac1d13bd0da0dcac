"""What an executor may have besides: who waits for any of several jobs, has sizes of its own, or workers elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

from noisewright.executors.protocol import Executor, Handle, Worker

Part = Literal["all", "model", "verifiers"]
"""What a worker has: it makes images and scores them, or does one of the two."""

OBJECTS = "objects"
"""By this key a process keeps what it made of the pickles that it holds, for as long as it holds them."""


@runtime_checkable
class WaitsForAny(Protocol):
    """An executor that waits for whichever of several jobs comes first."""

    def wait(self, handles: Sequence[Handle]) -> None:
        """Until one of these, of which none is done, may be."""
        ...


@runtime_checkable
class SizesWorkers(Protocol):
    """An executor whose workers each have a largest micro-batch, since one has more memory than another."""

    def most_next(self) -> int | None:
        """How many particles the worker that comes next can make together; None where all are alike after all."""
        ...

    def largest(self) -> int | None:
        """The most that any worker can make together; None where they are alike."""
        ...


@runtime_checkable
class ScoresApart(Protocol):
    """An executor with workers that only score.

    Attributes:
        scorers: how many; 0 where those that make images score them too.
    """

    scorers: int


@runtime_checkable
class AsksServers(Protocol):
    """An executor that asks verifiers which wait for servers apart from the others, whatever else is going on.

    Attributes:
        asks_servers: whether it does.
    """

    asks_servers: bool


class Blueprint(Protocol):
    """What a worker elsewhere is built from: a value that can be pickled.

    Attributes:
        given: what a person gave as objects, by name. It is not part of the value, and is sent once for many.
        served: the verifiers and judges that wait for servers: those are asked by the driver, which has the keys.
    """

    @property
    def given(self) -> Mapping[str, Any]: ...

    @property
    def served(self) -> frozenset[str]: ...

    def build(self, part: Part, given: Mapping[str, bytes], kept: dict[Any, Any]) -> Worker:
        """The worker, in whatever process this is.

        Args:
            part: what it needs.
            given: pickles of what was given.
            kept: of that process: what was loaded for other blueprints, to be used again and added to.

        Raises:
            ValueError: in one line, where it cannot be built here, or would be another than the driver's.
        """
        ...


@runtime_checkable
class BuildsElsewhere(Protocol):
    """An executor whose workers are built on other machines."""

    def build_from(self, blueprint: Blueprint) -> None:
        """Be given, before ``start``, what workers are built from."""
        ...


@runtime_checkable
class DealsRuns(Protocol):
    """An executor that can be many, so that whole runs are dealt to workers (:mod:`noisewright.executors.dealt`)."""

    def apart(self, on_gpu: bool) -> AbstractContextManager[Sequence[Executor]]:
        """Executors for runs side by side, each with workers of its own, which keep what they have loaded.

        Args:
            on_gpu: whether the models of these runs are on a GPU.

        Raises:
            ValueError: in one line, where there are not workers enough.
        """
        ...


@runtime_checkable
class IsElsewhere(Protocol):
    """An executor whose workers are at some address."""

    def reach(self) -> None:
        """See that somebody is there, before a model is loaded for them.

        Raises:
            ValueError: in one line, where nobody is.
        """
        ...


def reach(executor: object) -> None:
    """Refuse an executor whose workers cannot be reached.

    Raises:
        ValueError: in one line.
    """
    if isinstance(executor, IsElsewhere):
        executor.reach()


def most_next(executor: Executor) -> int | None:
    """How many particles the next job may make; None where all workers are alike."""
    return executor.most_next() if isinstance(executor, SizesWorkers) else None


def largest_of(executor: Executor) -> int | None:
    """How many particles any worker can make together; None where they are alike."""
    return executor.largest() if isinstance(executor, SizesWorkers) else None


def scorers_of(executor: Executor) -> int:
    """How many workers do nothing but score."""
    return executor.scorers if isinstance(executor, ScoresApart) else 0


def asks_servers(executor: Executor) -> bool:
    """Whether verifiers that wait for servers have to have jobs of their own."""
    return isinstance(executor, AsksServers) and executor.asks_servers
