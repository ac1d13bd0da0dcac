"""CogVideoX's own DPM-Solver++, whose memory the pipeline's loop holds, as a scheduler that has its own."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from torch import Tensor

NAME = "CogVideoXDPMScheduler"


def remembering(scheduler: Any) -> Any:
    """The scheduler; one of :data:`NAME` as one that steps from prediction, time and state, to the same numbers.

    diffusers' own is handed the estimate and the time of the step before by the pipeline's loop, which no particle can
    take along. The loop knows it by its class, which this one has not.
    """
    if type(scheduler).__name__ != NAME:
        return scheduler
    found = object.__new__(_remembering(type(scheduler)))
    found.__dict__.update(scheduler.__dict__)
    found.estimate_before = found.time_before = None
    return found


@lru_cache(maxsize=4)
def _remembering(kind: Any) -> Any:
    def step(
        self: Any, model_output: Tensor, timestep: Any, sample: Tensor, eta: float = 0.0,
        use_clipped_model_output: bool = False, generator: Any = None, return_dict: bool = True,
    ) -> Any:  # fmt: skip
        after, estimate = kind.step(
            self, model_output, self.estimate_before, timestep, self.time_before, sample, eta=eta,
            use_clipped_model_output=use_clipped_model_output, generator=generator, return_dict=False,
        )  # fmt: skip
        self.estimate_before, self.time_before = estimate, timestep
        return SimpleNamespace(prev_sample=after) if return_dict else (after,)

    body = {name: one for name, one in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return type(kind.__name__, kind.__bases__, {**body, "step": step})
