"""What a benchmark's grid costs beside its runs.

Two parts:

- ``own``: the cells of a grid by ``noisewright benchmark``, over the same requests by ``nw.search`` on the loaded
  pipeline, in turns in the same process; with nothing shared between cells, so that both do the same runs. In seconds
  of the clock, and of this process's computing, which a busy machine stretches less.
- ``large``: a grid of ``--cells`` cells with ``--candidates`` candidates each, whose rows a stand-in writes: how long
  it takes to begin and to fill, to begin again where all is done, and to open and read, and the memory of each.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import noisewright as nw
from noisewright.benchmark import drive
from noisewright.benchmark.cells import Cell, cells_of
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.sharing import Task
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.benchmark.store import open_results
from noisewright.shapes.prompts import load_prompts

SEARCHES = ("zero-order", "evolution", "refine")
POINTS = 10
"""Cells of a prompt of the large grid: budgets."""


# Rows that nobody computed


def row_of(cell: Cell, candidates: int) -> tuple[CellRow, list[CandidateRow]]:
    """Rows of a cell, as a run of so many images would give them; numbers by the cell's digest."""
    run, number = f"cells/{cell.digest}", int(cell.digest[:8], 16) / 2**32
    ids = [hashlib.sha256(f"{cell.digest} {k}".encode()).hexdigest()[:16] for k in range(candidates)]

    def shown(place: int, name: str) -> Any:
        scores = {"clip": number + place / 100, "aesthetic": number - place / 200, "oracle": number}
        return {"id": ids[place], "seed": place, "scores": scores, "file": f"{run}/{name}.png"}

    seconds = {"encode": 0.1, "denoise": 1.5, "decode": 0.2, "verify": 0.3, "total": 2.2 + number}
    curve: Any = [[k + 1, 10 * (k + 1), 0.1 * k, number + k / 100] for k in range(0, candidates, 6)]
    row: CellRow = {
        "cell": cell.digest, "coordinates": dict(cell.coordinates), "prompt": cell.prompt.text,
        "number": cell.prompt.number, "category": cell.prompt.category, "seed": cell.request.seed,
        "repeat": cell.repeat, "status": "done", "run": run, "shared": False, "images": candidates,
        "nfe": 10 * candidates, "forwards": 20 * candidates, "seconds": seconds, "stopped": "budget",
        "verifiers": ["clip", "aesthetic"], "judges": ["oracle"], "best": shown(candidates - 1, "best"),
        "baseline": shown(0, "baseline"), "curve": curve, "diversity": number, "warnings": [],
    }  # fmt: skip
    rows: list[CandidateRow] = [
        {"cell": cell.digest, "id": key, "seed": k, "order": k, "steps": 10, "nfe": 10 * (k + 1), "seconds": 0.03 * k,
         "scores": {"clip": number + k / 100, "aesthetic": number - k / 200}, "file": f"{run}/images/{key}.png"}
        for k, key in enumerate(ids)
    ]  # fmt: skip
    return row, rows


class StandIn:
    """A workshop that computes nothing.

    Args:
        candidates: of each cell.
    """

    def __init__(self, candidates: int) -> None:
        self.candidates = candidates
        self.made = 0

    def __call__(self, *given: Any) -> StandIn:
        return self

    def do(self, task: Task, tell: Any = None) -> Iterator[tuple[CellRow, list[CandidateRow]]]:
        for cell in task.cells:
            self.made += 1
            yield row_of(cell, self.candidates)


def large_grid(cells: int) -> Spec:
    """A grid of so many cells: prompts, and :data:`POINTS` budgets."""
    budgets = tuple(Value(str(n), {"budget": [f"{n} images"]}) for n in range(8, 8 * (POINTS + 1), 8))
    prompts = tuple(SetPrompt(f"a red circle and {k} more", k, f"kind {k % 5}") for k in range(1, cells // POINTS + 1))
    base = {"model": "noisewright/shapes", "verifier": ["clip", "aesthetic"], "judge": ["oracle"]}
    return Spec("large", "A large grid", base, (Axis("budget", budgets),), prompts, across="budget")


def large(out: Path, part: str, cells: int, candidates: int) -> str:
    """One part of what a large grid costs, in this process."""
    began = time.perf_counter()
    shop = StandIn(candidates)
    if part == "read":
        results = open_results(out)
        counted = sum(1 for _ in results.candidates())
        said = f"{len(results.rows)} rows and {counted} candidates read"
    else:
        with mock.patch.object(drive, "Workshop", shop):
            results = drive.run_benchmark(large_grid(cells), out)
        said = f"{shop.made} cells made, {len(results.rows)} rows there"
    memory = most_memory() / 2**30
    return f"{part:8}{time.perf_counter() - began:8.1f} s{memory:8.2f} GiB  {said}"


# The grid's own cost



def most_memory() -> int:
    """Bytes that this process had at most. ``ru_maxrss`` would count those of the process that it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def own(prompts: int, images: int, steps: int, rounds: int) -> None:
    """Print what the grid takes over the same runs one by one."""
    base = {"model": "noisewright/shapes", "num_inference_steps": steps, "verifier": ["shapes-clip"], "judge": ["none"],
            "budget": [f"{images} images"]}  # fmt: skip
    axes = (Axis("search", tuple(Value(name, {"search": name}) for name in SEARCHES)),)
    texts = load_prompts("test")[:prompts]
    spec = Spec("own", "Own cost", base, axes, tuple(SetPrompt(one, k) for k, one in enumerate(texts, start=1)))
    cells = list(cells_of(spec))
    pipe = nw.load("noisewright/shapes")

    class Warm(drive.Workshop):
        """A workshop whose model is loaded, as that of the plain runs is."""

        def pipe(self, request: Any) -> Any:
            return pipe

    took: dict[str, list[tuple[float, float]]] = {"plain": [], "grid": []}
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter(), time.process_time()
            for k, cell in enumerate(cells):
                nw.search(pipe, cell.request.prompt, verifier="shapes-clip", judge=[], budget=cell.request.budget,
                          search=cell.request.search, seed=cell.request.seed, num_inference_steps=steps,
                          out=Path(directory) / str(k), pictures=False, progress=False)  # fmt: skip
            between = time.perf_counter(), time.process_time()
            with mock.patch.object(drive, "Workshop", Warm):
                results = drive.run_benchmark(spec, Path(directory) / "grid")
            end = time.perf_counter(), time.process_time()
            if results.failed:
                raise RuntimeError(results.failed[0]["error"])
            if number:  # the first warms up
                took["plain"].append((between[0] - began[0], between[1] - began[1]))
                took["grid"].append((end[0] - between[0], end[1] - between[1]))
    print(f"{len(cells)} cells of {images} images in {steps} steps")
    for place, name in enumerate(("clock", "computing")):
        plain, grid = ([one[place] for one in took[what]] for what in ("plain", "grid"))
        ratios = [100 * (b / a - 1) for a, b in zip(plain, grid, strict=True)]
        print(
            f"{name:10} plain {statistics.median(plain):7.2f} s, grid {statistics.median(grid):7.2f} s, the grid's own "
            f"{statistics.median(ratios):+.1f} % [{min(ratios):+.1f}, {max(ratios):+.1f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["own", "large"])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--only", choices=["fill", "resume", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(large(given.out, given.only, given.cells, given.candidates))
        return
    if given.part in (None, "own"):
        own(given.prompts, given.images, given.steps, given.rounds)
    if given.part in (None, "large"):
        with tempfile.TemporaryDirectory() as directory:
            for part in ("fill", "resume", "read"):  # a process each, for the memory of each
                more = ["--cells", str(given.cells), "--candidates", str(given.candidates)]
                command = [sys.executable, __file__, "--only", part, "--out", f"{directory}/out", *more]
                print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
