"""What a solver is, and how one step of any solver is taken: state goes in and comes out.

A step may ask the network once or several times. Solvers that ask once have ``step``; those that ask more often have
``stages``, a generator that reads like the paper: it yields the samples it wants to ask at, and is sent what was found.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, Schedule, estimate

Stages = Generator[Tensor, Estimate, tuple[Tensor, Any]]
"""A step in the making: yields samples to ask the network at, is sent estimates, returns (states, solver's state)."""


@runtime_checkable
class Solver(Protocol):
    """One step rule that asks the network once a step.

    It may have besides what :class:`Remembers`, :class:`Splits` and :class:`HasEta` say.

    Attributes:
        name: what ``--solver`` takes.
        nfe_per_step: guided model evaluations that one step costs, at most.
        stochastic: whether a step draws noise.
    """

    @property
    def name(self) -> str: ...

    @property
    def nfe_per_step(self) -> int: ...

    @property
    def stochastic(self) -> bool: ...

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        """Go from ``index`` to ``index + 1``.

        Args:
            schedule: the levels.
            index: where ``x`` is, in [0, N).
            x: the states, (batch, ...), float32.
            found: the network's estimate at ``x``.
            noise: unit Gaussian noise shaped as ``x``, or None where the solver is deterministic.
            state: what the last step returned (None at the start of a particle's life). Tensors in it have a row for
                each of ``x``'s, so that a particle takes its own along.

        Returns:
            The states at ``index + 1``, and the solver's state for the next step.
        """
        ...


@runtime_checkable
class StagedSolver(Protocol):
    """A step rule that asks the network more than once in some steps; its attributes are those of :class:`Solver`."""

    @property
    def name(self) -> str: ...

    @property
    def nfe_per_step(self) -> int: ...

    @property
    def stochastic(self) -> bool: ...

    def levels_asked(self, schedule: Schedule, index: int) -> tuple[Level, ...]:
        """The levels that the step from ``index`` asks the network at, in order; the first is ``index``'s own."""
        ...

    def stages(self, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
        """Go from ``index`` to ``index + 1``: yields a sample for each level of :meth:`levels_asked`, ``x`` first."""
        ...


AnySolver = Solver | StagedSolver


@runtime_checkable
class Remembers(Protocol):
    """A solver whose steps use earlier estimates.

    Attributes:
        memory: how many; without it none, and its state is always None.
    """

    @property
    def memory(self) -> int: ...


@runtime_checkable
class Splits(Protocol):
    """A solver that may need the prediction without guidance.

    Attributes:
        splits: whether it reads :attr:`noisewright.diffusion.schedule.Estimate.plain`.
    """

    @property
    def splits(self) -> bool: ...


@runtime_checkable
class TakesBlocks(Protocol):
    """A solver whose steps come in blocks of levels.

    Attributes:
        block: how many make one step as its paper counts them; without it 1.
    """

    @property
    def block(self) -> int: ...


@runtime_checkable
class HasEta(Protocol):
    """A solver whose steps draw noise by a parameter; ``--eta`` is the keyword of its class.

    Attributes:
        eta: 0 for deterministic steps.
    """

    @property
    def eta(self) -> float: ...


def level(schedule: Schedule, index: int) -> Level:
    """The level at an index before N."""
    return Level(schedule.t[index], schedule.alpha[index], schedule.sigma[index])


def levels_asked(solver: AnySolver, schedule: Schedule, index: int) -> tuple[Level, ...]:
    """The levels that the step from ``index`` asks the network at."""
    return solver.levels_asked(schedule, index) if isinstance(solver, StagedSolver) else (level(schedule, index),)


def nfe(solver: AnySolver, schedule: Schedule, start: int, stop: int) -> int:
    """Guided evaluations that the steps from ``start`` to ``stop`` cost."""
    return sum(len(levels_asked(solver, schedule, index)) for index in range(start, stop))


def asks_once(solver: AnySolver) -> bool:
    """Whether every step needs one evaluation, and only its estimate."""
    return not isinstance(solver, StagedSolver)


def memory(solver: AnySolver) -> int:
    """How many earlier estimates a step uses."""
    return int(solver.memory) if isinstance(solver, Remembers) else 0


def splits(solver: AnySolver | None) -> bool:
    """Whether a solver needs the prediction without guidance beside the guided one."""
    return isinstance(solver, Splits) and bool(solver.splits)


def block_of(solver: object) -> int:
    """How many levels make one step as the solver's paper counts them."""
    return solver.block if isinstance(solver, TakesBlocks) else 1


def eta_of(solver: AnySolver | None) -> float | None:
    """The eta of a solver that has one."""
    return solver.eta if isinstance(solver, HasEta) else None


def stages(solver: AnySolver, schedule: Schedule, index: int, x: Tensor, noise: Tensor | None, state: Any) -> Stages:
    """One step of any solver as :data:`Stages`."""
    if isinstance(solver, StagedSolver):
        return (yield from solver.stages(schedule, index, x, noise, state))
    found = yield x
    return solver.step(schedule, index, x, found, noise, state)


def advance(
    solver: AnySolver, schedule: Schedule, x: Tensor, index: int, clean: Tensor, state: Any, noise: Any
) -> tuple[Tensor, Any]:
    """One step from a clean estimate that is known already, without asking the network.

    Args:
        solver: the rule; one evaluation a step.
        schedule: the levels.
        x: the states at ``index``, (batch, ...), float32.
        index: where they are.
        clean: the clean estimates there, shaped as ``x``.
        state: the solver's.
        noise: gives the noise of a stochastic step by its index, or None.

    Raises:
        ValueError: on a solver whose steps ask more than once.
    """
    if isinstance(solver, StagedSolver):
        raise ValueError(f"expected a solver of one evaluation a step, got {solver.name}")
    found = estimate(clean, x, schedule.alpha[index], schedule.sigma[index], "sample")
    drawn = noise(index) if solver.stochastic else None
    return solver.step(schedule, index, x, found, drawn, state)
