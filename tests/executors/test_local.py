"""The executor of one process: order, what is done aside, and what it raises."""

import threading
import time

import pytest
import torch

from noisewright.executors.local import LocalExecutor
from noisewright.executors.protocol import Executor, Leg, MakeJob, Outcome, ScoreJob
from noisewright.run.particle import noise_particle

IMAGES = torch.zeros(1, 3, 2, 2)
PATIENCE = 30  # seconds after which a thread that should have come counts as stuck


def making(number):
    one = noise_particle(number, 4)
    return MakeJob("recall", Leg((one,), (one,)))


def scoring(name, waits=False):
    return ScoreJob("score", "", IMAGES, (name,), (True,), waits=waits)


class Noted:
    """A worker that notes what it does, and in which thread."""

    def __init__(self, **instead):
        self.began, self.threads, self.instead = [], {}, instead

    def do(self, job):
        name = job.names[0] if isinstance(job, ScoreJob) else str(job.leg.particles[0].seed)
        self.began.append(name)
        self.threads[name] = threading.current_thread()
        if name in self.instead:
            self.instead[name]()
        return Outcome(notes=(name,))


def started(**instead):
    executor, worker = LocalExecutor(), Noted(**instead)
    executor.start(worker)
    return executor, worker


def fail():
    raise RuntimeError("no")


def interrupt():
    raise KeyboardInterrupt


def test_it_is_an_executor():
    assert isinstance(LocalExecutor(), Executor)


def test_jobs_are_done_when_they_are_asked_for_in_the_order_of_submission():
    executor, worker = started()
    tasks = [executor.submit(making(number)) for number in range(3)]
    assert worker.began == []
    assert tasks[1].result().notes == ("1",)
    assert worker.began == ["0", "1"]
    assert [one.done() for one in tasks] == [True, True, False]
    assert tasks[0].result().notes == ("0",)
    assert tasks[2].result().notes == ("2",)
    assert worker.began == ["0", "1", "2"]


def test_what_waits_for_a_server_is_done_aside_while_the_next_is_made():
    came = threading.Event()
    executor, worker = started(server=lambda: came.wait(PATIENCE), **{"1": came.set})
    scored = executor.submit(scoring("server", waits=True))
    made = executor.submit(making(1))
    assert scored.result().notes == ("server",)  # which waits for what stands behind it
    assert made.done()
    assert worker.threads["1"] is threading.current_thread()
    assert worker.threads["server"] is not threading.current_thread()


def test_what_waits_alone_is_done_in_the_thread_that_asks():
    executor, worker = started()
    assert executor.submit(scoring("server", waits=True)).result().notes == ("server",)
    assert worker.threads["server"] is threading.current_thread()


def test_what_needs_a_processor_is_done_in_turn():
    executor, worker = started()
    scored, made = executor.submit(scoring("clip")), executor.submit(making(1))
    assert scored.result().notes == ("clip",)
    assert not made.done()
    assert set(worker.threads.values()) == {threading.current_thread()}


def test_one_job_at_a_time_is_with_the_servers():
    there = []

    def server(name):
        there.append(name)
        time.sleep(0.05)  # for the other to come in between
        assert there[-1] == name
        there.append(f"{name} left")

    executor, _ = started(one=lambda: server("one"), two=lambda: server("two"))
    one = executor.submit(scoring("one", waits=True))
    two = executor.submit(scoring("two", waits=True))
    made = executor.submit(making(1))
    assert [task.result().notes[0] for task in (one, two, made)] == ["one", "two", "1"]
    assert there == ["one", "one left", "two", "two left"]


@pytest.mark.parametrize("aside", [False, True])
def test_an_error_is_raised_where_its_outcome_is_asked_for(aside):
    executor, _ = started(bad=fail)
    bad = executor.submit(scoring("bad", waits=aside))
    good = executor.submit(making(1))
    assert good.result().notes == ("1",)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            bad.result()


def test_an_error_of_the_next_does_not_take_the_place_of_an_outcome():
    came = threading.Event()

    def fail_later():
        came.set()
        raise RuntimeError("no")

    executor, _ = started(server=lambda: came.wait(PATIENCE), **{"1": fail_later})
    scored, made = executor.submit(scoring("server", waits=True)), executor.submit(making(1))
    assert scored.result().notes == ("server",)
    with pytest.raises(RuntimeError, match="no"):
        made.result()


def test_ctrl_c_is_raised_at_once_and_nobody_waits_for_ever():
    came = threading.Event()
    executor, _ = started(server=lambda: came.wait(PATIENCE), **{"1": interrupt})
    scored, made = executor.submit(scoring("server", waits=True)), executor.submit(making(1))
    with pytest.raises(KeyboardInterrupt):
        scored.result()
    assert not scored.done()
    came.set()
    assert scored.result().notes == ("server",)
    with pytest.raises(KeyboardInterrupt):
        made.result()


def test_a_job_before_there_is_a_worker_is_refused():
    with pytest.raises(ValueError, match="expected a worker before the first job"):
        LocalExecutor().submit(making(0))
