"""How long ``noisewright --help`` takes: the median of whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 15


def main() -> None:
    command = [str(Path(sys.executable).parent / "noisewright"), "--help"]
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    seconds = seconds[1:]  # the first reads the files from the disk
    print(
        f"noisewright --help: median {statistics.median(seconds):.3f} s, "
        f"worst {max(seconds):.3f} s of {REPEATS} (aim: under 0.3 s)"
    )


if __name__ == "__main__":
    main()
