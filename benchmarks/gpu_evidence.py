"""The pools of the evidence on a GPU: the blocks of many prompts go through the pipeline side by side.

    python benchmarks/gpu_evidence.py --minutes 9 --runs runs/evidence

leaves the images (and scores, made by processes on the CPU meanwhile) as ``benchmarks/evidence.py measure`` does,
which goes on from them, and distils them into ``--results``. Noises are drawn on the CPU by seed as everywhere, so the
images are those of a CPU but for rounding. A rounding may decide what a picture shows, so better make a pool on one
kind of machine: blocks that are there are kept, whoever made them; ``device.json`` says who ran this last.

Pools with previews (``cifar10-*``) and searches are not made here: previews belong to the engine's sampler, a prompt at
a time, and the classes' model is fast enough on a CPU. ``--tiny`` makes four candidates of two prompts of each pool on
the CPU, under ``tiny`` in ``--runs``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from _evidence import pools, scoring
from _evidence.kept import Lacking, write_pool
from _evidence.places import RESULTS, RUNS, weights
from _evidence.plans import PLANS, Block, PoolPlan

ORDER = ("shapes-10", "dev-10", "shapes-5", "shapes-25", "small-10", "shapes-50")
TINY = {"prompts": 2, "count": 4}
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError


def wanted(names: Sequence[str], tiny: bool) -> list[PoolPlan]:
    """The pools that can be made."""
    plans = [replace(PLANS[name], **TINY) if tiny else PLANS[name] for name in names]
    return [one for one in plans if one.level is None and weights(one.model)]


def made(plan: PoolPlan, root: Path, device: str, images: int, ends: float) -> list[Block]:
    """The blocks of a pool, those that are made until the end; fewer at once where memory runs out."""
    lacking = [block for block in plan.blocks() if not block.file(root).exists()]
    found: list[Block] = []
    while lacking and time.monotonic() < ends:
        at_once = max(1, images // len(lacking[0].seeds))
        some = [block for block in lacking[:at_once] if len(block.seeds) == len(lacking[0].seeds)]
        try:
            pools.make_together(some, root, device)
        except OUT_OF_MEMORY:
            if at_once == 1:
                raise
            images //= 2
            torch.cuda.empty_cache()
            continue
        lacking = lacking[len(some):]
        found += some
    return found


def score(block: Block, root: Path) -> None:
    """In a worker."""
    torch.set_num_threads(1)
    scoring.score(block, root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="of everything")
    parser.add_argument("--pools", nargs="+", choices=ORDER, default=list(ORDER))
    parser.add_argument("--at-once", type=int, default=2048, help="images in one call; halved where memory runs out")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="processes that score")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, two prompts of each pool")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    device = "cpu" if given.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a CUDA device, got none; --tiny runs on the CPU")
    root = given.runs.absolute() / ("tiny" if given.tiny else "")
    results = root / "results" if given.tiny else given.results
    root.mkdir(parents=True, exist_ok=True)
    name = platform.machine() if given.tiny else torch.cuda.get_device_name()
    (root / scoring.DEVICE).write_text(json.dumps({"device": name, "torch": torch.__version__}))
    began = time.monotonic()
    ends = began + 60 * given.minutes
    makes_until = began + 0.8 * 60 * given.minutes  # what is made has to be scored
    plans = wanted(given.pools, given.tiny)
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as workers:
        waiting: list[Future[None]] = []
        for plan in plans:
            since = time.monotonic()
            blocks = made(plan, root, device, 8 if given.tiny else given.at_once, makes_until)
            waiting += [workers.submit(score, block, root) for block in plan.blocks() if block.file(root).exists()]
            count, took = sum(len(block.seeds) for block in blocks), time.monotonic() - since
            print(f"{plan.name}: {count} images, {took:.1f} s, {count / max(took, 1e-9):.0f} a second", flush=True)
        for future in waiting:
            left = ends - time.monotonic()
            if left <= 0:
                future.cancel()
            else:
                future.result()
    for plan in plans:
        try:
            found = scoring.gathered(plan, root)
        except Lacking as error:
            print(f"{plan.name}: lacking {error}; the next call goes on", flush=True)
            continue
        write_pool(results / f"pool-{plan.name}.npz", found)
        print(f"{plan.name}: {len(found.numbers)} prompts of {found.count} candidates scored", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
