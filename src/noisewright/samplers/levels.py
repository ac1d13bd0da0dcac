"""Reads a diffusers scheduler: its noise levels, what its model predicts, and which solver of ours equals its step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisewright.schedule import Schedule, vp_levels
from noisewright.solvers import Ddim, Solver


@dataclass(frozen=True)
class Levels:
    """What a scheduler, after ``set_timesteps``, says of a run.

    Attributes:
        schedule: the levels in the coordinates our solvers work in (VP, or linear flow).
        native: the levels in the scheduler's own coordinates, one per call of its ``step``.
        kind: what the model predicts; see :func:`noisewright.schedule.estimate`.
        equal: the solver of ours that takes the same steps, or None where only the scheduler itself does.
    """

    schedule: Schedule
    native: Schedule
    kind: str
    equal: Solver | None


def _distinct(values: Tensor) -> list[int]:
    """Positions where a falling list really falls (PNDM and Heun name a level twice)."""
    return [n for n in range(len(values)) if n == 0 or float(values[n]) != float(values[n - 1])]


def _vp_at(scheduler: Any, times: Tensor) -> tuple[list[float], list[float]]:
    """(alpha, sigma) at integer times from the scheduler's own float32 table, so that products round as its own do."""
    table = scheduler.alphas_cumprod[times.long().cpu()]
    return (table**0.5).tolist(), ((1 - table) ** 0.5).tolist()


def _final(scheduler: Any) -> tuple[float, float]:
    final = getattr(scheduler, "final_alpha_cumprod", None)
    final = torch.tensor(1.0) if final is None else torch.as_tensor(final)
    return float(final**0.5), float((1 - final) ** 0.5)


def read_levels(scheduler: Any) -> Levels:
    """Read a scheduler whose ``set_timesteps`` has run.

    Raises:
        ValueError: where neither sigmas nor cumulative alphas tell its noise levels.
    """
    name = type(scheduler).__name__
    config = scheduler.config
    times = scheduler.timesteps.detach().float().cpu()
    start = float(getattr(scheduler, "init_noise_sigma", 1.0))
    kind = str(config.get("prediction_type", "epsilon"))
    flow = kind.startswith("flow") or "FlowMatch" in name or bool(config.get("use_flow_sigmas", False))

    sigmas = getattr(scheduler, "sigmas", None)
    if flow:
        if sigmas is None:
            raise ValueError(f"expected a flow scheduler with sigmas, got {name}")
        levels = sigmas.detach().float().cpu().tolist()
        levels = [*levels, 0.0] if len(levels) == len(times) else levels
        schedule = Schedule(tuple(times.tolist()), tuple(1 - s for s in levels), tuple(levels))
        plain = name == "FlowMatchEulerDiscreteScheduler" and not config.get("stochastic_sampling", False)
        return Levels(schedule, schedule, "flow", Ddim(name="euler") if plain else None)

    own_sigmas = start != 1.0 or not hasattr(scheduler, "alphas_cumprod")
    if sigmas is not None and len(sigmas) == len(times) + 1 and own_sigmas:
        s = sigmas.detach().float().cpu()  # EDM levels; the scheduler's own coordinates are x0 + s * eps
        native = Schedule(tuple(times.tolist()), (1.0,) * len(s), tuple(s.tolist()), start)
        keep = _distinct(s[:-1])
        kept = torch.cat([s[keep], s[-1:]])
        alpha, sigma = vp_levels(kept)
        scale = start * alpha[0]
        schedule = Schedule(tuple(times[keep].tolist()), tuple(alpha), tuple(sigma), scale)
        equal = Ddim(name="euler") if name == "EulerDiscreteScheduler" else None
        return Levels(schedule, native, kind, equal)

    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"expected a scheduler with sigmas or alphas_cumprod, got {name}")
    final_alpha, final_sigma = _final(scheduler)
    alpha, sigma = _vp_at(scheduler, times)
    native = Schedule(tuple(times.tolist()), (*alpha, final_alpha), (*sigma, final_sigma), start)
    keep = _distinct(times)
    schedule = Schedule(
        tuple(times[keep].tolist()),
        (*(alpha[n] for n in keep), final_alpha),
        (*(sigma[n] for n in keep), final_sigma),
        start,
    )
    return Levels(schedule, native, kind, Ddim() if _is_plain_ddim(scheduler, times) else None)


def _is_plain_ddim(scheduler: Any, times: Tensor) -> bool:
    """Whether DDIM's ``t - T // K`` always lands on the next time of its list, and nothing is clipped."""
    if type(scheduler).__name__ != "DDIMScheduler":
        return False
    config = scheduler.config
    if config.get("clip_sample", True) or config.get("thresholding", False):
        return False
    stride = config["num_train_timesteps"] // len(times)
    return bool((times[:-1] - times[1:] == stride).all()) and float(times[-1]) - stride < 0
