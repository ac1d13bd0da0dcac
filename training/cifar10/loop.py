"""What the trainings share: the loop with its averages of the weights, its limits and its checkpoints."""

import copy
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))

from common import batches, save_atomically

CHECKPOINT_SECONDS = 120.0


def plateau(step: int, steps: int, warm_up: int, decay_from: float = 0.6) -> float:
    """Learning-rate factor: linear warm-up, a plateau, then a cosine to 1 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = max(0.0, (step / steps - decay_from) / (1 - decay_from))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def triangle(step: int, steps: int, warm_up: int) -> float:
    """Learning-rate factor: linear warm-up, then linear to (nearly) nothing."""
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.002, (steps - step) / (steps - warm_up))


def autocast(device: str) -> AbstractContextManager:
    """bfloat16 where it is safe; the weights stay float32."""
    return torch.autocast(device, torch.bfloat16)


class Averages:
    """Moving averages of a model's weights and float buffers, one for each half-life.

    Args:
        model: what is averaged.
        half_lives: in samples.
        batch_size: samples a step.
    """

    def __init__(self, model: nn.Module, half_lives: Sequence[float], batch_size: int) -> None:
        self.decays = [0.5 ** (batch_size / half_life) for half_life in half_lives]
        self.models = [copy.deepcopy(model).eval().requires_grad_(False) for _ in half_lives]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        for longest, mean in zip(self.decays, self.models, strict=True):
            decay = min(longest, (1 + step) / (10 + step))  # short at first, when there is little to average
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - decay)
            for held, value in zip(mean.buffers(), model.buffers(), strict=True):
                held.lerp_(value, 1 - decay) if held.is_floating_point() else held.copy_(value)


def train(
    model: nn.Module,
    loss_of: Callable[[np.ndarray], tuple[Tensor, dict[str, float]]],
    *,
    optimisers: Sequence[torch.optim.Optimizer],
    factor: Callable[[int], float],
    count: int,
    batch_size: int,
    steps: int,
    checkpoint: Path,
    seed: int,
    half_lives: Sequence[float],
    minutes: float | None = None,
    clip: float | None = 1.0,
    log_every: int = 50,
    now_and_then: Callable[[int, Averages], None] | None = None,
    every: int = 0,
) -> tuple[Averages, bool]:
    """Trains, and returns the averages and whether ``steps`` were reached; goes on from ``checkpoint`` if there.

    A training that is stopped and goes on takes the same steps as one that is not: batches and random numbers are
    functions of (seed, step).

    Args:
        model: the trained module.
        loss_of: indices of the batch -> loss and figures to log. It draws its random numbers from torch's global
            generator.
        optimisers: of the model's weights, each weight in one of them.
        factor: step -> what the rates are multiplied with.
        count: size of the data set.
        batch_size: samples a step.
        steps: optimiser steps in all.
        checkpoint: file of the running state.
        seed: of batches and noise.
        half_lives: of the averages, in samples.
        minutes: of this run; None: until ``steps``.
        clip: largest norm of the gradient; None: no limit.
        log_every: steps between lines of the log.
        now_and_then: called with (step, averages) each ``every`` steps and at the end, outside the timing.
        every: see there (0: never).

    Raises:
        ValueError: where ``checkpoint`` is of another batch size, with which the steps would not be the same.
    """
    averages = Averages(model, half_lives, batch_size)
    rates = [[group["lr"] for group in one.param_groups] for one in optimisers]
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=next(model.parameters()).device)
        if state["batch"] != batch_size:
            raise ValueError(
                f"expected the batch size of {checkpoint}, {state['batch']}, to go on with it, got {batch_size}"
            )
        model.load_state_dict(state["model"])
        for mean, held in zip(averages.models, state["averages"], strict=True):
            mean.load_state_dict(held)
        for one, held in zip(optimisers, state["optimisers"], strict=True):
            one.load_state_dict(held)
        step, spent = state["step"], state["seconds"]
        print(f"resumed {checkpoint.name} at step {step}", flush=True)

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "averages": [mean.state_dict() for mean in averages.models],
            "optimisers": [one.state_dict() for one in optimisers],
            "step": step,
            "batch": batch_size,
            "seconds": spent,
        }
        save_atomically(state, checkpoint)

    began = mark = saved = logged = time.monotonic()
    logged_at = step
    figures: dict[str, list[float]] = {}
    indices = batches(count, batch_size, seed, step)
    model.train()
    while step < steps and (minutes is None or time.monotonic() - began < 60 * minutes):
        torch.manual_seed(seed * 10_000_019 + step)
        for one, own in zip(optimisers, rates, strict=True):
            for group, rate in zip(one.param_groups, own, strict=True):
                group["lr"] = rate * factor(step)
        loss, values = loss_of(next(indices))
        for one in optimisers:
            one.zero_grad(set_to_none=True)
        loss.backward()
        if clip is not None:
            values["norm"] = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
        for one in optimisers:
            one.step()
        step += 1
        averages.update(model, step)
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        if step % log_every == 0 or step == steps:
            line = "  ".join(f"{name} {np.mean(many):.4f}" for name, many in figures.items())
            speed = batch_size * (step - logged_at) / (now - logged)
            print(f"{checkpoint.stem} step {step}/{steps}  {spent:.0f} s  {speed:.0f} img/s  {line}", flush=True)
            figures, logged_at = {}, step
            logged = time.monotonic()
        if now - saved > CHECKPOINT_SECONDS:
            save()
            saved = time.monotonic()
        if now_and_then is not None and every and (step % every == 0 or step == steps):
            now_and_then(step, averages)
            mark = logged = time.monotonic()
            logged_at = step
    if step:
        save()
    return averages, step >= steps
