"""The command on a Ray cluster: killed, interrupted, gone on with; nobody is left behind."""

import os
import signal
import sys
import time
from importlib.util import find_spec

import pytest
from PIL import Image

import warm
from noisewright import cli
from noisewright.run.reading import read_run
from processes import below, named, parents
from runs import content

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]  # fmt: skip

PATIENCE = 120  # seconds after which a process that should have ended counts as stuck
ORPHANED = 30  # seconds after which nobody is left of a driver that was killed


def command(model, out, *more):
    return ["generate", "a cat", "--model", str(model), "--verifier", "brightness", "--judge", "none", "--steps", "4",
            "--batch-size", "2", "--out", str(out), *more]  # fmt: skip


def begun(arguments, out, lines=5):
    """The command in a process of its own, once its journal has some lines."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = warm.Popen([sys.executable, "-m", "noisewright", *arguments], env=env, start_new_session=True)
    until = time.monotonic() + PATIENCE
    while (out / "journal.jsonl").read_bytes().count(b"\n") < lines if (out / "journal.jsonl").exists() else True:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"nothing was made; the exit code is {process.wait(PATIENCE)}")
        time.sleep(0.02)
    return process


def workers(head):
    """The processes of workers on a cluster's head."""
    (raylet,) = head.head_node.all_processes["raylet"]
    return named(below(raylet.process.pid), b"RayActor")


def cluster_of(process):
    """The processes of a cluster that a process has started: its actors, and what runs them."""
    return named(below(process.pid), b"RayActor", b"raylet", b"gcs_server")


def gone(some):
    """Whether none of these processes is left, in time."""
    until = time.monotonic() + ORPHANED
    while some & set(parents()):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def on(head, *more):
    return ["--executor", f"ray:{head.address},cpus_per_worker=1", *more]


def local(capsys, model, out, images):
    assert cli.main(command(model, out, "--budget", f"{images} images")) == 0
    capsys.readouterr()
    return content(out)


def told(lines):
    """What lines say of each image, and what they cost: what was made before its turn when Ctrl-C came is written then,
    and scored together with others afterwards.
    """
    made = [pair for line in lines for pair in zip(line["ids"], line.get("pixels", ()), strict=False)]
    scored = [
        (key, name, score) for line in lines if line["verb"] == "score"
        for name, scores in line["scores"].items() for key, score in zip(line["ids"], scores, strict=True)
    ]  # fmt: skip
    cost = [sum(line.get(name, 0) for line in lines) for name in ("nfe", "forwards", "decodes")]
    return sorted(made), sorted(scored), cost


def test_a_killed_driver_leaves_nobody_and_another_number_of_workers_goes_on(head, model, tmp_path, capsys):
    out, before = tmp_path / "run", workers(head)
    process = begun(command(model, out, "--budget", "5000 images", *on(head, "--workers", "2")), out)
    some = workers(head) - before
    assert len(some) == 2
    process.kill()
    process.wait(PATIENCE)
    assert gone(some)
    images = sum(len(line["ids"]) for line in content(out) if line["verb"] == "finish") + 6
    given = ["resume", str(out), "--trust", "--budget", f"{images} images", *on(head, "--workers", "1")]
    assert cli.main(given) == 0
    assert content(out) == local(capsys, model, tmp_path / "whole", images)
    assert gone(workers(head) - before)


def test_resume_with_workers_alone_takes_the_place_of_those_that_the_run_has(head, model, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(command(model, out, "--budget", "4 images", *on(head, "--workers", "2"))) == 0
    assert read_run(out)["request"]["executor"].endswith(",workers=2")
    assert cli.main(["resume", str(out), "--trust", "--budget", "9 images", "--workers", "1"]) == 0
    assert read_run(out)["request"]["executor"].endswith(",workers=1")
    assert told(content(out)) == told(local(capsys, model, tmp_path / "whole", 9))


def test_a_killed_driver_takes_a_cluster_of_its_own_with_it(model, tmp_path):
    out = tmp_path / "run"
    process = begun(command(model, out, "--budget", "5000 images", "--executor", "ray"), out)
    some = cluster_of(process)
    assert len(some) >= 3
    process.kill()
    assert gone(some)


def test_ctrl_c_ends_a_run_with_the_best_so_far_and_its_cluster(model, tmp_path, capsys):
    out = tmp_path / "run"
    process = begun(command(model, out, "--budget", "5000 images", "--executor", "ray", "--workers", "2"), out)
    some = cluster_of(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all processes of the command
    assert process.wait(PATIENCE) == 130
    assert gone(some)
    held = read_run(out)
    assert held["status"] == held["stopped"] == "interrupted"
    for name in ("best.png", "baseline.png", "contact-sheet.png"):
        Image.open(out / name).verify()
    images = held["summary"]["images"] + 5
    assert cli.main(["resume", str(out), "--executor", "local", "--budget", f"{images} images"]) == 0
    assert told(content(out)) == told(local(capsys, model, tmp_path / "whole", images))


def test_ctrl_c_twice_ends_it_at_once_and_it_can_go_on(head, model, tmp_path, capsys):
    out, before = tmp_path / "run", workers(head)
    process = begun(command(model, out, "--budget", "5000 images", *on(head, "--workers", "2")), out)
    some = workers(head) - before
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert process.wait(PATIENCE) == 130
    assert gone(some)
    images = sum(len(line["ids"]) for line in content(out) if line["verb"] == "finish") + 5
    given = ["resume", str(out), "--executor", "local", "--budget", f"{images} images"]
    assert cli.main(given) == 0
    assert told(content(out)) == told(local(capsys, model, tmp_path / "whole", images))
