"""What a run takes on a quiet machine and beside other processes, by how OpenMP's threads wait for each other.

Whole processes of ``noisewright generate``, in turns; the seconds are the run's own, without loading. The ways:

- ``awake``: as torch does by itself (a variable ``OMP_...`` of the user's, so that nothing is decided);
- ``asleep``: ``OMP_WAIT_POLICY=PASSIVE``, by the user;
- ``decided``: nothing set: noisewright looks at the machine when it starts.

The other processes do nothing but take a processor each. They run for a minute before they count, since it is the mean
of the last minute that is looked at; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noisewright.outside.busy import OF_THE_USER, processors

PROMPT = "a green star left of a red circle"
WAYS = {
    "awake": {"OMP_NUM_THREADS": str(processors())},
    "asleep": {"OMP_NUM_THREADS": str(processors()), "OMP_WAIT_POLICY": "PASSIVE"},
    "decided": {},
}


def run_seconds(way: str, images: int, batch: int) -> tuple[float, bool]:
    """Seconds of a run, and whether noisewright said that its threads wait asleep."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_USER)}
    with tempfile.TemporaryDirectory() as place:
        command = [
            str(Path(sys.executable).parent / "noisewright"), "generate", PROMPT, "--budget", f"{images} images",
            "--batch-size", str(batch), "--judge", "none", "--out", f"{place}/run", "--json",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env={**own, **WAYS[way]}, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout)["seconds"]["total"]), "wait asleep" in done.stderr


def measured(name: str, given: argparse.Namespace) -> dict[str, float]:
    """The median of each way, printed as a row."""
    rows: dict[str, list[tuple[float, bool]]] = {way: [] for way in WAYS}
    for _ in range(given.repeats):
        for way, into in rows.items():
            into.append(run_seconds(way, given.images, given.batch))
    medians = {way: statistics.median(took for took, _ in some) for way, some in rows.items()}
    said = sum(one for _, one in rows["decided"])
    print(f"{name:22}" + "".join(f"{medians[way]:10.2f}" for way in WAYS) + f"{said:9} of {given.repeats}", flush=True)
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--others", type=int, nargs="+", default=[1], help="how many other processes, one row each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=float, default=75.0, help="seconds that the others run before they count")
    given = parser.parse_args()
    about = f"best of {given.images}, batch {given.batch}, {processors()} processors"
    print(f"{about}; seconds, medians of {given.repeats}")
    print(f"{'':22}" + "".join(f"{way:>10}" for way in WAYS) + f"{'said asleep':>14}")
    run_seconds("decided", 1, 1)  # the first reads the files from the disk
    quiet = measured("quiet", given)
    for count in given.others:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            time.sleep(given.before)
            busy = measured(f"beside {count} process{'es' * (count > 1)}", given)
        finally:
            for one in others:
                one.kill()
                one.wait()
        ratios = ", ".join(f"{way} {busy[way] / quiet['awake']:.2f}" for way in WAYS)
        print(f"  times as long as quiet and awake: {ratios}", flush=True)


if __name__ == "__main__":
    main()
