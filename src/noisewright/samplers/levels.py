"""Reads a diffusers scheduler: its noise levels, what its model predicts, and which solver of ours equals its step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.clock import Clock
from noisewright.diffusion.schedule import Preconditioned, Schedule, vp_levels
from noisewright.diffusion.solvers import Ddim, Solver
from noisewright.samplers.estimates import agrees

ZERO_SIGNAL = 1e-9
"""A last cumulative alpha below this is the zero of a model with no signal left at its end."""

LEAST_ALPHA = 1e-6
"""How much image there is in the first state of TrigFlow."""

FLOWS = ("FlowMatch", "FlowMap", "LTXEulerAncestralRF", "MiniMaxH3")
"""How the names of schedulers begin whose levels are those of flow models, whatever their configuration says."""

OTHERWISE = {"FlowMapEulerDiscreteScheduler": "mean velocity", "MiniMaxH3Scheduler": "data_flow"}
"""What models of flow schedulers predict that is no velocity towards noise."""


@dataclass(frozen=True)
class Levels:
    """What a scheduler, after ``set_timesteps``, says of a run.

    Attributes:
        schedule: the levels in the coordinates our solvers work in (VP, or linear flow).
        native: the levels in the scheduler's own coordinates, one per call of its ``step``.
        kind: what the model predicts; see :func:`noisewright.diffusion.schedule.estimate`.
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


def _clock(scheduler: Any, flow: bool, mu: float | None) -> Clock | None:
    """The scheduler's map between time and level, or None where it has none that we know."""
    config = scheduler.config
    unit = float(config.get("num_train_timesteps", 1000))
    if flow:
        shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        if mu is not None and config.get("use_dynamic_shifting", False):
            linear = config.get("time_shift_type", "exponential") == "linear"
            shift = mu if linear else math.exp(mu)
        return Clock("flow", unit=unit, shift=shift)
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        return None
    table = table.detach().double().cpu()
    if float(table[-1]) <= ZERO_SIGNAL:
        table[-1] = 0.0
    levels = ((1 - table) / table).sqrt().tolist()
    rises = all(one < other for one, other in pairwise(levels))
    return Clock("vp", tuple(levels)) if rises else None


def read_levels(scheduler: Any, mu: float | None = None) -> Levels:
    """Read a scheduler whose ``set_timesteps`` has run.

    What its model predicts is proved by the scheduler's own clean estimate, where it has one; where the two differ it
    is called something that no preview is made of.

    Args:
        scheduler: of diffusers.
        mu: what the pipeline gave ``set_timesteps`` for a shift that depends on the size of the image.

    Raises:
        ValueError: where neither sigmas nor cumulative alphas tell its noise levels.
    """
    levels = _read(scheduler, mu)
    if has_midpoints(scheduler) or agrees(scheduler, levels.native, levels.kind):  # no preview is made between levels
        return levels
    return replace(levels, kind=f"{levels.kind} of {type(scheduler).__name__}", equal=None)


def _read(scheduler: Any, mu: float | None) -> Levels:
    name = type(scheduler).__name__
    config = scheduler.config
    times = scheduler.timesteps.detach().float().cpu()
    start = float(getattr(scheduler, "init_noise_sigma", 1.0))
    kind = str(config.get("prediction_type", "epsilon"))
    if kind == "trigflow":
        return _of_trigflow(scheduler, times)
    flow = kind.startswith("flow") or name.startswith(FLOWS) or bool(config.get("use_flow_sigmas", False))

    clock = _clock(scheduler, flow, mu)
    sigmas = getattr(scheduler, "sigmas", None)
    own_sigmas = start != 1.0 or not hasattr(scheduler, "alphas_cumprod")
    if flow:
        return _of_flow(scheduler, sigmas, times, clock, kind)
    if name == "IPNDMScheduler":
        return _of_ipndm(scheduler, times)
    if isinstance(sigmas, Tensor) and len(sigmas) == len(times) + 1:
        if own_sigmas:
            return _of_edm(scheduler, sigmas, times, start, clock, kind)
        if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
            return _of_sigmas(sigmas, times, start, clock, kind)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"expected a scheduler with sigmas or alphas_cumprod, got {name}, whose noise levels noisewright does not "
            "know: give the pipeline another scheduler that its model works with"
        )
    return _of_table(scheduler, sigmas if own_sigmas else None, times, start, clock, kind)


def _of_flow(scheduler: Any, sigmas: Any, times: Tensor, clock: Clock | None, kind: str) -> Levels:
    """Of a flow model: alpha is 1 - sigma. Inverted sigmas say how much image there is instead of how much noise."""
    name, config = type(scheduler).__name__, scheduler.config
    if sigmas is None:
        raise ValueError(f"expected a flow scheduler with sigmas, got {name}")
    inverted = bool(config.get("invert_sigmas", False))
    s = sigmas.detach().float().cpu()
    s = 1 - s if inverted else s
    s = torch.cat([s, torch.zeros(1)]) if len(s) == len(times) else s
    native = _flow_schedule(times, s, range(len(times)), None if inverted or name in OTHERWISE else clock)
    keep = _distinct(s[:-1])
    schedule = native if len(keep) == len(times) else _flow_schedule(times, s, keep, native.clock)
    if name.startswith(FLOWS) or kind.startswith("flow"):
        kind = "data_flow" if inverted else OTHERWISE.get(name, "flow")
    plain = name == "FlowMatchEulerDiscreteScheduler" and not config.get("stochastic_sampling", False)
    return Levels(schedule, native, kind, Ddim(name="euler") if plain else None)


def _flow_schedule(times: Tensor, s: Tensor, keep: Sequence[int], clock: Clock | None) -> Schedule:
    sigma = [*(s[n].item() for n in keep), s[-1].item()]
    return Schedule(tuple(times[n].item() for n in keep), tuple(1 - one for one in sigma), tuple(sigma), clock=clock)


def _of_trigflow(scheduler: Any, times: Tensor) -> Levels:
    """Of TrigFlow: states are ``cos(t) x0 + sin(t) z``, z as wide as the data; the last time is no step's."""
    data = float(scheduler.config["sigma_data"])
    alpha = times.double().cos().clamp(min=LEAST_ALPHA)  # the first time is a little beyond pi / 2
    sigma = data * times.double().sin()
    schedule = Schedule(tuple(times[:-1].tolist()), tuple(alpha.tolist()), tuple(sigma.tolist()), data)
    return Levels(schedule, schedule, Preconditioned("trigflow", data), None)


def _of_ipndm(scheduler: Any, times: Tensor) -> Levels:
    """Of iPNDM, which keeps its levels as alphas and betas, whose squares add up to 1."""
    alpha, sigma = (one.detach().float().cpu().tolist() for one in (scheduler.alphas, scheduler.betas))
    schedule = Schedule(tuple(times.tolist()), tuple(alpha), tuple(sigma))
    return Levels(schedule, schedule, "v_prediction", None)


def _of_edm(scheduler: Any, sigmas: Any, times: Tensor, start: float, clock: Clock | None, kind: str) -> Levels:
    """Of EDM levels: the scheduler's own coordinates are x0 + s * eps."""
    s = sigmas.detach().float().cpu()
    data = float(scheduler.config.get("sigma_data", 1.0))
    if "sigma_data" in scheduler.config and (data, kind) != (1.0, "v_prediction"):  # where the two are the same
        kind = Preconditioned(f"edm_{kind}", data)
    between = has_midpoints(scheduler)
    keep = list(range(0, len(times), 2)) if between else _distinct(s[:-1])
    own = s.clone()
    if between:  # every second place is the geometric mean of two levels
        own[1:-1:2] = (s[:-2:2] * s[2::2]).sqrt()[: len(own[1:-1:2])]
    native = Schedule(tuple(times.tolist()), (1.0,) * len(s), tuple(own.tolist()), start)
    alpha, sigma = _as_seen(torch.cat([s[keep], s[-1:]]), data)
    schedule = Schedule(tuple(times[keep].tolist()), tuple(alpha), tuple(sigma), start * alpha[0], clock)
    equal = Ddim(name="euler") if type(scheduler).__name__ == "EulerDiscreteScheduler" else None
    return Levels(schedule, native, kind, equal)


def _as_seen(s: Tensor, data: float) -> tuple[list[float], list[float]]:
    """(alpha, sigma) of EDM levels as the network is shown its states: divided by ``sqrt(s^2 + data^2)``.

    The last state is the image itself.
    """
    if data == 1.0:
        return vp_levels(s)
    s = s.to(torch.float64)
    scale = torch.rsqrt(s * s + data * data)
    scale[-1] = 1.0
    return scale.tolist(), (s * scale).tolist()


def _of_sigmas(sigmas: Any, times: Tensor, start: float, clock: Clock | None, kind: str) -> Levels:
    """Of EDM levels of VP states: DPM-Solver, DEIS, UniPC."""
    s = sigmas.detach().float().cpu()
    alpha, sigma = vp_levels(s)
    native = Schedule(tuple(times.tolist()), tuple(alpha), tuple(sigma), start)
    keep = _distinct(s[:-1])
    schedule = Schedule(
        tuple(times[keep].tolist()),
        (*(alpha[n] for n in keep), alpha[-1]),
        (*(sigma[n] for n in keep), sigma[-1]),
        start,
        clock,
    )
    return Levels(schedule, native, kind, None)


def _of_table(
    scheduler: Any, sigmas: Any, times: Tensor, start: float, clock: Clock | None, kind: str
) -> Levels:
    """Of cumulative alphas; ``sigmas`` where they are the scheduler's own coordinates."""
    final_alpha, final_sigma = _final(scheduler)
    alpha, sigma = _vp_at(scheduler, times)
    native = Schedule(tuple(times.tolist()), (*alpha, final_alpha), (*sigma, final_sigma), start)
    if sigmas is not None and has_midpoints(scheduler):  # every second place lies between two levels
        s = torch.cat([sigmas[: len(times) : 2].detach().float().cpu(), torch.zeros(1)])
        alpha, sigma = vp_levels(s)
        schedule = Schedule(tuple(times[::2].tolist()), tuple(alpha), tuple(sigma), start * alpha[0], clock)
        return Levels(schedule, native, kind, None)
    keep = _distinct(times)
    schedule = Schedule(
        tuple(times[keep].tolist()),
        (*(alpha[n] for n in keep), final_alpha),
        (*(sigma[n] for n in keep), final_sigma),
        start,
        clock,
    )
    return Levels(schedule, native, kind, Ddim() if _is_plain_ddim(scheduler, times) else None)


def has_midpoints(scheduler: Any) -> bool:
    """Whether every second state of a scheduler lies between two of its levels (KDPM2, DPM-Solver SDE).

    A scheduler that is entered there does not know it.
    """
    return getattr(scheduler, "sigmas_interpol", None) is not None or "mid_point_sigma" in vars(scheduler)


def begins_anywhere(scheduler: Any, native: Schedule) -> bool:
    """Whether a state at any level can be stepped on from without the steps before it.

    Not where a step takes several calls (Heun, KDPM2, the Runge-Kutta steps of PNDM) or the schedule names a level
    twice (PNDM): begun in the middle of a step, or at its second place, the rest of the noise is never removed.
    """
    levels = native.sigma[:-1]
    return int(getattr(scheduler, "order", 1)) == 1 and len(set(levels)) == len(levels)


def _is_plain_ddim(scheduler: Any, times: Tensor) -> bool:
    """Whether DDIM's ``t - T // K`` always lands on the next time of its list, and nothing is clipped."""
    if type(scheduler).__name__ != "DDIMScheduler":
        return False
    config = scheduler.config
    if config.get("clip_sample", True) or config.get("thresholding", False):
        return False
    stride = config["num_train_timesteps"] // len(times)
    return bool((times[:-1] - times[1:] == stride).all()) and float(times[-1]) - stride < 0


def step_arguments(scheduler: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline passes to a scheduler's ``step`` that changes what it does: what differs from the defaults."""
    defaults = {one.name: one.default for one in inspect.signature(scheduler.step).parameters.values()}
    plain = (str, int, float, bool)
    return {
        name: value for name, value in given.items()
        if name not in ("generator", "return_dict") and value is not None
        and not (isinstance(value, plain) and value == defaults.get(name, inspect.Parameter.empty))
    }  # fmt: skip


def equal_solver(levels: Levels, scheduler: Any, given: Mapping[str, Any], scales: bool) -> Solver | None:
    """The solver of ours that takes the scheduler's steps as this pipeline uses it, or None.

    Args:
        levels: from :func:`read_levels`.
        scheduler: what they were read from.
        given: what the pipeline passes to its ``step``.
        scales: whether the pipeline multiplies its starting noise with the scheduler's ``init_noise_sigma``.
    """
    solver, others = levels.equal, step_arguments(scheduler, given)
    if solver is None or (float(getattr(scheduler, "init_noise_sigma", 1.0)) != 1.0 and not scales):
        return None
    eta = others.pop("eta", 0.0)
    if others or not isinstance(eta, (int, float)) or not 0 <= eta <= 1 or (eta and not isinstance(solver, Ddim)):
        return None
    return replace(solver, eta=float(eta)) if isinstance(solver, Ddim) and eta else solver
