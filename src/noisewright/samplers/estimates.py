"""A scheduler's own clean estimate of a state, which proves what its model predicts."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from noisewright.diffusion.schedule import KINDS, Schedule, estimate
from noisewright.samplers import chance
from noisewright.samplers.native import CANNOT_BE_TRIED, own_copy, takes_generator

NOISE = ("dpmsolver", "sde-dpmsolver", "deis", "noise_prediction")
"""Algorithms of multistep schedulers whose converted model output is the noise, not the clean estimate."""

TOLERANCE = 0.02
"""Between two clean estimates of data in [-1/2, 1/2]; states are float32, and divided by small alphas."""

CLEAR = 0.02
"""Levels with less of the image, or of the noise, than this say nothing."""


@runtime_checkable
class Preconditions(Protocol):
    """A scheduler of EDM models."""

    def precondition_outputs(self, sample: Tensor, model_output: Tensor, sigma: Any) -> Tensor: ...


@runtime_checkable
class Converts(Protocol):
    """A multistep scheduler that turns what the model says into what its algorithm goes by."""

    def convert_model_output(self, model_output: Tensor, *, sample: Tensor) -> Tensor: ...


@runtime_checkable
class HasBoundary(Protocol):
    """A scheduler of consistency models."""

    def get_scalings_for_boundary_condition(self, sigma: Any) -> tuple[Any, Any]: ...


def own_estimate(scheduler: Any, prediction: Tensor, index: int, sample: Tensor) -> Tensor | None:
    """What a scheduler takes a state for, with its clipping and thresholding; None where it does not say.

    Args:
        scheduler: of diffusers, prepared; it is left as it is.
        prediction: the guided network output, (batch, ...).
        index: of its schedule.
        sample: the state, in the scheduler's own coordinates, (batch, ...).
    """
    mine = own_copy(scheduler)
    if "_step_index" in vars(mine):
        mine._step_index = index
    if isinstance(mine, Preconditions):
        return mine.precondition_outputs(sample, prediction, scheduler.sigmas[index])
    if isinstance(mine, HasBoundary):
        skip, out = mine.get_scalings_for_boundary_condition(scheduler.sigmas[index])
        clean = out * prediction + skip * sample
        return clean.clamp(-1, 1) if scheduler.config.get("clip_denoised", False) else clean
    if isinstance(mine, Converts):
        found = mine.convert_model_output(prediction, sample=sample)
        if scheduler.config.get("algorithm_type") not in NOISE and scheduler.config.get("predict_x0", True):
            return found
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[index])
        return (sample - sigma * found) / alpha  # type: ignore[no-any-return]
    before = chance.states()
    try:
        drawing = {"generator": torch.Generator("cpu").manual_seed(0)} if takes_generator(mine) else {}
        after = mine.step(prediction, mine.timesteps[index], sample, return_dict=True, **drawing)
    finally:
        if chance.others_wait():
            chance.put_back(before)
    for name in ("pred_original_sample", "denoised"):
        clean = after.get(name)
        if clean is not None:
            return clean  # type: ignore[no-any-return]
    return None


def agrees(scheduler: Any, native: Schedule, kind: str) -> bool:
    """Whether a scheduler takes states for what we take them for, as far as it says.

    It is given the prediction that a perfect network would make of a state at two of its levels.

    Args:
        scheduler: of diffusers, prepared.
        native: its levels in its own coordinates.
        kind: what its model predicts, as it was read.
    """
    if kind not in KINDS:
        return True
    clear = [n for n in range(native.steps) if CLEAR < _share(native, n) < 1 - CLEAR] or [native.steps // 2]
    device = scheduler.timesteps.device
    clean = torch.linspace(-0.5, 0.5, 256, device=device).reshape(1, 4, 8, 8)
    noise = clean.flip(1, 2).transpose(2, 3).contiguous() * 2
    for index in {clear[0], clear[len(clear) // 2]}:
        alpha, sigma = native.alpha[index], native.sigma[index]
        sample = alpha * clean + sigma * noise
        try:
            prediction = _perfect(clean, noise, alpha, sigma, kind)
            if str(scheduler.config.get("variance_type") or "").startswith("learned"):
                prediction = torch.cat([prediction, torch.zeros_like(prediction)], 1)
            found = own_estimate(scheduler, prediction, index, sample)
        except CANNOT_BE_TRIED:
            continue
        if found is not None and not float((found - clean).abs().max()) <= TOLERANCE:
            return False
    return True


def _share(schedule: Schedule, index: int) -> float:
    """How much of a state is image, in [0, 1]."""
    return schedule.alpha[index] / math.hypot(schedule.alpha[index], schedule.sigma[index])


def _perfect(clean: Tensor, noise: Tensor, alpha: float, sigma: float, kind: str) -> Tensor:
    """What a network should predict of ``alpha clean + sigma noise``: every clean estimate is linear in it."""
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return clean
    if kind == "flow":
        return noise - clean
    if kind == "data_flow":
        return clean - noise
    x = alpha * clean + sigma * noise
    rest = estimate(torch.zeros_like(x), x, alpha, sigma, kind).clean
    one = estimate(torch.ones_like(x), torch.zeros_like(x), alpha, sigma, kind).clean
    return (clean - rest) / one
