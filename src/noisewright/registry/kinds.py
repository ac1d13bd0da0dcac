"""What an entry of the registry is: one named thing that a person can choose, of one of the kinds that there are.

Imports nothing heavy: a plug-in's list of entries costs the import of its own module alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STEP_NOISE = "step noise"
"""A search whose copies of a particle differ by the noise of their steps: eta > 0."""

FULL_STEPS = "full steps"
"""A search that changes states on their way, which have no counterpart on another number of steps."""

BEGINS_ANEW = "states that begin anew on their way"
"""A search that carries states back towards noise: what a solver remembers of earlier steps does not hold there."""

GRADIENT = "verifiers and a solver with a gradient"
"""A search that climbs."""

PREVIEWS = "previews"
"""A search that scores clean estimates on the way."""

NOISES = "noises that are no seed's"
"""A search that moves starting noises, or mixes them."""

SPLITS = (STEP_NOISE, BEGINS_ANEW, PREVIEWS)
"""What only a search needs that cuts the way from noise to image; and :data:`FULL_STEPS`, but for one that climbs."""

NEEDS = (STEP_NOISE, FULL_STEPS, BEGINS_ANEW, GRADIENT, PREVIEWS, NOISES)

KINDS: dict[str, str] = {
    "search": "a function (run, **arguments)",
    "verifier": "a class or function whose call gives a verifier",
    "solver": "a class or function whose call gives a solver",
    "schedule": "a function (clock, steps) -> levels",
    "sampler": "a function (pipe, prompt, **settings) -> sampler, for the pipelines that the entry takes",
    "executor": "a class or function whose call gives an executor",
    "model": "a function (device, dtype) -> pipeline",
}
"""The kinds of entries, and what the target of each is."""


@dataclass(frozen=True)
class Entry:
    """One named thing that a person can choose. Write it by keyword: only the first seven may stand by position.

    Attributes:
        kind: one of :data:`KINDS`.
        name: what is typed.
        summary: one line.
        target: ``module:attribute`` that is imported when it is chosen, as :data:`KINDS` says; "" for what comes with
            the package as files (models), and for ``pipeline``, the pipeline's own.
        details: what ``list`` shows besides: cost, reference, range, licence, ...
        options: keyword arguments given to the target.
        needs: of a search, among :data:`NEEDS`.
        takes: of a sampler, the names of the pipeline classes (or of their bases) that it is made of, or
            ``module:function`` that says of a pipeline whether it is one.
    """

    kind: str
    name: str
    summary: str
    target: str = ""
    details: dict[str, str] = field(default_factory=dict, hash=False)
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def draws_seeds(self) -> bool:
        """Whether a search takes starting noises of seeds as they are, and leaves them alone to the end."""
        return not self.splits and NOISES not in self.needs and GRADIENT not in self.needs

    @property
    def splits(self) -> bool:
        """Whether a search cuts the way from noise to image, and goes on from within it."""
        whole = FULL_STEPS not in self.needs or GRADIENT in self.needs
        return not whole or any(one in self.needs for one in SPLITS)
