"""What workers give: best of N by one and by two, what a candidate costs the driver, a list of prompts.

    python benchmarks/scale.py workers     2 Ray workers of one thread against 1 of one thread, on noisewright/shapes
                                           (with --device cuda: on one GPU, of which each has its part)
    python benchmarks/scale.py driver      the driver's cost of a candidate, with 64 simulated workers and with Ray's
    python benchmarks/scale.py prompts     20 prompts in one process, in one with 2 workers, and in 20 processes
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: the driver, and each worker, has one thread

import torch

import noisewright as nw
from noisewright.errors import BudgetExhausted
from noisewright.executors.pictures import encoded
from noisewright.executors.protocol import Job, MakeJob, Outcome, ScoreJob
from noisewright.run.budget import parse_budget
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.random import random as best_of_n
from noisewright.verifiers.pixels import Brightness

PROMPT = "a green star left of a red circle"
MIB = 2**20


# Best of N


def workers(given: argparse.Namespace) -> None:
    """Best of N by one worker of one thread, and by several, in turns; the runs are held to each other."""
    torch.set_num_threads(1)
    pipe: Any = "noisewright/shapes"
    part = None if given.device == "cpu" else 1 / given.workers
    took: dict[int, list[float]] = {1: [], given.workers: []}
    winners = set()
    with tempfile.TemporaryDirectory() as place:
        for count in took:
            with nw.RayExecutor(workers=count, cpus_per_worker=1, gpus_per_worker=part) as executor:
                for turn in range(given.repeats + 1):
                    result = nw.search(
                        pipe, PROMPT, budget=f"{given.images} images", judge=[], batch_size=given.batch,
                        pictures=False, executor=executor, out=Path(place) / f"{count}-{turn}", device=given.device,
                    )  # fmt: skip
                    winners.add(result.best.id)
                    if turn:  # the first is cold
                        took[count].append(result.seconds["total"])
    assert len(winners) == 1, "the winners differ"
    one, several = took.values()
    print(f"best of {given.images}, batch {given.batch}, workers of one thread, {given.repeats} repeats, one winner")
    for count, seconds in took.items():
        print(f"{count} worker{'s' * (count > 1):1}   {statistics.median(seconds):8.2f} s"
              f"   ({min(seconds):.2f} to {max(seconds):.2f})")  # fmt: skip
    ratio = statistics.median(one) / statistics.median(several)
    print(f"times faster {ratio:6.2f}   ({min(one) / max(several):.2f} to {max(one) / min(several):.2f})")


# The driver


class Canned:
    """A worker that takes no time: images and scores of before, pickled as they would come from elsewhere."""

    def __init__(self, side: int, batch: int) -> None:
        self.side, self.random = side, random.Random(0)
        self.pictures: dict[int, Outcome] = {}
        self.sizes = range(1, batch + 1)

    def do(self, job: Job) -> Outcome:
        if isinstance(job, ScoreJob):
            return Outcome(scores={name: [self.random.random() for _ in job.images] for name in job.names})
        return self.made(job)

    def made(self, job: MakeJob) -> Outcome:
        if len(job) not in self.pictures:
            generator = torch.Generator().manual_seed(len(job))
            images = torch.randint(256, (len(job), 3, self.side, self.side), generator=generator) / 255
            pngs, pixels = encoded(images, job.recipes)
            self.pictures[len(job)] = Outcome(
                images=images, broken=(None,) * len(job), flagged=(False,) * len(job), pngs=tuple(pngs),
                pixels=tuple(pixels),
            )  # fmt: skip
        return self.pictures[len(job)]


class Simulated:
    """Workers that are ready in no order: all that a job costs is what the driver does, pickling included."""

    def __init__(self, workers: int, canned: Canned) -> None:
        self.workers, self.canned, self.random = workers, canned, random.Random(1)

    def start(self, worker: Any, request: Any = None) -> None:
        pass

    def submit(self, job: Job) -> Simulation:
        sent = pickle.loads(pickle.dumps(job))
        return Simulation(pickle.dumps(self.canned.do(sent)))

    def wait(self, handles: Sequence[Simulation]) -> None:
        self.random.choice(list(handles)).ready = True

    def close(self) -> None:
        pass


class Simulation:
    def __init__(self, said: bytes) -> None:
        self.said, self.ready = said, False

    def done(self) -> bool:
        return self.ready

    def result(self) -> Outcome:
        return pickle.loads(self.said)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def driven(name: str, executor: Any, given: argparse.Namespace, count: int) -> None:
    """A run of many candidates whose workers take no time, and what it cost this process."""
    sampler = MixtureSampler(steps=4)
    marks: list[tuple[int, float]] = []

    def note(run: Run) -> None:
        if len(run.candidates) * 4 >= (len(marks) + 1) * count:
            marks.append((len(run.candidates), resident()))

    with tempfile.TemporaryDirectory() as place:
        store = Store.create(Path(place) / "run", {"sampler": sampler.description}, {"noisewright": "0"}, "now")
        run = Run(
            store, sampler, [Brightness()], budget=parse_budget(count), batch_size=given.batch, executor=executor,
            on_progress=note,
        )  # fmt: skip
        began, busy = time.perf_counter(), time.process_time()
        with suppress(BudgetExhausted):
            best_of_n(run)
        wall, busy = time.perf_counter() - began, time.process_time() - busy
        made = len(run.candidates)
        run.close()
        store.close()
    grown = ", ".join(f"{memory:.0f}" for _, memory in marks)
    print(f"{name:24}{made:8}{1000 * wall / made:10.2f}{1000 * busy / made:12.2f}   MiB at each quarter: {grown}")


class Sent:
    """Canned outcomes from Ray's workers: what is sent in place of the worker of this process."""

    def __init__(self, executor: nw.RayExecutor, canned: Canned) -> None:
        self.executor, self.canned = executor, canned

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)

    def start(self, worker: Any, request: Any = None) -> None:
        self.executor.start(self.canned, request)


def driver(given: argparse.Namespace) -> None:
    """What a candidate costs the driver: by simulated workers in this process, and by Ray's."""
    print(f"best of N, batch {given.batch}, images of {given.side} x {given.side}, workers that take no time")
    print(f"{'':24}{'made':>8}{'ms each':>10}{'CPU ms each':>12}")
    canned = Canned(given.side, given.batch)
    driven(f"{given.simulated} simulated workers", Simulated(given.simulated, canned), given, given.candidates)
    if given.ray:
        executor = Sent(nw.RayExecutor(workers=given.ray, cpus_per_worker=1), canned)
        driven(f"{given.ray} Ray workers", executor, given, given.candidates // 5)


# Prompts


def prompts(given: argparse.Namespace) -> None:
    """A list of prompts in one process, in one with Ray workers, and in a process a prompt."""
    import prompt_file

    prompt_file.compare(given.prompts, given.budget, given.repeats, given.workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("workers")
    one.add_argument("--images", type=int, default=64)
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--workers", type=int, default=2)
    one.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    one.add_argument("--repeats", type=int, default=5)
    one.set_defaults(do=workers)
    one = parts.add_parser("driver")
    one.add_argument("--candidates", type=int, default=10_000)
    one.add_argument("--simulated", type=int, default=64)
    one.add_argument("--ray", type=int, default=2, help="Ray workers, for a fifth of the candidates; 0 for none")
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--side", type=int, default=64)
    one.set_defaults(do=driver)
    one = parts.add_parser("prompts")
    one.add_argument("--prompts", type=int, default=20)
    one.add_argument("--budget", default="4 images")
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--workers", type=int, default=2)
    one.set_defaults(do=prompts)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
