"""A search called up to its first verb, so that what it says of its arguments is said before anything is spent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noisewright.run.budget import Budget
from noisewright.run.gradients import without_gradient
from noisewright.samplers.protocol import Sampler
from noisewright.verifiers.protocol import Verifier


class _Rehearsed(Exception):
    """A search came to its first verb."""


class _Rehearsal:
    """What a search sees of a run before its first verb, which ends the rehearsal."""

    def __init__(
        self, sampler: Sampler, verifiers: Sequence[Verifier], seed: int, budget: Budget, final: Sampler,
        draft: str | None,
    ) -> None:  # fmt: skip
        self.without_gradient = without_gradient(sampler, verifiers)
        self.schedule = sampler.schedule
        self.steps = sampler.schedule.steps
        self.kind, self.full_kind = (self.steps, draft), (final.schedule.steps, None)
        self.stochastic = sampler.stochastic
        self.seed = seed
        self.budget = budget
        self._sampler = sampler

    @property
    def noise_size(self) -> int:
        return self._sampler.noise([self.seed])[0].numel()

    def say(self, text: str) -> None:
        """Nothing: the run says it when it begins."""

    def __getattr__(self, name: str) -> Any:
        raise _Rehearsed(name)


def rehearse(
    function: Callable[..., Any],
    sampler: Sampler,
    verifiers: Sequence[Verifier],
    arguments: Mapping[str, Any],
    seed: int,
    budget: Budget,
    final: Sampler | None = None,
    draft: str | None = None,
) -> None:
    """Let a search check its arguments, before anything is spent.

    Raises:
        ValueError: what the search says of them.
    """
    with contextlib.suppress(_Rehearsed):
        function(_Rehearsal(sampler, verifiers, seed, budget, final or sampler, draft), **arguments)
