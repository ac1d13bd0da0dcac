"""Several micro-batches in flight, by a simulated clock: budgets hold, the journal is the local one, nobody waits."""

import random as chance
import time
from dataclasses import replace

import pytest

from noisewright.run.reserve import SAVING_SECONDS
from noisewright.run.verbs import Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.halving import halving
from runs import STEPS, content, go, open_run, sde


class Simulated:
    """Workers that take a time of their own for each job; whoever waits goes to the moment when the next is done."""

    def __init__(self, *takes):
        """``takes``: for each worker, what gives the seconds of a job."""
        self.workers = len(takes)
        self.takes = takes
        self.now = 0.0
        self.free = [0.0] * len(takes)
        self.made = [0] * len(takes)

    def start(self, worker, request=None):
        self.worker = worker

    def submit(self, job):
        number = min(range(self.workers), key=self.free.__getitem__)
        begins, takes = max(self.now, self.free[number]), self.takes[number](job)
        self.free[number] = begins + takes
        self.made[number] += 1
        return Simulation(self, job, begins + takes, takes)

    def wait(self, handles):
        self.now = max(self.now, min(one.ends for one in handles))

    def close(self):
        pass


class Simulation:
    def __init__(self, executor, job, ends, takes):
        self.executor, self.job, self.ends, self.takes = executor, job, ends, takes
        self.outcome = None

    def done(self):
        return self.executor.now >= self.ends

    def result(self):
        self.executor.now = max(self.executor.now, self.ends)
        if self.outcome is None:
            self.outcome = self.executor.worker.do(self.job)
            metered = {**self.outcome.metered, "seconds": {**self.outcome.metered["seconds"], "denoise": self.takes}}
            self.outcome = replace(self.outcome, took=self.takes, metered=metered, steady_step=None)
        return self.outcome


def varied(seed):
    """What takes now longer, now shorter."""
    draws = chance.Random(seed)
    return lambda job: draws.choice([0.3, 1.0, 4.0]) if job.kind == "generate" else draws.choice([0.0, 0.5])


CASES = {
    "images": {"budget": "23 images"},
    "one": {"budget": "1 images"},
    "nfe": {"budget": f"{11 * STEPS + 3} nfe"},
    "target": {"budget": "40 images", "target": Target({"brightness": 0.617})},
    "previews": {"search": halving, "budget": "150 nfe"},
}


def done(root, executor=None, search=None, **more):
    run = open_run(root, sde(), executor=executor, **more)
    stopped = go(run, **({} if search is None else {"search": search}))
    return run, stopped


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", CASES)
def test_whoever_is_first_the_journal_is_the_local_one_and_no_budget_is_passed(tmp_path, name, workers):
    local, stopped = done(tmp_path / "local", **CASES[name])
    for seed in range(3):
        executor = Simulated(*(varied(f"{seed}-{number}") for number in range(workers)))
        run, also = done(tmp_path / f"far-{seed}", executor, **CASES[name])
        assert also == stopped
        assert content(tmp_path / f"far-{seed}") == content(tmp_path / "local")
        assert run.best.id == local.best.id
        for spent, limit in ((run.spent.images, run.budget.images), (run.spent.nfe, run.budget.nfe)):
            assert limit is None or spent <= limit


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_budget_in_seconds_ends_within_a_micro_batch(tmp_path, monkeypatch, workers):
    each, limit = 1.0, SAVING_SECONDS + 20.0
    executor = Simulated(*[lambda job: each if job.kind == "generate" else 0.0] * workers)
    monkeypatch.setattr(time, "perf_counter", lambda: executor.now)
    run = open_run(tmp_path / "run", MixtureSampler(steps=2), executor=executor, budget=f"{limit} s")
    assert go(run) == "budget"
    assert executor.now <= limit + each
    assert executor.now >= limit - SAVING_SECONDS - 3 * each, "it was used"
    assert sum(executor.made) > 0
    assert run.spent.images >= 3 * workers * (20 - 4), "by all of them"


def test_a_straggler_holds_up_nobody_but_by_its_own_last_job(tmp_path):
    jobs, slow = 90, 10.0
    speeds = [1.0, 1.0, slow]
    executor = Simulated(*[lambda job, each=each: each if job.kind == "generate" else 0.0 for each in speeds])
    run, _ = done(tmp_path / "run", executor, budget=f"{jobs * 3} images")
    assert run.spent.images == jobs * 3
    at_best = jobs / sum(1 / each for each in speeds)
    assert executor.now <= at_best + slow + 1
