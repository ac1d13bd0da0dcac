"""CogVideoX's own DPM-Solver++, whose memory the pipeline's loop holds, as a scheduler that has its own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

NAME = "CogVideoXDPMScheduler"


def remembering(scheduler: Any) -> Any:
    """The scheduler; one of :data:`NAME` as one that steps from prediction, time and state, to the same numbers.

    diffusers' own is handed the estimate and the time of the step before by the pipeline's loop, which no particle can
    take along. The loop knows it by its class, which this one has not.
    """
    if type(scheduler).__name__ != NAME:
        return scheduler
    return _made(type(scheduler), {**scheduler.__dict__, "estimate_before": None, "time_before": None})


def _made(kind: Any, held: dict[str, Any]) -> Any:
    found = object.__new__(_remembering(kind))
    found.__dict__.update(held)
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
        return DDIMSchedulerOutput(prev_sample=after, pred_original_sample=estimate) if return_dict else (after,)

    def __reduce__(self: Any) -> Any:
        return _made, (kind, self.__dict__)

    body = {name: one for name, one in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return type(kind.__name__, kind.__bases__, {**body, "step": step, "__reduce__": __reduce__})
