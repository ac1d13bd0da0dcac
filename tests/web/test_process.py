"""The process that holds a server's model."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from noisewright.run.locks import is_being_written, let_go, locked
from noisewright.web.process import FOLDER, Process

FORECAST = {"id": "x", "kind": "forecast", "request": {
    "model": "noisewright/shapes", "prompt": "a red circle", "verifier": ["brightness"], "judge": ["none"],
    "budget": ["2 images"], "num_inference_steps": 2, "device": "cpu",
}}  # fmt: skip


def until(true, seconds=120):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def worker(tmp_path):
    found = Process(tmp_path / ".serve")
    yield found
    found.close()


@pytest.mark.slow
def test_there_is_no_second_one_beside_that_of_a_server_that_was_killed(worker, tmp_path):
    """The other one holds a model still: no other is loaded before it has ended."""
    folder = tmp_path / ".serve" / FOLDER
    folder.mkdir(parents=True)
    other = locked(folder)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(worker.do, FORECAST)
        time.sleep(1)
        assert worker.pid is None
        let_go(other)
        assert asked.result(120)["result"]["images"] == 2
        assert is_being_written(folder)


@pytest.mark.slow
def test_what_is_asked_of_a_dead_one_is_asked_of_the_next(worker):
    assert worker.do(FORECAST)["ok"]
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    assert worker.do(FORECAST)["ok"]
    assert worker.pid != first


@pytest.mark.slow
def test_what_kills_each_is_not_asked_for_ever(worker):
    killed = []

    def heard(event):
        killed.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)

    found = worker.do(FORECAST, heard)
    assert (found["ok"], found["why"]) == (False, "failed")
    assert "exit code -9" in found["error"]
    assert len(set(killed)) == 2
    assert worker.do(FORECAST)["ok"]


def test_one_that_cannot_start_is_not_started_for_ever(worker, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    found = worker.do(FORECAST)
    assert (found["ok"], "exit code 1" in found["error"]) == (False, True)


def test_a_server_that_ends_waits_for_nothing(worker, tmp_path):
    folder = tmp_path / ".serve" / FOLDER
    folder.mkdir(parents=True)
    other = locked(folder)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(worker.do, FORECAST)
        time.sleep(0.5)
        worker.end()
        assert asked.result(60)["why"] == "stopped"
    let_go(other)


@pytest.mark.slow
def test_it_ends_when_its_server_does(worker, tmp_path):
    assert worker.do(FORECAST)["ok"]
    pid = worker.pid
    worker.close()
    until(lambda: not is_being_written(tmp_path / ".serve" / FOLDER))
    until(lambda: not is_there(pid))


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / ".serve").write_text("")
    with pytest.raises(ValueError, match="that can be written"):
        Process(tmp_path / ".serve").do(FORECAST)
