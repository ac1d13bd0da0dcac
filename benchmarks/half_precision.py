"""How far images in half precision are from those of the plain pipeline, by where states are rounded.

    python benchmarks/half_precision.py [--model noisewright/shapes] [--dtype bfloat16] [--steps 25] [--seeds 8]

For each way to keep states (``model``: the pipeline's own scheduler, in its own precision; ``float32``: our solver, in
float32) the largest and the mean difference of a pixel in steps of 1/255, in one piece and cut at each step, alone and
in a batch; beside them what the plain pipeline's own images differ by between a batch of one and of all seeds.
"""

from __future__ import annotations

import argparse

import torch

import noisewright as nw
from noisewright import registry
from noisewright.samplers.trials import through

PROMPT = "a red circle and a blue square"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="noisewright/shapes")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    pipe = nw.load(given.model, dtype=given.dtype)
    pipe.set_progress_bar_config(disable=True)
    seeds = list(range(given.seeds))

    def plain(some: list[int]) -> torch.Tensor:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in some]
        output = pipe([PROMPT] * len(some), generator=generators, num_inference_steps=given.steps, output_type="pt")
        return (output.images.float().cpu().clamp(0, 1) * 255).round() / 255

    alone = torch.cat([plain([seed]) for seed in seeds])

    def row(name: str, images: torch.Tensor) -> None:
        apart = (images - alone).abs() * 255
        print(f"{name:34}{float(apart.max()):8.1f}{float(apart.mean()):8.3f}")

    print(f"{given.model}, {given.dtype}, {given.steps} steps, {given.seeds} seeds: steps of 1/255 from plain\n")
    print(f"{'':34}{'largest':>8}{'mean':>8}")
    row("plain, in a batch", plain(seeds))
    for states in ("model", "float32"):
        settings = {"num_inference_steps": given.steps, "states": states}
        sampler = registry.make_sampler(pipe, PROMPT, settings)
        every = list(range(1, given.steps))
        row(f"states {states}", torch.cat([through(sampler, [seed]) for seed in seeds]))
        row(f"states {states}, cut at each step", torch.cat([through(sampler, [seed], every) for seed in seeds]))
        row(f"states {states}, in a batch", through(sampler, seeds))


if __name__ == "__main__":
    main()
