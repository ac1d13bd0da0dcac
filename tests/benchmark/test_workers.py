"""A benchmark in several processes: the same rows, whatever is killed on the way."""

import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import warm
from grids import BUDGETS, SEARCHES, axis, spec
from noisewright.benchmark import workers
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.store import open_results, status_of

MADE = spec(SEARCHES, BUDGETS, prompts=2)

DRIVER = """
import json, sys
sys.path.insert(0, {tests!r})
from grids import BUDGETS, SEARCHES, spec
from noisewright.benchmark.drive import run_benchmark

def on_row(row):
    import multiprocessing as mp
    print(json.dumps([row["cell"], [one.pid for one in mp.active_children()]]), flush=True)

if __name__ == "__main__":
    found = run_benchmark(spec(SEARCHES, BUDGETS, prompts=2), {out!r}, workers=2, on_row=on_row)
    print(json.dumps(["interrupted", found.interrupted, len(found.rows)]), flush=True)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The rows of one process."""
    return run_benchmark(MADE, tmp_path_factory.mktemp("alone") / "out")


def told(results):
    """What rows say but for what the clock says."""
    keys = ("cell", "coordinates", "seed", "status", "shared", "images", "nfe", "forwards", "warnings")
    return [({key: row[key] for key in keys}, row["best"]["id"], row["baseline"]["id"]) for row in results.rows]


def driver(out):
    program = DRIVER.format(tests=str(Path(__file__).parents[1]), out=str(out))
    return warm.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def gone(pid, seconds=20.0):
    """Whether a process is no more, within some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(tmp_path, alone):
    killed = []

    def on_row(row):
        if not killed:
            killed.append(mp.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    found = run_benchmark(MADE, tmp_path / "out", workers=2, on_row=on_row)
    assert killed
    assert told(found) == told(alone)
    assert sorted(one["id"] for one in found.candidates()) == sorted(one["id"] for one in alone.candidates())
    assert mp.active_children() == []
    assert status_of(tmp_path / "out") == "done"


def test_a_driver_that_is_killed_takes_its_workers_with_it_and_loses_nothing(tmp_path, alone):
    process = driver(tmp_path / "out")
    _, pids = json.loads(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert pids
    assert all(gone(pid) for pid in pids)
    assert status_of(tmp_path / "out") == "killed"
    before = open_results(tmp_path / "out")
    assert 1 <= len(before.rows) < 8
    found = run_benchmark(MADE, tmp_path / "out")
    assert told(found) == told(alone)
    known = {row["cell"]: row for row in found.rows}
    assert all(known[row["cell"]] == row for row in before.rows)
    assert len(list(found.candidates())) == len(list(alone.candidates()))


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_ends_workers_after_their_micro_batch(tmp_path, alone):
    process = driver(tmp_path / "out")
    _, pids = json.loads(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    *rows, last = process.stdout.read().splitlines()
    assert process.wait() == 0, process.stderr.read()
    word, interrupted, count = json.loads(last)
    assert (word, interrupted) == ("interrupted", True)
    assert 1 + len(rows) == count < 8
    assert all(gone(pid) for pid in pids)
    assert "Traceback" not in process.stderr.read()
    assert status_of(tmp_path / "out") == "interrupted"
    assert told(run_benchmark(MADE, tmp_path / "out")) == told(alone)


@pytest.mark.slow
def test_a_task_in_which_workers_die_is_given_up(tmp_path):
    file = tmp_path / "deadly.py"
    file.write_text("import os\ndef deadly(images, prompt):\n    os._exit(9)\n")
    asked = axis("verifier", ("deadly", [f"{file}:deadly"]), ("fine", ["sharpness"]))
    made = spec(asked, prompts=2, budget="2 images", search="zero-order")
    found = run_benchmark(made, tmp_path / "out", workers=2)
    assert [row["status"] for row in found.rows] == ["failed", "done"] * 2
    assert found.failed[0]["error"] == "the worker died each of 3 times that it was tried (exit code 9)"


def test_threads_are_the_cores_shared_out(monkeypatch):
    monkeypatch.setattr(workers, "processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [workers.threads_each(count) for count in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert workers.threads_each(4) is None
