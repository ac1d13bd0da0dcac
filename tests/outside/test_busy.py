"""When a machine is busy, and that a person's own variables stand."""

import os
import subprocess
import sys

import pytest

from noisewright.outside import busy


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(busy, "processors", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.parametrize(
    ("taken", "count", "expected"),
    [(0.0, 2, False), (0.5, 2, False), (0.9, 2, True), (1.0, 64, False), (6.0, 64, False), (7.0, 64, True)],
)
def test_others_are_in_the_way_where_they_take_a_share(taken, count, expected):
    assert busy.is_busy(taken, count) is expected


@pytest.mark.parametrize(
    ("minute", "now", "expected"),
    [
        (0.2, 5.0, 0.2),  # a moment's work; nobody looks
        (3.0, 0.0, 0.0),  # it has just ended
        (1.5, 1.0, 1.0),
        (None, 2.0, 2.0),
        (2.0, None, 2.0),
        (None, None, 0.0),
    ],
)
def test_the_less_of_the_last_minute_and_of_now_counts(monkeypatch, minute, now, expected):
    monkeypatch.setattr(busy, "load_average", lambda: minute)
    monkeypatch.setattr(busy, "running_now", lambda: now)
    assert busy.others() == expected


@pytest.mark.parametrize(("taken", "expected"), [(5.0, 0.0), (6.0, 0.0), (7.0, 1.0)])
def test_what_finds_room_elsewhere_is_not_in_the_way(monkeypatch, taken, expected):
    """A process that may use two of eight processors."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(busy, "load_average", lambda: taken)
    monkeypatch.setattr(busy, "running_now", lambda: taken)
    assert busy.others() == expected


def test_this_thread_is_not_counted(monkeypatch, tmp_path):
    looks = iter(["0.5 0.5 0.5 3/90 7", "0.5 0.5 0.5 1/90 7"] * 3)
    monkeypatch.setattr(busy.Path, "read_text", lambda path, **how: next(looks))
    assert busy.running_now() == 1.0
    monkeypatch.setattr(busy.Path, "read_text", lambda path, **how: "nothing that Linux says")
    assert busy.running_now() is None


def test_threads_wait_asleep_beside_others():
    environment = {"PATH": "x"}
    said = busy.settle(environment, taken=1.0)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert said is not None
    assert "other work takes 1.0 of 2 processors" in said
    assert "\n" not in said


def test_a_quiet_machine_is_left_as_it_is():
    environment = {}
    assert busy.settle(environment, taken=0.3) is None
    assert environment == {}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_a_person_said_of_openmp_stands(name):
    environment = {name: "1"}
    assert busy.settle(environment, taken=9.0) is None
    assert environment == {name: "1"}


def test_with_torch_it_is_too_late_and_with_one_processor_there_is_nobody_to_wait_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    assert busy.settle({}, taken=9.0) is None
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(busy, "processors", lambda: 1)
    assert busy.settle({}, taken=9.0) is None


def test_the_commands_that_compute_settle_it_before_torch():
    program = (
        "import os, sys\n"
        "from noisewright.outside import busy\n"
        "busy.processors, busy.others = lambda: 2, lambda: 1.0\n"
        "from noisewright.cli import main\n"
        "code = main(['resume', 'nowhere', '--json'])\n"
        "main(['generate', 'a', '--model', 'nowhere/at-all', '--json'])\n"
        "print(code, os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith(busy.OF_THE_USER)}
    plain["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain)
    assert done.stdout.split() == ["2", "PASSIVE"]
    said = [line for line in done.stderr.splitlines() if "wait asleep" in line]
    assert len(said) == 1
    assert said[0].startswith("noisewright: other work takes 1.0 of 2 processors")
