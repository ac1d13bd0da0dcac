"""What the three trainings share: the loop with its schedule, moving average and checkpoints."""

import copy
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))

from common import batches, save_atomically

CHECKPOINT_SECONDS = 60.0


def rate_at(step: int, steps: float, warm_up: int, decay_from: float = 0.5) -> float:
    """Learning-rate factor: linear warm-up, a plateau, then a cosine to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = max(0.0, (step / steps - decay_from) / (1 - decay_from))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def train(
    model: nn.Module,
    loss_of: Callable[[np.ndarray, int], tuple[Tensor, dict[str, float]]],
    *,
    count: int,
    batch_size: int,
    steps: int,
    rate: float,
    checkpoint: Path,
    seed: int,
    warm_up: int = 200,
    decay_from: float = 0.5,
    ema: float = 0.999,
    weight_decay: float = 0.01,
    log_every: int = 50,
    keep_every: int = 0,
    minutes: float | None = None,
) -> nn.Module:
    """Trains with AdamW and returns the moving average of the weights; goes on from ``checkpoint`` if there.

    Args:
        model: the trained module.
        loss_of: indices of the batch and the step -> loss and figures to log. It draws its random numbers
            from torch's global generator, which is seeded anew from (seed, step) at each step so that a
            resumed training repeats them.
        count: size of the data set.
        batch_size: samples a step.
        steps: optimiser steps in all.
        rate: peak learning rate.
        checkpoint: file of the running state.
        seed: of batches and noise.
        warm_up: steps of linear warm-up.
        decay_from: share of the steps after which the rate falls.
        ema: decay of the moving average.
        weight_decay: AdamW's.
        log_every: steps between lines of the log.
        keep_every: steps between copies of the averaged weights kept beside the checkpoint (0: none).
        minutes: of this run, whose rate falls with the clock in place of the steps; None: until ``steps``.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["seconds"]
        print(f"resumed {checkpoint.name} at step {step}", flush=True)

    def state_now() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": spent + time.monotonic() - begun,
        }

    begun = saved = time.monotonic()
    figures: dict[str, list[float]] = {}
    indices = batches(count, batch_size, seed, step)
    model.train()
    while step < steps and (minutes is None or time.monotonic() - begun < 60 * minutes):
        torch.manual_seed(seed * 10_000_019 + step)
        share = None if minutes is None else (time.monotonic() - begun) / (60 * minutes)
        whole = steps if share is None else min(steps, step / max(share, 1e-3) + 1)
        for group in optimiser.param_groups:
            group["lr"] = rate * rate_at(step, whole, warm_up, decay_from)
        loss, values = loss_of(next(indices), step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        decay = min(ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
        if step % log_every == 0:
            line = "  ".join(f"{name} {np.mean(many):.4f}" for name, many in figures.items())
            seconds = spent + time.monotonic() - begun
            print(f"{checkpoint.stem} step {step}/{steps}  {seconds:.0f} s  {line}", flush=True)
            figures = {}
        if keep_every and step % keep_every == 0:
            save_atomically(average.state_dict(), checkpoint.with_name(f"{checkpoint.stem}-{step}.pt"))
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step == steps:
            save_atomically(state_now(), checkpoint)
            saved = time.monotonic()
    if minutes is not None:
        save_atomically(state_now(), checkpoint)
    return average
