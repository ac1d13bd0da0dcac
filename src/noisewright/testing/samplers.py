"""What every sampler must hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.samplers.optional import can_preview, can_split, draws_inside
from noisewright.samplers.protocol import Sampler

SEEDS = (3, 0, 7)


def check_sampler(sampler: Sampler, *, tolerance: float = 1e-4, plain: Callable[[int], Tensor] | None = None) -> None:
    """A sampler can be split at any step, works on each row alone, draws by seeds, and counts what it asks.

    One that says that it cannot be split is not.

    Args:
        sampler: with at least three steps.
        tolerance: how far states may differ between batches, absolutely.
        plain: seed -> the image (3, height, width) in [0, 1] that the model itself makes of it.

    Raises:
        AssertionError: with what does not hold.
    """
    assert isinstance(sampler, Sampler), f"expected a sampler, got {type(sampler).__name__}"
    json.dumps(dict(sampler.description))
    steps = sampler.schedule.steps
    assert steps >= 3, f"expected a sampler of at least 3 steps, got {steps}"
    x = sampler.noise(SEEDS)
    assert x.dtype == torch.float32, f"expected states in float32 on the CPU, got {x.dtype} on {x.device}"
    assert str(x.device) == "cpu", f"expected states in float32 on the CPU, got {x.dtype} on {x.device}"
    _same(x, torch.cat([sampler.noise([seed]) for seed in SEEDS]), 0.0, "noises drawn one by one")
    whole = _denoised(sampler, x, (0, steps))
    for middle in sorted({1, steps // 2, steps - 1}) if can_split(sampler) else ():
        _same(whole, _denoised(sampler, x, (0, middle, steps)), tolerance, f"states split at step {middle}")
    rows = [_denoised(sampler, x[n : n + 1], (0, steps), SEEDS[n : n + 1]) for n in range(len(SEEDS))]
    _same(whole, torch.cat(rows), tolerance, "states denoised one by one")
    images = sampler.decode(whole, **_origins(sampler, SEEDS))
    assert images.shape[:2] == (len(SEEDS), 3), f"expected images (3, 3, height, width), got {tuple(images.shape)}"
    _same(images, (images.clamp(0, 1) * 255).round() / 255, 1e-6, "images in [0, 1] in steps of 1/255")
    if plain is not None:
        _same(images, torch.stack([plain(seed) for seed in SEEDS]), 1.01 / 255, "the model's own images")
    _check_counts(sampler, x, steps)
    if can_preview(sampler):
        _check_previews(sampler, x, tolerance)


def _check_counts(sampler: Sampler, x: Tensor, steps: int) -> None:
    before = sampler.meter.nfe
    _denoised(sampler, x, (0, steps))
    spent, said = sampler.meter.nfe - before, len(x) * sampler.nfe(0, steps)
    assert spent == said, f"the meter counts {spent} NFE, nfe(0, {steps}) says {said}"
    other = sampler.with_steps(steps - 1)
    assert other.schedule.steps == steps - 1, f"with_steps({steps - 1}) has {other.schedule.steps} steps"
    assert other.meter is sampler.meter, "with_steps has a meter of its own"


def _check_previews(sampler: Sampler, x: Tensor, tolerance: float) -> None:
    before = sampler.meter.nfe
    clean = sampler.predict(x, 0, **_origins(sampler, SEEDS))
    assert sampler.meter.nfe - before == len(x), "a preview does not cost one NFE for each state"
    assert clean.shape == x.shape, f"clean estimates are {tuple(clean.shape)}, states {tuple(x.shape)}"
    if sampler.can_advance:
        before = sampler.meter.nfe
        after, _ = sampler.advance(x, 0, clean, None, _noise_like(x, SEEDS))
        assert sampler.meter.nfe == before, "advance is not free"
        _same(_denoised(sampler, x, (0, 1)), after, tolerance, "the step from a known estimate")


def _denoised(sampler: Sampler, x: Tensor, stops: tuple[int, ...], seeds: tuple[int, ...] = SEEDS) -> Tensor:
    state: Any = None
    for start, stop in pairwise(stops):
        more = _origins(sampler, seeds)
        x, state = sampler.denoise(x, start, stop, state, _noise_like(x, seeds), list(seeds), **more)
    return x


def _origins(sampler: Sampler, seeds: tuple[int, ...]) -> dict[str, Any]:
    """What a sampler takes besides that draws more than starting noises."""
    return {"origins": list(seeds)} if draws_inside(sampler) else {}


def _noise_like(x: Tensor, seeds: tuple[int, ...]) -> Callable[[int], Tensor]:
    def drawn(index: int) -> Tensor:
        rows = [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(97 * index + seed)) for seed in seeds]
        return torch.stack(rows)

    return drawn


def _same(one: Tensor, other: Tensor, tolerance: float, what: str) -> None:
    assert one.shape == other.shape, f"{what}: {tuple(one.shape)} and {tuple(other.shape)}"
    apart = float((one - other).abs().max())
    assert apart <= tolerance, f"{what} differ by {apart:.2g}, more than {tolerance:g}"
