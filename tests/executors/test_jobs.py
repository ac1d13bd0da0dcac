"""Jobs and outcomes are values: pickled at any depth, and done in another process to the same journal."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

import noisewright as nw
from noisewright.diffusion.solvers import Ddim
from noisewright.executors.protocol import Executor, Interrupted, Leg, MakeJob, Outcome, Step, Worker
from noisewright.executors.worker import ModelWorker
from noisewright.run.particle import Candidate, Particle, noise_particle
from noisewright.run.verbs import Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.halving import halving
from noisewright.search.zero_order import zero_order
from noisewright.verifiers.pixels import Brightness, Sharpness
from pool import Failing, Forgetful, Pool, Shared
from runs import STEPS, content, go, open_run

MOVES = 50_000


def deep(moves):
    particle = noise_particle(0, STEPS)
    for draw in range(moves):
        particle = Particle("vary", (particle,), {"cosine": 0.99, "draw": draw}, 0, STEPS)
    return particle


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def far():
    return deep(MOVES)


def sde():
    return MixtureSampler(steps=STEPS, solver=Ddim(0.6))


@pytest.mark.slow
def test_a_particle_of_a_long_ancestry_is_pickled(far):
    again = pickle.loads(pickle.dumps(far))
    assert again == far
    assert again.root.seed == far.root.seed == 0
    one = Candidate(far, 0, {"a": 1.0}, "images/x.png", "0")
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.slow
def test_a_job_of_long_ancestries_is_pickled_once_for_all(far):
    others = [Particle("vary", (far,), {"cosine": 0.9, "draw": draw}, 0, STEPS) for draw in range(8)]
    ends = tuple(Particle("denoise", (one,), {"to": STEPS}, STEPS, STEPS) for one in others)
    known = {far.id: (torch.ones(1, 3, 2, 2), None)}
    steps = tuple(Step(one, (far,)) for one in others)
    job = MakeJob("generate", Leg(ends, tuple(others)), "final", steps, known, look=Leg(ends[:2], ends[2:4]))
    data = pickle.dumps(job)
    again = pickle.loads(data)
    assert again.leg == job.leg
    assert again.look == job.look
    assert again.steps == job.steps
    assert (again.kind, again.model, again.recipes, dict(again.estimates)) == ("generate", "final", (), {})
    assert torch.equal(again.known[far.id][0], known[far.id][0])
    assert again.leg.particles[0].parent is again.leg.sources[0], "ancestors are no longer shared"
    assert len(data) < 2 * len(pickle.dumps(far))


def test_an_interruption_keeps_what_it_interrupted_when_it_is_pickled():
    error = pickle.loads(pickle.dumps(Interrupted(Outcome(index=3, states=(torch.ones(2, 1), None)))))
    assert isinstance(error, KeyboardInterrupt)
    assert error.outcome.index == 3


def tree(run):
    """A search with most verbs, stochastic steps and states that have to be made again."""
    starts = run.noise(4)
    half = run.denoise(starts, 3)
    best = run.top(run.preview(half))[0].particle
    later = run.denoise(run.renoise(best, 1, 3), 4)
    run.finish(run.fork(later[0], 2))
    run.finish(later)
    moved = run.vary(run.blend(starts[:2], [0.5, 0.5]), 2, 0.9)
    run.finish([*moved, run.place(starts[0], [0.1, -0.2])])
    run.finish(half)


CASES = {
    "random": {"budget": "9 images"},
    "nfe": {"budget": f"{9 * STEPS + 1} nfe"},
    "target": {"budget": "40 images", "target": Target({"brightness": 0.617})},
    "halving": {"search": halving, "budget": "150 nfe"},
    "zero-order": {"search": zero_order, "budget": "14 images"},
    "tree": {"search": tree},
    "judged": {"budget": "9 images, 1000 s", "judges": [Sharpness()]},
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_another_process_gives_the_same_journal(tmp_path, processes, name, workers):
    def done(root, executor):
        more = dict(CASES[name])
        search = {"search": more.pop("search")} if "search" in more else {}
        verifiers = [Brightness(), Sharpness()] if name == "random" else [Brightness()]
        run = open_run(root, sde(), verifiers, executor=executor, **more)
        stopped = go(run, **search)
        judged = run.judge()
        run.close()
        return run, stopped, judged

    here, stopped, judged = done(tmp_path / "here", None)
    there, *found = done(tmp_path / "there", Shared(processes, workers))
    assert found == [stopped, judged]
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert there.spent.nfe == here.spent.nfe
    assert there.sampler.meter.nfe == 0, "the model was asked here"
    assert there.spent.nfe > 0


def test_a_pool_is_an_executor_and_a_worker_a_worker():
    assert isinstance(Pool(), Executor)
    assert isinstance(ModelWorker(sde(), sde(), [Brightness()]), Worker)


@pytest.mark.slow
def test_memory_that_runs_out_elsewhere_is_paid_and_remembered_here(tmp_path, processes):
    runs = []
    for name, executor in (("here", None), ("there", Shared(processes))):
        run = open_run(tmp_path / name, Forgetful(steps=STEPS), budget="90 nfe", batch_size=8, executor=executor)
        go(run)
        run.close()
        runs.append(run)
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert runs[1].batch_size == runs[0].batch_size == 2


@pytest.mark.slow
def test_memory_that_runs_out_in_several_workers_loses_no_image(tmp_path, processes):
    several = Shared(processes, 2)
    run = open_run(tmp_path / "run", Forgetful(steps=STEPS), budget="24 images", batch_size=8, executor=several)
    go(run)
    run.close()
    assert sorted(one.seed for one in run.candidates.values()) == list(range(24))
    assert run.batch_size == 2
    assert run.spent.nfe == sum(one.get("nfe", 0) for one in content(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.slow
def test_an_error_of_a_worker_is_raised_here(tmp_path):
    run = open_run(tmp_path / "run", Failing(steps=STEPS), budget="4 images", executor=Pool())
    with pytest.raises(RuntimeError, match="the model broke"):
        go(run)
    run.close()
    run.store.close()


@pytest.mark.slow
def test_an_executor_is_given_from_python_and_any_other_goes_on(tmp_path, processes):
    sampler = MixtureSampler(steps=STEPS, prompt="a mixture")
    more = {"verifier": "brightness", "budget": 6, "batch_size": 2, "pictures": False, "progress": False}
    there = nw.search(sampler, "a mixture", out=tmp_path / "there", executor=Shared(processes), **more)
    here = nw.search(sampler, "a mixture", out=tmp_path / "here", **more)
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert there.best.id == here.best.id
    again = nw.search(sampler, "a mixture", out=tmp_path / "there", **{**more, "budget": 8})
    assert again.images == 8


@pytest.mark.parametrize("executor", [3, None, ["local"], Shared, object()])
def test_what_is_no_executor_is_refused(executor, tmp_path):
    sampler = MixtureSampler(steps=STEPS, prompt="a mixture")
    with pytest.raises((ValueError, TypeError), match="expected an executor"):
        nw.search(sampler, "a mixture", verifier="brightness", executor=executor, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_many_prompts_take_executors_by_name_alone(tmp_path, processes):
    with pytest.raises(TypeError, match="expected an executor as a name for many prompts"):
        list(nw.search_many("noisewright/shapes", ["two red circles"], out=tmp_path / "runs", executor=Pool()))
