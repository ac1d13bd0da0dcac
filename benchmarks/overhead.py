"""What noisewright costs over doing the same work by hand, on the bundled model.

Three ways to best-of-64 with ``shapes-clip``, timed in turns in this process:

- ``noisewright``: ``nw.search``, with journal, images on disk, metadata, contact sheet and curve;
- ``bare, batched``: the pipeline and the verifier called in a loop over the same batches, nothing saved;
- ``by hand, one at a time``: the loop that a person writes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import noisewright as nw
from noisewright import registry

PROMPT = "a green star left of a red circle"


def bare(pipe, verifier, steps: int, guidance: float, count: int, batch: int) -> float:
    """The best score of ``count`` seeds, by the plain pipeline in batches; nothing is kept."""
    scores: list[float] = []
    for first in range(0, count, batch):
        generators = [torch.Generator("cpu").manual_seed(first + k) for k in range(min(batch, count - first))]
        images = pipe(
            PROMPT, num_inference_steps=steps, guidance_scale=guidance, num_images_per_prompt=len(generators),
            generator=generators, output_type="pt",
        ).images  # fmt: skip
        scores.extend(verifier(images, PROMPT))
    return max(scores)


def timed(function, *args) -> float:
    began = time.perf_counter()
    function(*args)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", help="auto, or as noisewright.load takes it")
    given = parser.parse_args()

    pipe = nw.load(dtype=given.dtype)
    pipe.set_progress_bar_config(disable=True)
    default = registry.card(pipe.name_or_path)["default"]
    steps, guidance = default["num_inference_steps"], default["guidance_scale"]
    verifier = registry.make_verifier("shapes-clip")

    def ours(pictures: bool) -> None:
        nw.search(
            pipe, PROMPT, verifier=verifier, judge=[], budget=given.count, batch_size=given.batch, pictures=pictures
        )

    ways = {
        "noisewright": lambda: ours(True),
        "noisewright, no pictures": lambda: ours(False),
        "bare, batched": lambda: bare(pipe, verifier, steps, guidance, given.count, given.batch),
    }
    for way in ways.values():
        way()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    by_hand = timed(bare, pipe, verifier, steps, guidance, given.count, 1)

    base = seconds["bare, batched"]
    about = f"{str(pipe.dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    print(f"best of {given.count}, batch {given.batch}, {steps} steps, {about} (aim: at most 1.02 of bare)")
    print(f"{'':28}{'median s':>10}{'ratio to bare':>16}{'(range)':>16}")
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        spread = f"{min(ratios):.3f}..{max(ratios):.3f}"
        print(f"{name:28}{statistics.median(values):10.2f}{statistics.median(ratios):16.3f}{spread:>16}")
    ours_median = statistics.median(seconds["noisewright"])
    print(f"{'by hand, one at a time':28}{by_hand:10.2f}   {by_hand / ours_median:.2f} times noisewright's")


if __name__ == "__main__":
    main()
