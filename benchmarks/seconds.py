"""What a budget in seconds buys, on the bundled model: when it ends, and how many images against the bare loop.

Each way is a process of its own, so that both start cold. The bare loop calls the pipeline and the verifier on batches
until the time is over, and keeps nothing; of the batch in which it runs out, the share before it counts. No judge is
asked in either.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile

OURS = """
import sys
import noisewright as nw
pipe = nw.load()
found = nw.search(pipe, {prompt!r}, judge=[], budget="{seconds} s", out={out!r})
print(found.images, found.seconds["total"])
"""
BARE = """
import time
import torch
import noisewright as nw
from noisewright import registry
pipe = nw.load()
pipe.set_progress_bar_config(disable=True)
default = registry.card(pipe.name_or_path)["default"]
verifier = registry.make_verifier("shapes-clip")
began, made, ends = time.perf_counter(), 0, [0.0]
while ends[-1] < {seconds}:
    generators = [torch.Generator("cpu").manual_seed(made + k) for k in range({batch})]
    images = pipe({prompt!r}, num_images_per_prompt={batch}, generator=generators, output_type="pt", **default).images
    verifier(images, {prompt!r})
    made += {batch}
    ends.append(time.perf_counter() - began)
share = ({seconds} - ends[-2]) / (ends[-1] - ends[-2])  # of the batch in which the time ran out
print(made - {batch} + {batch} * share, {seconds})
"""
PROMPT = "a green star left of a red circle"


def asked(program: str, **values: object) -> tuple[float, float]:
    """The images and the seconds that a program prints."""
    done = subprocess.run([sys.executable, "-c", program.format(**values)], check=True, capture_output=True, text=True)
    images, seconds = done.stdout.split()
    return float(images), float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[5, 10, 20])
    parser.add_argument("--batch", type=int, default=16, help="of the bare loop")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(f"{'budget':>8}{'ends at':>18}{'images':>9}{'bare loop':>11}{'share':>8}")
    for seconds in given.seconds:
        rows = []
        for _ in range(given.repeats):
            with tempfile.TemporaryDirectory() as place:
                images, took = asked(OURS, prompt=PROMPT, seconds=seconds, out=f"{place}/run")
            bare, _ = asked(BARE, prompt=PROMPT, seconds=seconds, batch=given.batch)
            rows.append((images, took, bare))
        ends = [took / seconds for _, took, _ in rows]
        images, bare = (statistics.median(row[column] for row in rows) for column in (0, 2))
        print(f"{seconds:6g} s{min(ends):10.1%}..{max(ends):.1%}{images:9.0f}{bare:11.1f}{images / bare:8.0%}")


if __name__ == "__main__":
    main()
