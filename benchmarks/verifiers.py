"""How fast the bundled verifiers are: scores a second in batches against one at a time, in turns in this process, and a
verifier's share of the time of best of 64.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch

import noisewright as nw
from noisewright import registry

BUNDLED = ("shapes-clip", "shapes-aesthetic", "shapes-reward")
ORACLE = "shapes-oracle"
PROMPT = "a green star left of a red circle"


def speed(given: argparse.Namespace) -> None:
    """Scores a second, and the share of best of 64."""
    pipe = nw.load()
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(given.count, 3, 64, 64, generator=generator) * 255).round() / 255
    print(f"{torch.get_num_threads()} threads, batches of {given.batch}, {given.count} images of 64x64")
    print(f"{'verifier':20}{'batched /s':>12}{'alone /s':>10}{'ratio':>8}{'share of best of 64':>22}")
    for name in (*BUNDLED, ORACLE, "sharpness"):
        verifier = registry.make_verifier(name)
        verifier(images[: given.batch], PROMPT)  # warm up
        rates: dict[int, list[float]] = {given.batch: [], 1: []}
        for _ in range(given.repeats):
            for size, found in rates.items():
                began = time.perf_counter()
                for part in images.split(size):
                    verifier(part, PROMPT)
                found.append(len(images) / (time.perf_counter() - began))
        batched, alone = (statistics.median(found) for found in rates.values())
        with tempfile.TemporaryDirectory() as directory:
            seconds = nw.search(
                pipe, PROMPT, verifier=verifier, judge=[], budget=64, out=directory, pictures=False,
                batch_size=given.batch,
            ).seconds
        share = seconds["verify"] / seconds["total"]
        print(f"{name:20}{batched:12.0f}{alone:10.0f}{batched / alone:8.2f}{share:22.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=256, help="images")
    parser.add_argument("--batch", type=int, default=16, help="images at a time")
    parser.add_argument("--repeats", type=int, default=3)
    speed(parser.parse_args())


if __name__ == "__main__":
    main()
