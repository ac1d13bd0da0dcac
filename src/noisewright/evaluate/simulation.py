"""A search run on a sampler that only counts: what it will cost, and what it comes to do, before anything is spent.

The search's own function runs on a real :class:`~noisewright.run.verbs.Run`, whose budget, reserve and look-ups decide
as they will; only the network, the decoder and the verifiers are left out. So it holds for plug-ins too, and cannot
drift from what a run does. Where a search's cost depends on scores, several kinds of made-up ones tell between what.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisewright.errors import BudgetExhausted
from noisewright.run.budget import Budget, Spent
from noisewright.run.drafts import both_ways, too_small
from noisewright.run.memory import MemoryStore
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.samplers.protocol import DifferentiableSampler, Meter, Sampler, StepNoise, quantise
from noisewright.verifiers.protocol import Verifier, WantsPreviews

if TYPE_CHECKING:
    from noisewright.planning import Plan

SIDE = 2
"""Pixels of a side of a simulated image."""

LARGEST_NOISE = 1024
"""Numbers of a simulated noise: more than the dimensions that any search asks for."""

SCORES = ("steady", "unrelated", "rising", "falling")
"""Made-up scores: previews and finished images alike; nothing to do with each other; each better; each worse."""

Move = tuple[str, bool]
"""What was finished: the verb that drew it last, and whether the search had compared finished images before."""


@dataclass(frozen=True)
class Simulated:
    """What a search came to do.

    Attributes:
        spent: images and NFE, those of the end (baseline, kept particles, final rendering) included.
        decodes: images decoded, previews included.
        finished: whether the search came to its own end.
        whole: False where time was up before; then the rest is what was reached.
        moves: what was finished, in order of first appearance.
        kept: what was finished besides because the budget ended there.
    """

    spent: Spent
    decodes: int
    finished: bool
    whole: bool = True
    moves: tuple[Move, ...] = ()
    kept: tuple[Move, ...] = ()


class _TimeIsUp(Exception):
    """A simulation took too long."""


def simulate(plan: Plan, budget: Budget, scores: str = "steady", seconds: float = 5.0) -> Simulated | None:
    """Run a plan's search without its model.

    Args:
        plan: what would be done.
        budget: in images or NFE; a limit in seconds has no meaning here, for nothing takes time.
        scores: one of :data:`SCORES`.
        seconds: of this thread's work, after which it is given up: the answer of a busy machine is no other.

    Returns:
        None where the search raised something: it will say so itself when it runs.
    """
    meter = Meter()
    until = time.thread_time() + seconds
    sampler = CountingSampler(plan.sampler, meter, until)
    final = sampler if plan.final is plan.sampler else CountingSampler(plan.final, meter, until)
    store = MemoryStore({"spec": {"sampler": sampler.description}, "versions": {"noisewright": "simulated"}})
    run = Run(
        store, sampler, [_stand_in(one, scores) for one in plan.verifiers], seed=plan.spec["seed"],
        budget=Budget(budget.images, budget.nfe), ensemble=plan.spec["ensemble"], final=final,
        batch_size=plan.batch_size, winners=plan.winners, finalists=plan.finalists, draft=plan.spec.get("draft"),
    )  # fmt: skip
    try:
        return _searched(plan, run, meter)
    finally:
        run.close()


def _searched(plan: Plan, run: Run, meter: Meter) -> Simulated | None:
    watched = _Watched(run)
    finished = whole = True
    try:
        try:
            if plan.draft is not None and plan.draft.pilot:  # what it will say is not known: drafts are used
                if too_small(run, plan.draft.pilot):
                    run.search_in_full()
                else:
                    both_ways(run, plan.draft.pilot)
            plan.search(watched, **plan.search_args)
        except BudgetExhausted:
            finished = False
        run.render()
    except _TimeIsUp:
        finished = whole = False
    except Exception:  # of the search's own: it says so when it runs
        return None
    moves = tuple(watched.moves)
    if whole and not finished:  # what was kept is what the search came to
        watched.note(but=run.baseline)
    kept = tuple(watched.moves)[len(moves) :]
    return Simulated(Spent(run.spent.images, run.spent.nfe), meter.decodes, finished, whole, moves, kept)


class CountingSampler:
    """A :class:`noisewright.samplers.protocol.Sampler` that counts what another would cost, and leaves states alone.

    Args:
        sampler: the other.
        meter: what counts.
        until: the time (of ``time.thread_time``) at which it refuses to go on.
    """

    def __init__(self, sampler: Sampler, meter: Meter, until: float) -> None:
        self._sampler = sampler
        self._until = until
        self._numel = min(sampler.noise([0]).numel(), LARGEST_NOISE)
        self.meter = meter
        self.schedule = sampler.schedule
        self.nfe: Callable[[int, int], int] = cache(sampler.nfe)
        self.stochastic = sampler.stochastic
        self.remembers = sampler.remembers
        self.can_advance = sampler.can_advance
        self.differentiable = isinstance(sampler, DifferentiableSampler) and sampler.differentiable
        plain = (str, int, float, type(None))
        about = {key: value for key, value in dict(sampler.description).items() if isinstance(value, plain)}
        self.description: dict[str, Any] = {**about, "model": "simulated"}

    def with_steps(self, steps: int) -> CountingSampler:
        return CountingSampler(self._sampler.with_steps(steps), self.meter, self._until)

    def noise(self, seeds: Sequence[int]) -> Tensor:
        rows = [torch.randn(1, self._numel, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
        return torch.cat(rows) * self.schedule.start

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        self._count(len(x) * self.nfe(start, stop))
        return x, None

    def predict(self, x: Tensor, index: int) -> Tensor:
        self._count(len(x))
        return x

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        return x, None

    def decode(self, x: Tensor) -> Tensor:
        self.meter.decodes += len(x)
        return quantise(self._images(x))

    def trace(self, x: Tensor) -> Tensor:
        self._count(len(x) * self.nfe(0, self.schedule.steps))
        return self._images(x)

    def _images(self, x: Tensor) -> Tensor:
        pixels = 3 * SIDE * SIDE
        return x.flatten(1).repeat(1, -(-pixels // self._numel))[:, :pixels].sigmoid().view(-1, 3, SIDE, SIDE)

    def _count(self, nfe: int) -> None:
        if time.thread_time() > self._until:
            raise _TimeIsUp
        self.meter.nfe += nfe


class _StandIn:
    """A verifier's name with made-up scores."""

    fingerprint = "simulated"

    def __init__(self, name: str, scores: str) -> None:
        self.name = name
        self._scores = scores
        self._asked = 0

    def __call__(self, images: Tensor, prompt: str, previews: Tensor | None = None) -> list[float]:
        return [self._score(image) for image in images]

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        return images.mean(dim=(1, 2, 3))

    def _score(self, image: Tensor) -> float:
        self._asked += 1
        if self._scores == "steady":
            return float(image.mean())
        if self._scores == "unrelated":
            return int.from_bytes(hashlib.sha256(f"{self.name}{self._asked}".encode()).digest()[:4]) / 2**32
        return float(self._asked if self._scores == "rising" else -self._asked)


class _StandInOfPreviews(_StandIn):
    """Of a verifier that wants to see what a candidate looked like on its way."""

    def __init__(self, name: str, scores: str, preview_sigma: float) -> None:
        super().__init__(name, scores)
        self.preview_sigma = preview_sigma


def _stand_in(verifier: Verifier, scores: str) -> _StandIn:
    if isinstance(verifier, WantsPreviews):
        return _StandInOfPreviews(verifier.name, scores, verifier.preview_sigma)
    return _StandIn(verifier.name, scores)


class _Watched:
    """A run as a search sees it, which notes what was finished, and whether finished images were compared before."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._compared = False
        self._noted = 0
        self.moves: dict[Move, None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def finish(self, particles: Sequence[Particle]) -> list[Candidate]:
        try:
            return self._run.finish(particles)
        finally:
            self.note()

    def value(self, scored: Sequence[Any]) -> list[float]:
        self._compare(scored)
        return self._run.value(scored)

    def top(self, scored: Sequence[Any], count: int = 1) -> list[Any]:
        self._compare(scored)
        return self._run.top(scored, count)

    def note(self, but: Candidate | None = None) -> None:
        """Note what was finished since the last time, ``but`` what is made in any case."""
        found = list(self._run.candidates.values())[self._noted :]
        self._noted += len(found)
        for one in found:
            if one is not but:
                self.moves.setdefault((one.particle.origin.verb, self._compared))

    def _compare(self, scored: Sequence[Any]) -> None:
        self._compared = self._compared or any(isinstance(one, Candidate) for one in scored)
