"""How long it takes to measure a model's errors and to fit a schedule, and whether memory grows with the images.

Whole processes of the command line on the bundled model, with loading. The pictures are rendered scenes of 25 prompts.
With ``--examples`` the commands that docs/schedules.md shows, as they stand there, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from noisewright.shapes.prompts import load_prompts, parse, sample_scene
from noisewright.shapes.scene import render

PROMPTS = 25
STEPS = 10

MEMORY = (500, 2000)
"""Pictures whose peaks of memory are compared; both make whole windows, and so batches of one size."""


def write_pictures(folder: Path, count: int) -> None:
    """``count`` pictures of the first dev prompts in turn, each with its prompt in a .txt file."""
    folder.mkdir()
    chosen = load_prompts("dev")[:PROMPTS]
    for number in range(count):
        prompt = chosen[number % PROMPTS]
        scene = sample_scene(np.random.default_rng(number), parse(prompt))
        Image.fromarray(render(scene)).save(folder / f"{number:05}.png")
        (folder / f"{number:05}.txt").write_text(prompt, encoding="utf-8")


def run(name: str, arguments: list[str], threads: int, aim: str = "", place: str | None = None) -> float:
    """Times ``noisewright ...`` in a directory, prints the line, and returns the peak of its resident memory in MiB."""
    given = [sys.executable, "-m", "noisewright", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    child = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd=place)
    errors = child.stderr.read().decode() if child.stderr else ""
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{name} failed: {errors.strip().splitlines()[-1]}")
    peak = used.ru_maxrss / 1024
    print(f"{name:44}{time.perf_counter() - began:8.1f} s{peak:9.0f} MiB   {aim}", flush=True)
    return peak


def documented() -> list[list[str]]:
    """The commands of the first shell block of docs/schedules.md."""
    text = (Path(__file__).parents[1] / "docs" / "schedules.md").read_text(encoding="utf-8")
    block = text.partition("```bash\n")[2].partition("```")[0]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("noisewright ")]


def examples(threads: int) -> None:
    """Times them in a new directory, with the 25 prompts that the page makes."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "prompts.txt").write_text("\n".join(load_prompts("dev")[::8]), encoding="utf-8")
        for given in documented():
            run(" ".join(given)[:100], given, threads, place=place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", action="store_true", help="time the commands of docs/schedules.md instead")
    parser.add_argument("--count", type=int, default=1000, help="pictures")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.examples:
        examples(given.threads)
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for count in (given.count, *MEMORY):
            if not (root / str(count)).is_dir():
                write_pictures(root / str(count), count)
        model = "noisewright/shapes"
        print(f"{given.threads} threads")
        keep, errors = ["--keep", f"{root}/keep"], f"{root}/errors.json"
        measure = ["schedule", "measure", model, *keep, "--images"]
        run(f"measure, 50 levels, {given.count} images",
            [*measure, f"{root}/{given.count}", "--levels", "50", "--out", errors], given.threads,
            "aim: under 180 s")  # fmt: skip
        peaks = [
            run(f"measure, 5 levels, {count} images",
                [*measure, f"{root}/{count}", "--count", str(count), "--levels", "5", "--out", f"{root}/memory.json"],
                given.threads)
            for count in MEMORY
        ]  # fmt: skip
        print(f"memory of {MEMORY[1] // MEMORY[0]} times the images: {100 * (peaks[1] / peaks[0] - 1):+.1f} %")
        fit = ["schedule", "fit", "--model", model, *keep, "--steps", str(STEPS), "--out", f"{root}/fit.json"]
        run(f"fit vrg, {STEPS} steps", [*fit, "--method", "vrg", "--errors", errors], given.threads, "aim: under 10 s")
        run(f"fit vrg, {STEPS} steps, dpm-solver-3",
            [*fit, "--method", "vrg", "--errors", errors, "--solver", "dpm-solver-3"], given.threads,
            "aim: under 10 s")  # fmt: skip
        run(f"fit dmn, {STEPS} steps", [*fit, "--method", "dmn"], given.threads, "aim: under 10 s")
        run(f"fit gits, {STEPS} steps, 64 samples", [*fit, "--method", "gits", "--prompt", "two red circles"],
            given.threads, "aim: under 120 s")  # fmt: skip


if __name__ == "__main__":
    main()
