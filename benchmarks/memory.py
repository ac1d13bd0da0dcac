"""Whether memory grows with the number of candidates: peak resident memory of best-of-64 and best-of-512."""

from __future__ import annotations

import argparse
import subprocess
import sys

CHILD = """
import resource, sys
import noisewright as nw
nw.search("noisewright/shapes", "a red circle", verifier="shapes-clip", judge=[], budget=int(sys.argv[1]),
          num_inference_steps=int(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(count: int, steps: int) -> float:
    """Peak resident memory in MiB of a whole process that searches ``count`` candidates (Linux counts in KiB)."""
    command = [sys.executable, "-c", CHILD, str(count), str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="few steps do: memory does not depend on them")
    given = parser.parse_args()
    peaks = {count: peak_mib(count, given.steps) for count in (64, 512)}
    for count, peak in peaks.items():
        print(f"N = {count:4}: peak {peak:7.1f} MiB")
    print(f"growth {100 * (peaks[512] / peaks[64] - 1):.1f} % (aim: at most 10 %)")


if __name__ == "__main__":
    main()
