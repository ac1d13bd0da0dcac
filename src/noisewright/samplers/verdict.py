"""What is known of how a pipeline can be searched: a value that is proved (:mod:`~.parity`), kept and obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What holds of a pipeline with one kind of call, as it was measured against its plain ``pipe(...)``.

    Differences are the largest of any pixel, in steps of 1/255.

    Attributes:
        solver: the solver of noisewright's that equals the pipeline's scheduler, or None where there is none.
        solver_apart: how far its image is from the plain one; None where it was not tried.
        native_apart: the same of a private copy of the pipeline's own scheduler.
        tolerance: up to what they count as equal.
        split: whether a way can be cut into segments.
        batch: whether several images can be made at once.
        whole: whether segments have to be run in loops of full length, since the loop looks at where a step stands.
        native: whether the pipeline's own scheduler has to take the place of our solver.
        stochastic: whether the steps of the pipeline's own scheduler draw noise.
        repeatable: whether a seed names an image.
        refused: why it cannot be searched and what to do, in one line; None where it can.
        notes: a line each: what is restricted and why, and what else a person should know.
        ran: what was run: steps, where they were split, images in a batch, and their cost.
        versions: of noisewright and the libraries, by name.
    """

    solver: str | None = None
    solver_apart: float | None = None
    native_apart: float | None = None
    tolerance: float = 1.0
    split: bool = True
    batch: bool = True
    native: bool = False
    whole: bool = False
    stochastic: bool = False
    repeatable: bool = True
    refused: str | None = None
    notes: tuple[str, ...] = ()
    ran: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def restricts(self) -> bool:
        """Whether anything is not as with a pipeline of which all holds."""
        return self.refused is not None or not self.split or not self.batch or self.native

    @property
    def apart(self) -> float | None:
        """How far an image of a search is from the plain one, by what takes its steps."""
        return self.native_apart if self.native or self.solver_apart is None else self.solver_apart

    def to_json(self) -> dict[str, Any]:
        """Every field by its name."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**found, "notes": list(self.notes), "ran": dict(self.ran), "versions": dict(self.versions)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Verdict:
        """What :meth:`to_json` gave, checked by :func:`noisewright.schemas.verdicts.check_verdict` before."""
        return cls(**{**found, "notes": tuple(found["notes"])})
