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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--budget", default="4 images")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    prompts = load_prompts("test")[: given.prompts]
    settings = ["--budget", given.budget]
    together, apart = [], []
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "prompts.txt").write_text("\n".join(prompts))
            file = ["--prompt-file", str(place / "prompts.txt"), "--out", str(place / "together")]
            together.append(timed([[*COMMAND, *file, *settings]]))
            apart.append(timed([
                [*COMMAND, prompt, "--out", str(place / "apart" / str(number)), *settings]
                for number, prompt in enumerate(prompts)
            ]))  # fmt: skip
            runs = sorted((place / "together").iterdir())
            same = [best(run) == best(place / "apart" / str(number)) for number, run in enumerate(runs)]
            assert all(same), "the images differ"
    ratios = [one / other for one, other in zip(together, apart, strict=True)]
    print(f"{len(prompts)} prompts of {given.budget} on noisewright/shapes, {given.repeats} turns, the same images")
    print(f"one --prompt-file     {statistics.median(together):7.1f} s")
    print(f"a process a prompt    {statistics.median(apart):7.1f} s")
    print(f"ratio                 {statistics.median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
