"""The sampler protocol: the tensor verbs that every model offers, and the meter that counts where the network runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.run.budget import PHASES

StepNoise = Callable[[int], Tensor]
"""Gives the unit noise of one step for the whole batch: index -> (batch, ...), float32, CPU."""


@dataclass
class Meter:
    """Counts of what was really run. NFE: guided evaluations times images; forwards: network passes times images.

    Attributes:
        on_step: called after each guided evaluation of a batch, with its number of images.
        on_phase: called with the name of a phase when it begins.
    """

    nfe: int = 0
    forwards: int = 0
    decodes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    on_step: Callable[[int], None] | None = field(default=None, repr=False, compare=False)
    on_phase: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    _ticks: list[float] = field(default_factory=list, repr=False)

    def count(self, images: int) -> None:
        """One guided evaluation of ``images`` images was made: ``on_step`` is called, and what it raises passes."""
        self.nfe += images
        self._ticks.append(time.perf_counter())
        self.tell(images)

    def tell(self, images: int) -> None:
        """Let who watches know of a guided evaluation that is counted already."""
        if self.on_step is not None:
            self.on_step(images)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "on_step": None, "on_phase": None}  # who watches in this process does not in another

    def forget_pace(self) -> None:
        """The last steps do not tell how long a step takes: some were of another kind."""
        self._ticks.clear()

    def steady_step(self) -> float | None:
        """Seconds of one step of the last phase of steps, its first left out; None where it had fewer than three."""
        gaps = [after - before for before, after in pairwise(self._ticks)]
        return statistics.median(gaps) if len(gaps) >= 2 else None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall-clock seconds of the block to phase ``name``."""
        if self.on_phase is not None:
            self.on_phase(name)
        began = time.perf_counter()
        if name == "denoise":
            self._ticks.clear()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def snapshot(self) -> dict[str, Any]:
        """The counts as a JSON-ready dictionary."""
        return {"nfe": self.nfe, "forwards": self.forwards, "decodes": self.decodes, "seconds": dict(self.seconds)}

    def since(self, before: dict[str, Any]) -> dict[str, Any]:
        """What was counted after ``before``, a :meth:`snapshot`."""
        now = self.snapshot()
        took = {name: now["seconds"][name] - before["seconds"][name] for name in PHASES}
        return {
            "nfe": now["nfe"] - before["nfe"],
            "forwards": now["forwards"] - before["forwards"],
            "decodes": now["decodes"] - before["decodes"],
            "seconds": {name: round(seconds, 6) for name, seconds in took.items()},
        }


@runtime_checkable
class Sampler(Protocol):
    """A model with its prompt, schedule and solver.

    All states are float32 on the CPU between calls, shaped (batch, ...) in the model's own layout; images are
    (batch, 3, height, width) float32 in [0, 1], rounded to 8 bits so that what is scored is what is saved.

    Attributes:
        schedule: the noise levels.
        meter: counts of what was run.
        description: what identifies the model, prompt and settings, JSON-ready; two runs may be continued from each
            other exactly where these are equal.
        stochastic: whether steps draw noise.
        remembers: whether a step depends on the estimates of earlier ones, so that the solver's states of particles
            that began their lives at different indices are not alike.
    """

    schedule: Schedule
    meter: Meter

    @property
    def description(self) -> dict[str, Any]: ...

    @property
    def stochastic(self) -> bool: ...

    @property
    def remembers(self) -> bool: ...

    def nfe(self, start: int, stop: int) -> int:
        """Guided evaluations that the steps from index ``start`` to ``stop`` cost one state."""
        ...

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Starting states for ``seeds``, (batch, ...): for each, exactly what the plain pipeline draws."""
        ...

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """Carry states from index ``start`` to ``stop`` > ``start``.

        Args:
            x: (batch, ...).
            start: where ``x`` is.
            stop: where to go.
            state: the solver's state that an earlier segment returned.
            noise: the noise of each step; needed where ``stochastic``.
            seeds: for each state, the diffusers seed it started from, or None.

        Returns:
            The states at ``stop`` and the solver's state there.
        """
        ...

    def predict(self, x: Tensor, index: int) -> Tensor:
        """Clean estimates of the states at ``index``, (batch, ...). One NFE each."""
        ...

    @property
    def can_advance(self) -> bool:
        """Whether :meth:`advance` works: the solver's step needs one evaluation, and only its estimate."""
        ...

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        """One step from ``index`` with clean estimates that :meth:`predict` gave there. Free."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Images of clean states, (batch, 3, height, width) in [0, 1] in steps of 1/255."""
        ...

    def with_steps(self, steps: int) -> Sampler:
        """The same model, prompt and settings with another number of steps; the meter is shared."""
        ...


@runtime_checkable
class DifferentiableSampler(Sampler, Protocol):
    """A sampler that the ``gradient`` search can climb.

    Attributes:
        differentiable: whether it can with the solver it has.
    """

    @property
    def differentiable(self) -> bool: ...

    def trace(self, x: Tensor) -> Tensor:
        """Images, not rounded, of starting states (batch, ...), with the graph that leads back to them.

        Each step is checkpointed: memory holds the states, and one step's activations at a time.

        Raises:
            NotDifferentiable: where the solver has none.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """A sampler that can tell where Ctrl-C met it.

    Attributes:
        reached: after a :meth:`Sampler.denoise` that KeyboardInterrupt ended, the index of the last step that was
            completed, the states (batch, ...) there and the solver's; None where not one step was.
    """

    reached: tuple[int, Tensor, Any] | None


def quantise(images: Tensor) -> Tensor:
    """Round to the 8 bits of a PNG: what is scored is what is saved."""
    return (images.float().clamp(0, 1) * 255).round() / 255
