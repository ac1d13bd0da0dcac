"""Many prompts by one ``generate --prompt-file`` against a process a prompt, on the bundled model, in turns."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noisewright.shapes.prompts import load_prompts

COMMAND = [sys.executable, "-m", "noisewright", "generate"]


def timed(commands: list[list[str]]) -> float:
    """Seconds of commands one after the other."""
    began = time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def best(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["summary"]["best"]["id"]


def compare(count: int, budget: str, repeats: int, workers: int = 0) -> None:
    """Time a list of prompts in one process, in a process a prompt, and with Ray workers where there are to be some."""
    prompts = load_prompts("test")[:count]
    settings = ["--budget", budget]
    ways = {"one --prompt-file": [], "a process a prompt": []}
    dealt = f"--executor ray, {workers}"
    if workers:
        ways[dealt] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "prompts.txt").write_text("\n".join(prompts))
            file = ["--prompt-file", str(place / "prompts.txt"), "--out"]
            ways["one --prompt-file"].append(timed([[*COMMAND, *file, str(place / "together"), *settings]]))
            ways["a process a prompt"].append(timed([
                [*COMMAND, prompt, "--out", str(place / "apart" / str(number)), *settings]
                for number, prompt in enumerate(prompts)
            ]))  # fmt: skip
            made = ["together"]
            if workers:
                made.append("dealt")
                more = ["--executor", "ray", "--workers", str(workers)]
                ways[dealt].append(timed([[*COMMAND, *file, str(place / "dealt"), *settings, *more]]))
            for folder in made:
                runs = sorted((place / folder).iterdir())
                same = [best(run) == best(place / "apart" / str(number)) for number, run in enumerate(runs)]
                assert same == [True] * len(prompts), "the images differ"
    apart = ways["a process a prompt"]
    print(f"{len(prompts)} prompts of {budget} on noisewright/shapes, {repeats} turns, the same images")
    for way, seconds in ways.items():
        ratios = [one / other for one, other in zip(seconds, apart, strict=True)]
        print(f"{way:22}{statistics.median(seconds):8.1f} s   ratio {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--budget", default="4 images")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    compare(given.prompts, given.budget, given.repeats)


if __name__ == "__main__":
    main()
