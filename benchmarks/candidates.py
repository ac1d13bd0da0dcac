"""What many candidates of a search cost beside the model: time, memory, journal, images, reopening.

On the exact mixture sampler, whose own work is next to nothing; memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

CHILD = """
import contextlib, sys, tempfile, time
from pathlib import Path
from noisewright import registry
from noisewright.run.budget import parse_budget
from noisewright.errors import BudgetExhausted
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.diffusion.solvers import Ddim
from noisewright.run.store import Store
from noisewright.verifiers.pixels import Brightness

MIB = 2**20
name, count, arguments = sys.argv[1], int(sys.argv[2]), dict(one.split("=") for one in sys.argv[3:])
search, arguments = registry.make_search(name), registry.check_arguments(name, arguments)
eta = 1.0 if registry.entry("search", name).needs and "step noise" in registry.entry("search", name).needs else 0.0


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


def opened(root):
    sampler = MixtureSampler(steps=4, solver=Ddim(eta))
    store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "0"}, "now")
    return Run(store, sampler, [Brightness()], budget=parse_budget(count), batch_size=8)


with tempfile.TemporaryDirectory() as place:
    root, before = Path(place) / "run", resident()
    began = time.perf_counter()
    run = opened(root)
    with contextlib.suppress(BudgetExhausted):
        search(run, **arguments)
    run.render()
    took = time.perf_counter() - began
    model = sum(run.seconds.values())
    made, grown, best = len(run.candidates), resident() - before, run.best.id
    run.store.close()
    journal = (root / "journal.jsonl").stat().st_size / MIB
    images = sum(one.stat().st_size for one in (root / "images").iterdir()) / MIB
    del run
    began = time.perf_counter()
    again = opened(root)
    reopened = time.perf_counter() - began
    assert again.best.id == best
    again.store.close()
print(made, 1000 * (took - model) / made, journal, images, grown, resident(), reopened)
"""
CASES = (
    ("random",),
    ("zero-order",),
    ("refine",),
    ("refine", "method=cmaes", "dimensions=10"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    heads = ("made", "ms each", "journal MiB", "images MiB", "grown MiB", "all MiB", "reopened s")
    print(f"{'search':32}" + "".join(f"{head:>13}" for head in heads))
    for name, *arguments in CASES:
        command = [sys.executable, "-c", CHILD, name, str(given.count), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{' '.join([name, *arguments]):32}" + "".join(f"{float(one):13.2f}" for one in done.stdout.split()))


if __name__ == "__main__":
    main()
