"""What a cluster cannot give is said in one line, with exit code 2, before anything is spent."""

import importlib.util
import re
import socket
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from commands import run
from noisewright.executors import ray, ray_cluster
from noisewright.executors.ray import RayExecutor

there = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


WORDS = ["generate", "a red circle", "--model", "noisewright/shapes", "--steps", "2", "--budget", "2 images"]


def refused(capsys, place, *words):
    ended = run(capsys, [*WORDS, *words, "--out", "far"])
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert not (place / "far").exists()
    return ended.err


def test_ray_that_is_not_installed_is_said_with_how_to_install_it(here, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'noisewright[ray]'" in refused(capsys, here, "--executor", "ray")


@pytest.mark.parametrize("version", ["2.39.0", "1.13", "0"])
def test_a_ray_that_is_too_old_is_refused(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__=version))
    with pytest.raises(ValueError, match=rf"^expected Ray 2\.40 or newer, got {version}: pip install"):
        ray_cluster.ray()


@there
def test_a_cluster_that_cannot_be_reached_is_refused_at_once(here):
    """In a process of its own: this one may be in a cluster already."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    given = [*WORDS, "--executor", f"ray:127.0.0.1:{port}", "--out", "far"]
    ended = subprocess.run([sys.executable, "-m", "noisewright", *given], cwd=here, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert f"expected a Ray cluster at '127.0.0.1:{port}', got nobody there" in ended.stderr
    assert not (here / "far").exists()


@there
@pytest.mark.parametrize("more", [[], ["--prompt-file", "prompts.txt"]])
def test_it_is_refused_before_a_model_is_loaded(here, no_model, capsys, more):
    (here / "prompts.txt").write_text("a red circle\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    words = [*(["generate", *WORDS[2:]] if more else WORDS), *more, "--executor", f"ray:127.0.0.1:{port},workers=2"]
    ended = run(capsys, [*words, "--out", "far"])
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "got nobody there" in ended.err


@there
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", ":6379", "here:port", "local"])
def test_what_is_no_address_is_refused(here, capsys, address):
    assert "expected" in refused(capsys, here, "--executor", f"ray:{address}")


@there
@pytest.mark.slow
def test_gpus_for_a_model_on_a_cpu_are_refused(head, here, capsys):
    said = refused(capsys, here, "--executor", f"ray:{head.address}", "--gpus-per-worker", "1")
    assert "expected gpus_per_worker 0 with a model on a CPU, got 1" in said


@pytest.mark.parametrize(
    ("workers", "scorers", "each", "there_are", "said"),
    [
        (2, 0, None, 1, "expected 2 GPUs in the Ray cluster (2 workers), got 1"),
        (3, 0, 0.5, 1, "expected 1.5 GPUs in the Ray cluster (3 workers of 0.5), got 1"),
        (1, 1, None, 1, "expected 2 GPUs in the Ray cluster (2 workers), got 1"),
        (1, 0, None, 0, "expected a GPU for each worker in the Ray cluster, got none"),
    ],
)
def test_too_few_gpus_are_refused(workers, scorers, each, there_are, said):
    executor = RayExecutor(workers=workers, verifier_workers=scorers, gpus_per_worker=each)
    cluster = ray_cluster.Cluster(None, ((8.0, there_are),))
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        executor.wanted(cluster, on_gpu=True)


@pytest.mark.parametrize(
    ("hosts", "given", "on_gpu", "said"),
    [
        ([(8, 1)] * 2, {"workers": 1, "gpus_per_worker": 2}, True, "room for 1 workers of 1 processor and 2 GPUs each"),
        ([(8, 1)] * 2, {"workers": 3, "gpus_per_worker": 0.6}, True, "room for 3 workers of 1 processor and 0.6 GPU"),
        ([(4, 0)] * 2, {"workers": 1, "cpus_per_worker": 8}, False, "room for 1 workers of 8 processors each"),
        ([(3, 0)] * 3, {"workers": 4, "cpus_per_worker": 2}, False, "got room for 3"),
        ([(0, 4), (8, 0)], {"workers": 1}, True, "room for 1 workers of 1 processor and 1 GPU each"),
        ([(1, 4), (8, 0)], {"workers": 3}, True, "got room for 1"),
    ],
)
def test_workers_that_no_host_has_room_for_are_refused(hosts, given, on_gpu, said):
    """As much as they need is there in all, in parts that nobody can put together: they would be waited for."""
    cluster = ray_cluster.Cluster("here:1", tuple((float(cpus), float(gpus)) for cpus, gpus in hosts))
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        RayExecutor("here:1", **given).wanted(cluster, on_gpu)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hosts", "given", "on_gpu", "workers"),
    [
        ([(8, 2)] * 2, {"gpus_per_worker": 0.5}, True, 8),
        ([(8, 3)] * 2, {"gpus_per_worker": 2}, True, 2),
        ([(8, 0), (2, 0), (0, 0)], {}, False, 2),
        ([(8, 0), (2, 0)], {"workers": 4}, False, 4),
        ([(8, 1)] * 2, {"workers": 2, "gpus_per_worker": 0.6}, True, 2),
    ],
)
def test_workers_that_have_room_are_asked_for(hosts, given, on_gpu, workers):
    cluster = ray_cluster.Cluster("here:1", tuple((float(cpus), float(gpus)) for cpus, gpus in hosts))
    assert len(RayExecutor("here:1", **given).wanted(cluster, on_gpu).parts) == workers


@there
@pytest.mark.slow
def test_too_few_gpus_are_refused_by_the_command(head, here, capsys, monkeypatch):
    """As for a model on a GPU, which this machine need not have."""
    monkeypatch.setattr(ray, "is_on_gpu", lambda worker: True)
    assert "expected a GPU for each worker in the Ray cluster, got none" in refused(
        capsys, here, "--executor", f"ray:{head.address}", "--workers", "2"
    )
