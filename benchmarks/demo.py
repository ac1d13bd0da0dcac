"""What ``make demo``'s command takes, by the type of numbers: whole processes, in turns, and who wins.

    python benchmarks/demo.py [--repeats 5] [--other .../bin/noisewright]

``--other`` is the command of another version (its own environment), which is run in float32 besides. The first run of
each way is not counted: ``auto`` makes its trial there, which is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a blue circle, a yellow star and a red square"


def whole(command: str, images: int, *options: str) -> tuple[float, dict]:
    """Seconds of a process, and what it printed."""
    with tempfile.TemporaryDirectory() as place:
        asked = ["--budget", f"{images} images", "--out", f"{place}/run", "--json"]
        line = [command, "generate", PROMPT, *asked, *options]
        began = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        run = json.loads((Path(place) / "run" / "run.json").read_text())
        return took, {**json.loads(done.stdout), "dtype": run["spec"]["sampler"]["dtype"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--other", help="the command of another version")
    given = parser.parse_args()
    own = str(Path(sys.executable).parent / "noisewright")
    ways = {"float32": (own, "--dtype", "float32"), "auto": (own, "--dtype", "auto")}
    if given.other:
        ways = {"the other version": (given.other, "--dtype", "float32"), **ways}
    took: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, dict] = {}
    for number in range(given.repeats + 1):
        for name, (command, *options) in ways.items():
            seconds, last[name] = whole(command, given.images, *options)
            took[name] += [seconds] if number else []
    first = next(iter(ways))
    print(f"best of {given.images}, whole processes, medians of {given.repeats}")
    print(f"{'':20}{'type':>10}{'seconds':>9}{'times faster':>20}{'winner':>8}{'score':>9}{'run itself':>12}")
    for name, values in took.items():
        ratios = [other / own for own, other in zip(values, took[first], strict=True)]
        shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        best = last[name]["best"]
        score = next(iter(best["scores"].values()))
        print(f"{name:20}{last[name]['dtype']:>10}{statistics.median(values):9.2f}{shown:>20}{best['seed']:>8}"
              f"{score:9.3f}{last[name]['seconds']['total']:12.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
