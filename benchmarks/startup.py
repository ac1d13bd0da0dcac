"""How long the command line takes to begin: ``--help``, and the first image beside a plain diffusers script's.

Whole processes, in turns, each from its start to the moment that its image is a file, and to its end. Both make one
image of the bundled model by 25 steps; ``noisewright generate`` also loads a verifier and a judge, scores, and draws.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noisewright.outside.bundled import bundled

PROMPT = "a red circle and a blue square"
PLAIN = """
import sys
import torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
seed = torch.Generator("cpu").manual_seed(0)
pipe(sys.argv[2], num_inference_steps=25, guidance_scale=4.0, generator=seed).images[0].save(sys.argv[3])
"""
LOOK_SECONDS = 0.005
"""How often it is looked whether the image is there."""


def help_seconds(command: str, repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run([command, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]  # the first reads the files from the disk


def image_seconds(command: list[str], place: Path, pattern: str) -> tuple[float, float]:
    """Seconds from a process's start to its first image, and to its end."""
    began, first = time.perf_counter(), None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if first is None and next(place.glob(pattern), None) is not None:
            first = time.perf_counter() - began
        time.sleep(LOOK_SECONDS)
    ended = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return ended if first is None else first, ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--helps", type=int, default=15)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    command = str(Path(sys.executable).parent / "noisewright")
    seconds = help_seconds(command, given.helps)
    print(
        f"noisewright --help: median {statistics.median(seconds):.3f} s, "
        f"worst {max(seconds):.3f} s of {given.helps} (aim: under 0.3 s)"
    )
    found: dict[str, list[tuple[float, float]]] = {"plain diffusers": [], "noisewright generate": []}
    for number in range(given.images + 1):  # the first reads the files from the disk
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            plain = [sys.executable, "-c", PLAIN, str(bundled("noisewright/shapes")), PROMPT, str(place / "image.png")]
            ours = [command, "generate", PROMPT, "--budget", "1 images", "--dtype", given.dtype, "--out", f"{name}/run"]
            rows = image_seconds(plain, place, "image.png"), image_seconds(ours, place, "run/images/*.png")
        for row, into in zip(rows, found.values(), strict=True):
            into += [row] if number else []
    print(f"\n{'':24}{'first image, s':>16}{'end, s':>10}")
    for name, rows in found.items():
        print(f"{name:24}{statistics.median(one[0] for one in rows):16.2f}"
              f"{statistics.median(one[1] for one in rows):10.2f}")  # fmt: skip
    pairs = list(zip(*found.values(), strict=True))
    ratios = [[ours[k] / plain[k] for plain, ours in pairs] for k in (0, 1)]
    shown = [f"{statistics.median(some):.3f} ({min(some):.3f}..{max(some):.3f})" for some in ratios]
    print(f"ratio: {shown[0]} to the first image (aim: at most 1.1), {shown[1]} to the end")


if __name__ == "__main__":
    main()
