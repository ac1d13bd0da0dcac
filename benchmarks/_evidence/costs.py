"""What an image of each shapes model costs, in FLOPs of its networks and in seconds, measured in turn (claim 6)."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from _evidence.kept import Point, Table
from _evidence.places import weights
from _evidence.plans import PLANS
from _evidence.pools import pipeline
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.quiet import quiet

REPEATS, BATCH = 9, 16
PROMPT = "a red circle left of a blue square"


def cost_table() -> Table:
    """Of the larger and the smaller model, one after the other, so that both see the same machine."""
    torch.set_num_threads(1)
    plans = {"shapes": PLANS["shapes-10"], "shapes-small": PLANS["small-10"]}
    samplers = {}
    for name, plan in plans.items():
        with quiet():
            samplers[name] = PipelineSampler(
                pipeline(plan.model, plan.dtype), PROMPT, num_inference_steps=plan.steps, guidance_scale=plan.guidance
            )
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    for k in range(REPEATS + 1):
        for name, sampler in samplers.items():
            began = time.perf_counter()
            _images(sampler)
            if k:  # the first warms up
                seconds[name].append((time.perf_counter() - began) / BATCH)
    flops = {}
    for name, sampler in samplers.items():
        with FlopCounterMode(display=False) as counter:
            _images(sampler)
        flops[name] = counter.get_total_flops() / BATCH
    points = [
        Point({"model": name}, {"seconds": np.array(seconds[name]), "FLOPs": np.array([float(flops[name])] * REPEATS)})
        for name in samplers
    ]
    models = [plan.model for plan in plans.values()]
    return Table({"batch": BATCH, "weights": {one: weights(one) for one in models}}, tuple(points))


def _images(sampler: PipelineSampler) -> torch.Tensor:
    with quiet():
        x, _ = sampler.denoise(sampler.noise(list(range(BATCH))), 0, sampler.schedule.steps)
        return sampler.decode(x)
