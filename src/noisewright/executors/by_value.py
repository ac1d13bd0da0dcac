"""A worker as a value: for executors elsewhere, where nothing says what it was made from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from noisewright.executors.optional import Part
from noisewright.executors.protocol import Worker
from noisewright.executors.worker import ModelWorker, ScoringWorker


@dataclass(frozen=True)
class ByValue:
    """A :class:`~noisewright.executors.optional.Blueprint` of a worker that is sent itself."""

    given: Mapping[str, Any] = field(default_factory=dict)
    served: frozenset[str] = frozenset()

    @classmethod
    def of(cls, worker: Worker) -> ByValue:
        return cls({"the model and its verifiers": worker})

    def __getstate__(self) -> dict[str, Any]:
        return {"given": {}, "served": self.served}

    def build(self, part: Part, given: Mapping[str, bytes], kept: dict[Any, Any]) -> Worker:
        (worker,) = (pickle.loads(one) for one in given.values())  # noqa: S301 - of the driver's own
        if part == "verifiers" and isinstance(worker, ModelWorker):
            return ScoringWorker(worker.verifiers.values(), worker.judges.values())
        found: Worker = worker
        return found
