"""Workers built from a request, in processes of their own: by name, by value, refused by the name of the host."""

import os
import platform
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
import torch

import noisewright as nw
import tiny
from noisewright.execute import execute
from noisewright.executors.ray import RayExecutor
from noisewright.request import Request
from runs import content

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

SETTINGS = {"num_inference_steps": 3, "batch_size": 2, "no_check": True, "device": "cpu"}
QUIET = {"pictures": False, "progress": False}


@pytest.fixture(scope="module")
def one(head):
    """A worker that stays for several runs."""
    with RayExecutor(head.address, workers=1, cpus_per_worker=1) as executor:
        yield executor


def planned(model, executor):
    about = {"model": model, "prompt": "a cat", "verifier": ["brightness"], "judge": ["none"], "budget": "5 images"}
    return nw.plan(Request(**about, **SETTINGS), executor=executor)


@contextmanager
def refused(model, executor, out, *parts):
    """What is said of a run whose workers cannot be built after what happens in the block; nothing is left of it."""
    plan = planned(model, executor)
    yield
    with pytest.raises(ValueError, match="cannot start") as caught:
        execute(plan, out, pictures=False)
    said = str(caught.value)
    assert "\n" not in said
    for part in (f"a worker on {platform.node()} cannot start: ", *parts):
        assert part in said
    assert not out.exists()


def test_a_pipeline_and_a_function_are_sent_by_value(one, pipe, tmp_path):
    more = {**SETTINGS, **QUIET, "verifier": lambda images, prompt: images.mean((1, 2, 3)), "budget": "7 images"}
    more.pop("device")
    there = nw.search(pipe, "a cat", executor=one, out=tmp_path / "there", **more)
    here = nw.search(pipe, "a cat", out=tmp_path / "here", **more)
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert there.best.id == here.best.id
    again = nw.search(pipe, "a dog", executor=one, out=tmp_path / "again", **more)
    assert again.images == 7


class Weighed:
    """A verifier that is an object, whose weight may be changed."""

    name = "weighed"

    def __init__(self):
        self.weight = 1.0

    @property
    def fingerprint(self):
        return str(self.weight)

    def __call__(self, images, prompt):
        return self.weight * images.mean((1, 2, 3))


def test_what_was_changed_since_it_was_sent_is_sent_again(one, pipe, tmp_path):
    """As a pipeline is by load_lora_weights() between two searches."""
    verifier = Weighed()
    more = {**SETTINGS, **QUIET, "verifier": verifier, "budget": "3 images"}
    more.pop("device")
    found = []
    for number in range(3):
        place = tmp_path / str(number)
        there = nw.search(pipe, "a cat", executor=one, out=place / "there", **more)
        nw.search(pipe, "a cat", out=place / "here", **more)
        assert content(place / "there") == content(place / "here")
        found.append(there.best.value)
        if number:
            verifier.weight = 2.0
        else:
            with torch.no_grad():
                pipe.unet.conv_out.bias += 0.1
    assert len(set(found)) == 3


def test_what_cannot_be_sent_is_refused_in_one_line(one, pipe, tmp_path):
    lock = threading.Lock()

    def locked(images, prompt):
        with lock:
            return images.mean((1, 2, 3))

    more = {**SETTINGS, **QUIET}
    more.pop("device")
    with pytest.raises(ValueError, match="expected the verifier locked as something that other processes") as caught:
        nw.search(pipe, "a cat", verifier=locked, executor=one, out=tmp_path / "run", budget="2 images", **more)
    assert "\n" not in str(caught.value)
    assert "FILE.py:NAME" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_host_with_another_model_is_refused_by_name(head, model, tmp_path):
    place = shutil.copytree(model, tmp_path / "model")
    executor = RayExecutor(head.address, workers=1, cpus_per_worker=1)
    with refused(place, executor, tmp_path / "run", "expected fingerprint", "as the driver has it"):
        shutil.rmtree(place)
        tiny.sd(seed=1).save_pretrained(place, safe_serialization=True)


def test_a_model_that_does_not_resolve_on_a_worker_is_refused_by_name(one, model, tmp_path):
    place = shutil.copytree(model, tmp_path / "model")
    with refused(place, one, tmp_path / "run", "model"):
        shutil.rmtree(place)


FILLED = """
import sys
import numpy as np
import ray
import noisewright as nw
from noisewright.errors import RunInterrupted

model, out = sys.argv[1:]
ballast = np.zeros(2**22, np.uint8)

def bright(images, prompt):
    return [float(np.asarray(image).mean()) + ballast[0] for image in images]

settings = dict(judge="none", budget="4 images", num_inference_steps=3, batch_size=2,
                no_check=True, device="cpu", pictures=False, progress=False)
with nw.RayExecutor(workers=1, cpus_per_worker=1) as executor:
    nw.search(model, "a cat", verifier="brightness", out=out + "-before", executor=executor, **settings)
    held = []
    for size in (2**23, 2**20, 2**18, 2**17):  # to the last place
        try:
            while True:
                held.append(ray.get(ray.put(np.zeros(size, np.uint8))))  # what nobody reads may be let go of
        except ray.exceptions.RayError:
            pass
    try:
        nw.search(model, "a cat", verifier=bright, out=out, executor=executor, **settings)
    except RunInterrupted as error:
        print("RunInterrupted:", error)
    held.clear()
    found = nw.search(model, "a cat", verifier=bright, out=out, executor=executor, **settings)
    print(len(found.candidates))
"""


def test_what_finds_no_place_in_a_full_object_store_is_said_in_one_line_and_sent_later(model, tmp_path):
    """A driver of its own, whose cluster has 80 MB for objects and may write none of them to the disk."""
    out = tmp_path / "run"
    (tmp_path / "filled.py").write_text(FILLED)
    env = {
        **os.environ, "OMP_NUM_THREADS": "1", "RAY_automatic_object_spilling_enabled": "0",
        "RAY_local_fs_capacity_threshold": "0", "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(80 * 10**6),
    }  # fmt: skip
    given = [sys.executable, str(tmp_path / "filled.py"), str(model), str(out)]
    done = subprocess.run(given, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip().splitlines()
    assert said[0].startswith("RunInterrupted: Ray's object store is full"), done.stdout
    assert said[1:] == ["4"], done.stdout


def test_an_error_while_workers_start_is_no_run(head, tmp_path, model):
    executor = RayExecutor(head.address, workers=1, cpus_per_worker=4096)
    with pytest.raises(ValueError, match=r"^expected 4096 processors in the Ray cluster, got \d+$"):
        execute(planned(model, executor), tmp_path / "run", pictures=False)
    assert not (tmp_path / "run").exists()
