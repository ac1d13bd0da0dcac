"""The plan of measuring: stages in their order, each resumable, and what they leave in the result files."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from _evidence import grader, pools, scoring
from _evidence.grids import EQUAL_BY, GRADER_PORT, GRIDS, Grid, equal_grids, joined, short
from _evidence.kept import Held, Lacking, Point, read_table, write_pool, write_table
from _evidence.places import ROOT, weights
from _evidence.plans import PLANS, Block
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.store import is_benchmark, open_results


@dataclass(frozen=True)
class Stage:
    """A part of the measuring.

    Attributes:
        claims: that it serves.
        kind: ``pool``, ``grid``, ``costs``, ``fids`` or ``tuned``.
        name: of the pool, the grid or the ground.
        prompts: how many.
        count: candidates of each; of a pool only.
        minutes: on two quiet cores, about.
    """

    claims: tuple[int, ...]
    kind: str
    name: str
    prompts: int = 0
    count: int = 0
    minutes: float = 1.0

    @property
    def text(self) -> str:
        size = f", {self.prompts} prompts" if self.prompts else ""
        return f"{self.kind} {self.name}{size}{f' x {self.count} candidates' if self.count else ''}"


STAGES = (
    Stage((1, 2, 3, 4, 5, 10), "pool", "shapes-10", 200, 32, 8),
    Stage((10,), "pool", "dev-10", 100, 32, 4),
    Stage((9, 2), "pool", "cifar10-10", 320, 32, 10),
    Stage((1, 5), "pool", "shapes-5", 50, 64, 2),
    Stage((1, 5), "pool", "shapes-25", 50, 64, 8),
    Stage((6,), "costs", "cost", minutes=2),
    Stage((6,), "pool", "small-10", 200, 32, 5),
    Stage((8,), "fids", "cifar10", minutes=6),
    Stage((8,), "fids", "shapes", minutes=25),
    Stage((2,), "grid", "scaling", 20, 0, 8),
    Stage((7,), "grid", "class-slides", 20, 0, 6),
    Stage((9,), "pool", "cifar10-10", 320, 64, 10),
    Stage((2,), "grid", "scaling-cifar10", 20, 0, 8),
    Stage((1, 5), "pool", "shapes-50", 50, 64, 16),
    Stage((3, 4), "pool", "shapes-10", 200, 96, 15),
    Stage((1,), "pool", "shapes-5", 50, 128, 2),
    Stage((6,), "pool", "small-10", 200, 64, 5),
    Stage((2,), "pool", "cifar10-long", 40, 256, 8),
    Stage((7,), "grid", "class-slides", 50, 0, 9),
    Stage((2,), "grid", "scaling", 50, 0, 12),
    Stage((3,), "grid", "recall", 320, 0, 35),
    Stage((2,), "grid", "scaling-cifar10", 40, 0, 8),
    Stage((2, 3), "pool", "shapes-10", 200, 256, 40),
    Stage((8,), "tuned", "cifar10", minutes=40),
    Stage((8,), "tuned", "shapes", minutes=45),
    Stage((11,), "grid", "equal-0.8", 100, 0, 12),
    Stage((11,), "grid", "equal-3.2", 50, 0, 22),
    Stage((11,), "grid", "equal-12.8", 16, 0, 26),
    Stage((11,), "grid", "equal-oracle-1.6", 100, 0, 10),
    Stage((11,), "grid", "equal-oracle-4.8", 100, 0, 27),
    Stage((11,), "grid", "equal-reward-1.6", 100, 0, 24),
    Stage((11,), "grid", "equal-oracle-18", 100, 0, 50),
    Stage((11,), "grid", "equal-reward-4.8", 100, 0, 60),
    Stage((11,), "grid", "equal-reward-18", 12, 0, 28),
)
"""Cheapest and most telling first, widest intervals last; 11 wants a quiet machine."""


def run(given: argparse.Namespace) -> int:
    """``plan``, ``measure`` and ``distil`` of ``benchmarks/evidence.py``."""
    given.runs = given.runs.absolute()
    some = [one for one in STAGES if not given.claims or set(one.claims) & set(given.claims)]
    some = [one for one in some if not given.kinds or one.kind in given.kinds]
    if given.stages and (wrong := set(given.stages) - {one.name for one in STAGES}):
        names = ", ".join(dict.fromkeys(one.name for one in STAGES))
        print(f"expected --stages of {names}, got {', '.join(sorted(wrong))}", file=sys.stderr)
        return 2
    some = [one for one in some if not given.stages or one.name in given.stages]
    if given.what == "plan":
        for one in some:
            claims = ", ".join(map(str, one.claims))
            print(f"{one.minutes:5.0f} min  {one.text:58} claims {claims:18} {_done(one, given)}")
        print(f"{sum(one.minutes for one in some):5.0f} min in all, on two quiet cores")
        return 0
    if given.what == "distil":
        distil(given)
        return 0
    ends = time.monotonic() + 60 * given.minutes
    for one in some:
        if time.monotonic() >= ends:
            break
        if weights("shapes-small") == "" and one.name in ("small-10", "cost"):
            print(f"left out: {one.text}: noisewright/shapes-small is not there", flush=True)
            continue
        if given.images_only and one.kind != "pool":
            continue
        began = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {one.text} (about {one.minutes:g} min)", flush=True)
        KINDS[one.kind](one, given, ends)
        print(f"  {(time.monotonic() - began) / 60:.1f} min", flush=True)
    if not given.images_only:
        distil(given)
    return 0


def _done(one: Stage, given: argparse.Namespace) -> str:
    if one.kind == "pool":
        blocks = _blocks(one)
        made = sum(block.file(given.runs).exists() for block in blocks)
        scored = sum(all(scoring.file_of(block, name, given.runs).exists() for name in scoring.scorers_of(block.plan))
                     for block in blocks)  # fmt: skip
        return f"{made} of {len(blocks)} blocks made, {scored} scored"
    if one.kind == "grid":
        place = GRIDS[one.name].place(given.runs)
        return f"{len(open_results(place).done)} cells done" if is_benchmark(place) else "not begun"
    return ""


# Pools


def _blocks(one: Stage) -> list[Block]:
    return replace(PLANS[one.name], prompts=one.prompts, count=one.count).blocks()


def fill(block: Block, root: Path, images_only: bool) -> None:
    """A block, made and scored, in a worker."""
    torch.set_num_threads(1)
    pools.make(block, root)
    if not images_only:
        scoring.score(block, root)


def _pool(one: Stage, given: argparse.Namespace, ends: float) -> None:
    each(_lacking(_blocks(one), given), given, ends)


def _lacking(blocks: Sequence[Block], given: argparse.Namespace) -> list[Block]:
    return [
        block for block in blocks
        if not block.file(given.runs).exists() or (not given.images_only and any(
            not scoring.file_of(block, name, given.runs).exists() for name in scoring.scorers_of(block.plan)))
    ]  # fmt: skip


def each(blocks: Sequence[Block], given: argparse.Namespace, ends: float) -> None:
    """Fill blocks in processes; none is begun after the end."""
    waiting = list(blocks)
    if not waiting:
        return
    began, said, done = time.monotonic(), time.monotonic(), 0
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        running = {pool.submit(fill, waiting.pop(0), given.runs, given.images_only)
                   for _ in range(min(given.workers, len(waiting)))}  # fmt: skip
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done += 1
                if waiting and time.monotonic() < ends:
                    running.add(pool.submit(fill, waiting.pop(0), given.runs, given.images_only))
            if time.monotonic() - said > 60:
                said = time.monotonic()
                left = (said - began) / done * len(waiting) / 60
                print(f"  {done} of {len(blocks)} blocks, {left:.0f} min left", flush=True)


# Benchmarks


def _grid(one: Stage, given: argparse.Namespace, ends: float) -> None:
    grid = GRIDS[one.name]
    place = grid.place(given.runs)
    prompts = one.prompts
    if is_benchmark(place):  # it may have grown beyond this stage
        prompts = max(prompts, len(open_results(place).spec.prompts))
    left = ends - time.monotonic()
    timer = threading.Timer(max(1.0, left), os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    said = [time.monotonic()]

    def show(done: float, seconds: float | None, text: str) -> None:
        if time.monotonic() - said[0] > 60:
            said[0] = time.monotonic()
            print(f"  {done:.0%}, {(seconds or 0) / 60:.0f} min left", flush=True)

    with grader.serving(GRADER_PORT) if one.name == "class-slides" else nullcontext():
        timer.start()
        try:
            found = run_benchmark(grid.make(prompts), place, workers=given.workers, show=show)
        finally:
            timer.cancel()
    for row in found.failed[:3]:
        print(f"  failed: {row['coordinates']}: {row['error']}", flush=True)


def _costs(one: Stage, given: argparse.Namespace, ends: float) -> None:
    from _evidence.costs import cost_table

    try:
        Held(given.results).table("cost")
    except Lacking:
        write_table(given.results / "cost.jsonl", cost_table())


def _fids(one: Stage, given: argparse.Namespace, ends: float) -> None:
    from _evidence.vrg import measure_fids

    _until(measure_fids(one.name, given.workers), ends)


def _tuned(one: Stage, given: argparse.Namespace, ends: float) -> None:
    program = "import sys; from _evidence.tuned import measure; measure(sys.argv[1], int(sys.argv[2]))"
    words = [sys.executable, "-c", program, one.name, str(given.workers)]
    _until(words, ends)


def _until(words: Sequence[str], ends: float) -> None:
    """Run a program that keeps what it has done, and end it with what it started where time is over."""
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    process = subprocess.Popen(  # whose own paths are as from the repository's root
        words, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, start_new_session=True, cwd=ROOT
    )
    try:
        process.wait(max(1.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


KINDS: dict[str, Callable[[Stage, argparse.Namespace, float], None]] = {
    "pool": _pool, "grid": _grid, "costs": _costs, "fids": _fids, "tuned": _tuned
}  # fmt: skip


# In short


def distil(given: argparse.Namespace) -> None:
    """Write the result files of what there is; what is not there leaves its file as it is."""
    torch.set_num_threads(1)  # small networks on one picture each: more threads wait for each other
    _pools(given)
    for name in ("scaling", "scaling-cifar10", "class-slides"):
        _short([GRIDS[name]], name, given)
    for name in EQUAL_BY:
        _short(equal_grids(name), name, given, goes_on=True)
    _recall(given)
    _vrg(given)


def _pools(given: argparse.Namespace) -> None:
    if given.kinds and "pool" not in given.kinds:
        return
    blocks = [block for one in PLANS.values() for block in one.blocks() if block.file(given.runs).exists()]
    each(_lacking(blocks, given), given, float("inf"))  # by weights that are new since they were made
    for name, one in PLANS.items():
        if any(block.file(given.runs).exists() for block in one.blocks()):
            write_pool(given.results / f"pool-{name}.npz", scoring.gathered(one, given.runs))


def _by_budget(made: Sequence[Point], held: Sequence[Point]) -> tuple[Point, ...]:
    """Of each budget the rows of more prompts, those made now where there are as many; budgets in order."""
    found: dict[str, list[Point]] = {}
    for some in (held, made):
        for budget in {one.labels["budget"] for one in some}:
            rows = [one for one in some if one.labels["budget"] == budget]
            if _prompts(rows) >= _prompts(found.get(budget, [])):
                found[budget] = rows
    return tuple(one for budget in sorted(found, key=lambda one: float(one.split()[0])) for one in found[budget])


def _prompts(rows: Sequence[Point]) -> int:
    return max((len(one.of("number")) for one in rows), default=0)


def _short(grids: Sequence[Grid], name: str, given: argparse.Namespace, goes_on: bool = False) -> None:
    """Write a result file; where it ``goes_on``, budgets that it has of more prompts stay in it."""
    there = [grid for grid in grids if is_benchmark(grid.place(given.runs))]
    tables = [short(grid, open_results(grid.place(given.runs))) for grid in there]
    tables = [one for one in tables if one.points]
    if not tables:
        return
    made, file = joined(tables), given.results / f"{name}.jsonl"
    if goes_on and file.is_file() and (held := read_table(file)).about["weights"] == made.about["weights"]:
        made = replace(made, points=_by_budget(made.points, held.points))
    write_table(file, made)


def _recall(given: argparse.Namespace) -> None:
    place = GRIDS["recall"].place(given.runs)
    if not is_benchmark(place) or not given.data:
        return
    from _evidence.recall import recall_table

    try:
        pool = scoring.gathered(PLANS["cifar10-10"], given.runs)
        write_table(given.results / "recall.jsonl", recall_table(pool, open_results(place), given.runs, given.data))
    except Lacking as error:
        print(f"recall: lacking {error}", flush=True)


def _vrg(given: argparse.Namespace) -> None:
    if given.claims and 8 not in given.claims:
        return
    from _evidence.vrg import TABLES, vrg_tables

    files = {name: given.results / f"{name}.jsonl" for name in TABLES}
    before = {name: read_table(file) for name, file in files.items() if file.is_file()}
    for name, one in vrg_tables(before).items():
        write_table(files[name], one)
