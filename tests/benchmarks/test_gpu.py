"""The script for a CUDA machine, at tiny size on the CPU: every part runs, is bounded, and leaves what it found."""

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu

ROOT = gpu.ROOT
SEARCHES = {"sdxl": 2, "flux": 2}


def ran(out, *parts, minutes="4"):
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--minutes", minutes, "--out", str(out)]
    done = subprocess.run([*command, "--parts", *parts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "results.json").read_text())


@pytest.mark.slow
def test_every_part_runs_and_leaves_its_rows(tmp_path):
    found = ran(tmp_path, "tests", "sdxl", "flux")
    assert found["parts"]["tests"]["passed"] > 0
    assert (found["parts"]["tests"]["failed"], found["parts"]["tests"]["error"]) == (0, 0)
    for name in ("sdxl", "flux"):
        rows = found["parts"][name]["rows"]
        assert json.loads((tmp_path / f"{name}.json").read_text())["rows"] == rows
        by_name = {row["what"]: row for row in rows}
        assert len([row for row in rows if row["what"] == "search"]) == SEARCHES[name]
        for what in ("search", "search, compiled"):
            assert by_name[what]["overhead"] > 0
        assert by_name["search over by hand"]["ratio"] > 0
        assert by_name["a segment a step, states moved"]["milliseconds_a_step"] > 0
        wrong = [row for row in rows if "wrong" in row and row["what"] != "a segment a step, states kept"]
        assert wrong == []
        assert ("search, channels last" in by_name) == (name == "sdxl")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_best_of_n_by_workers_says_how_much_faster_two_are(tmp_path):
    found = ran(tmp_path, "ray")["parts"]["ray"]
    assert found["ended"] == "exit status 0"
    assert found["said"][0].startswith("best of 4,")
    assert found["said"][-1].startswith("times faster")


def test_a_part_that_has_no_time_leaves_the_others_theirs(tmp_path):
    found = ran(tmp_path, "sdxl", "flux", minutes="0.01")
    assert {one["ended"] for one in found["parts"].values()} == {"no time was left"}


def test_a_command_that_does_not_end_is_ended_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE_SECONDS", 0.5)
    marker = tmp_path / "alive"
    child = (
        "import time, pathlib\n"
        f"while True: pathlib.Path({str(marker)!r}).write_text(str(time.time())); time.sleep(.05)"
    )
    parent = (
        "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    ended, said = gpu.bounded([sys.executable, "-c", parent], 1, tmp_path / "log.txt")
    assert ended == "ended after its 1 s"
    assert "begun" in said
    last = marker.read_text() if marker.exists() else ""
    time.sleep(0.3)
    assert (marker.read_text() if marker.exists() else "") == last, "what it started goes on"


def test_outcomes_are_read_as_far_as_the_tests_came():
    said = "tests/gpu/a.py::test_b[x y] PASSED [ 5%]\ntests/gpu/a.py::test_c FAILED  [9%]\ntests/gpu/a.py::test_"
    assert dict(gpu.OUTCOME.findall(said)) == {
        "tests/gpu/a.py::test_b[x y]": "PASSED", "tests/gpu/a.py::test_c": "FAILED"
    }  # fmt: skip


def test_results_are_whole_or_as_they_were(tmp_path):
    file = tmp_path / "results.json"
    gpu.write(file, {"a": 1})
    with pytest.raises(TypeError):
        gpu.write(file, {"a": object()})
    assert gpu.read(file) == {"a": 1}
    file.write_text("{")
    assert gpu.read(file) is None


def test_versions_that_do_not_fit_are_named_before_anything_runs(tmp_path):
    broken = tmp_path / "diffusers-0.1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.1\n")
    done = subprocess.run(
        ["bash", "benchmarks/gpu.sh", "--tiny"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "WHEELS": "none"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "expected diffusers" in done.stderr
    assert "(here: 0.1)" in done.stderr
