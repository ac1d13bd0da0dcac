"""Workers on a Ray cluster of real processes: the journal is the local one, whatever becomes of them."""

import os
from importlib.util import find_spec

import pytest

import far
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import RunInterrupted, VerifierFailed
from noisewright.executors import ray_crew
from noisewright.executors.ray import RayExecutor
from noisewright.executors.worker import ModelWorker
from noisewright.run.verbs import Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.halving import halving
from noisewright.search.zero_order import zero_order
from noisewright.testing import check_executor
from noisewright.verifiers.pixels import Brightness, Sharpness
from runs import STEPS, content, go, lines, open_run, total

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]


@pytest.fixture(scope="module")
def two(head):
    """Two workers that stay for several runs."""
    with RayExecutor(head.address, workers=2, cpus_per_worker=1) as executor:
        yield executor


def sde(kind=MixtureSampler, *given):
    return kind(*given, steps=STEPS, solver=Ddim(0.6))


def done(root, executor=None, sampler=None, search=None, **more):
    """A run, gone through; and why it stopped."""
    run = open_run(root, sampler or sde(), executor=executor, **more)
    try:
        return run, go(run, **({} if search is None else {"search": search}))
    finally:
        run.store.close()
        run.close()


def same(tmp_path, executor, **more):
    """Have the same run done here and there; the journal of both, which are compared."""
    local, stopped = done(tmp_path / "local", **{**more, "sampler": sde()})
    run, also = done(tmp_path / "far", executor, **more)
    assert also == stopped
    assert content(tmp_path / "far") == content(tmp_path / "local")
    assert run.best.id == local.best.id
    return run


# The journal


def test_it_holds_the_contract(two, tmp_path):
    check_executor(lambda: two, tmp_path)


CASES = {
    "images": {"budget": "23 images"},
    "nfe": {"budget": f"{11 * STEPS + 3} nfe"},
    "target": {"budget": "40 images", "target": Target({"brightness": 0.617})},
    "previews": {"search": halving, "budget": "150 nfe"},
    "steps": {"search": zero_order, "budget": "13 images"},
    "judged": {"budget": "11 images, 1000 s", "judges": [Sharpness()]},
    "several": {"budget": "14 images", "verifiers": [Sharpness(), Brightness()], "batch_size": 4},
}


@pytest.mark.parametrize("name", CASES)
def test_the_journal_is_the_local_one(two, tmp_path, name):
    same(tmp_path, two, **CASES[name])


def test_that_workers_take_turns_with_a_target_is_said(two, caplog):
    sampler = sde()
    for target in ({}, {"brightness": 0.6}):
        two.start(ModelWorker(sampler, sampler, [Brightness()], []), {"target": target})
    assert caplog.messages == ["with a target 2 workers take turns: nothing may be made after what reaches it"]


@pytest.mark.parametrize("workers", [1, 5])
def test_with_any_number_of_workers_it_is_the_same(head, tmp_path, workers):
    with RayExecutor(head.address, workers=workers, cpus_per_worker=1) as executor:
        same(tmp_path, executor, budget="23 images")


def test_both_work_and_the_driver_does_not(two, tmp_path, marks):
    same(tmp_path, two, sampler=sde(far.Noting, marks), budget="30 images")
    assert len(set(far.noted(marks, "made"))) == 2
    assert os.getpid() not in far.noted(marks, "made")


# What becomes of workers


def test_a_killed_workers_job_is_done_by_another_and_counts_once(two, tmp_path, marks):
    run = same(tmp_path, two, sampler=sde(far.Dying, marks), budget="30 images")
    assert (marks / "death-0").exists()
    assert run.spent.nfe == 30 * STEPS
    assert total(tmp_path / "far", "nfe") == 30 * STEPS


def test_after_three_deaths_of_one_job_the_run_ends_in_one_line_and_can_go_on(two, tmp_path, marks):
    sampler = sde(far.Dying, marks)
    sampler.times = 3
    with pytest.raises(RunInterrupted, match=r"^a job \(3 images\) ended 3 workers one after the other") as caught:
        done(tmp_path / "far", two, sampler, budget="30 images")
    assert "\n" not in str(caught.value)
    whole, _ = done(tmp_path / "whole", budget="30 images")
    run, _ = done(tmp_path / "far", budget="30 images")
    assert run.best.id == whole.best.id
    assert content(tmp_path / "far") == content(tmp_path / "whole")


def test_a_worker_may_load_for_longer_than_none_is_waited_for(head, tmp_path, marks, monkeypatch):
    monkeypatch.setattr(ray_crew, "LEFT_SECONDS", 15.0)
    sampler = sde(far.SlowToLoad, marks)
    sampler.seconds = 17.0
    with RayExecutor(head.address, workers=1, cpus_per_worker=1) as executor:
        same(tmp_path, executor, sampler=sampler, budget="9 images")
    assert (marks / "death-0").exists()


def test_workers_that_die_while_they_start_end_nothing_where_another_goes_on(head, tmp_path, marks, caplog):
    with RayExecutor(head.address, workers=2, cpus_per_worker=1) as executor:
        same(tmp_path, executor, sampler=sde(far.Stillborn, marks), budget="30 images")
    assert len(far.noted(marks, "stillborn")) == 3
    assert "3 workers in a row died while they started" in caplog.text
    assert "the others go on without it" in caplog.text


def test_a_slow_worker_holds_up_what_is_written_and_no_other_worker(two, tmp_path, marks):
    same(tmp_path, two, sampler=sde(far.Slow, marks), budget="60 images")


def test_memory_that_runs_out_on_one_worker_makes_its_micro_batches_smaller_alone(two, tmp_path, marks):
    run, _ = done(tmp_path / "far", two, sde(far.Small, marks), budget="80 images", batch_size=4)
    whole, _ = done(tmp_path / "whole", budget="80 images", batch_size=4)
    sizes = [len(line["ids"]) for line in lines(tmp_path / "far", "finish")]
    assert set(sizes) == {4, 2}
    assert sorted(run.candidates) == sorted(whole.candidates)
    assert list(run.candidates) == list(whole.candidates)
    assert run.spent.nfe == 80 * STEPS + 4, "what failed is paid"
    assert run.batch_size == 4
    assert any("out of memory on" in text and "micro-batches of 2 there" in text for text in run.warnings)


def test_a_verifier_that_never_gave_a_number_ends_the_run_with_its_images_kept(two, tmp_path, marks):
    judge = far.Judging(marks, fails=(1,))
    with pytest.raises(VerifierFailed, match="its device is gone"):
        done(tmp_path / "far", two, verifiers=[judge], budget="9 images")
    assert [line["verb"] for line in lines(tmp_path / "far")] == ["finish"]
    done(tmp_path / "far", two, verifiers=[judge], budget="9 images")
    (marks / "local").mkdir()
    done(tmp_path / "whole", verifiers=[far.Judging(marks / "local")], budget="9 images")
    assert content(tmp_path / "far") == content(tmp_path / "whole")


def test_a_verifier_that_fails_on_one_worker_gives_no_number_there(two, tmp_path, marks):
    run, stopped = done(tmp_path / "far", two, verifiers=[far.Judging(marks, fails=(3,))], budget="15 images")
    assert stopped == "budget"
    assert run.failures() == ["verifier judging gave NaN for 3 of 15 images; they rank last"]
    assert any("its device is gone" in text for text in run.warnings)


def test_a_host_that_is_lost_takes_no_job_with_it(head, tmp_path, marks):
    node = head.add_node(num_cpus=8)
    (raylet,) = head.head_node.all_processes["raylet"]
    try:
        with RayExecutor(head.address, workers=2, cpus_per_worker=1) as executor:
            sampler = sde(far.LosingItsHost, marks)
            sampler.head = raylet.process.pid
            run = same(tmp_path, executor, sampler=sampler, budget="30 images")
        assert (marks / "host").exists()
        assert run.spent.nfe == 30 * STEPS
    finally:
        head.remove_node(node, allow_graceful=False)


def test_workers_that_only_score(head, tmp_path, marks):
    with RayExecutor(head.address, workers=2, verifier_workers=1, cpus_per_worker=1) as executor:
        judge = far.Judging(marks)
        judge.name = judge.fingerprint = "brightness"
        done(tmp_path / "far", executor, sde(far.Noting, marks), verifiers=[judge], budget="30 images")
    done(tmp_path / "local", budget="30 images")
    assert content(tmp_path / "far") == content(tmp_path / "local")
    assert len(set(far.noted(marks, "scored"))) == 1
    assert len(set(far.noted(marks, "made"))) == 2
    assert not set(far.noted(marks, "scored")) & set(far.noted(marks, "made"))
