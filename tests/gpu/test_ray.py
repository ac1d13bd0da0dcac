"""Ray's workers on one GPU, each with a part of it: the journal is the one that is made without them."""

import os
import signal
import sys
import threading
import time
from importlib.util import find_spec

import pytest

import noisewright as nw
from processes import below, named
from runs import content, lines

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]  # fmt: skip

PATIENCE = 60  # seconds after which what should have happened counts as not happening
PROMPT = "a green star left of a red circle"
SETTINGS = {"verifier": ["shapes-oracle"], "judge": ["none"], "num_inference_steps": 6, "batch_size": 4,
            "pictures": False, "progress": False}  # fmt: skip


def workers(device, count, **more):
    """Workers that share the GPU; on a CPU as many as there."""
    part = {"gpus_per_worker": 1 / (count + more.get("verifier_workers", 0))} if device == "cuda" else {}
    return nw.RayExecutor(workers=count, cpus_per_worker=1, **part, **more)


@pytest.fixture(scope="class")
def two(device):
    """Two workers that stay for several runs, and have the GPU until then."""
    with workers(device, 2) as executor:
        yield executor


def done(out, device, executor=None, **more):
    given = {**SETTINGS, **({} if executor is None else {"executor": executor}), **more}
    return nw.search("noisewright/shapes", PROMPT, device=device, out=out, **given)


CASES = {
    "images": {"budget": "30 images"},
    "nfe": {"budget": f"{13 * 6 + 3} nfe"},
    "previews": {"search": "halving", "budget": "200 nfe"},
    "sampled": {"search": "evolution", "budget": "150 nfe"},
    "draft": {"draft": "truncate,at=0.5,pilot=0", "budget": "100 nfe"},
    "reward": {"verifier": ["shapes-reward"], "judge": ["shapes-oracle"], "budget": "14 images"},
}


class TestTwoWorkers:
    @pytest.mark.parametrize("name", CASES)
    def test_the_journal_is_the_local_one(self, two, device, tmp_path, name):
        there = done(tmp_path / "there", device, two, **CASES[name])
        here = done(tmp_path / "here", device, **CASES[name])
        assert content(tmp_path / "there") == content(tmp_path / "here")
        assert there.best.id == here.best.id

    def test_a_killed_workers_job_is_done_by_another_on_the_gpu(self, two, device, tmp_path):
        done(tmp_path / "first", device, two, budget="9 images")
        out, killed = tmp_path / "there", []

        def kill():
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                if (out / "journal.jsonl").exists() and len(lines(out, "finish")) >= 2:
                    killed.append(min(named(below(os.getpid()), b"RayActor")))
                    return os.kill(killed[0], signal.SIGKILL)
                time.sleep(0.01)

        thread = threading.Thread(target=kill)
        thread.start()
        run = done(out, device, two, budget="200 images")
        thread.join()
        assert killed
        assert run.images == 200
        done(tmp_path / "here", device, budget="200 images")
        assert content(out) == content(tmp_path / "here")


def test_a_verifier_has_a_worker_of_its_own_on_the_gpu(device, tmp_path):
    given = {"verifier": ["shapes-reward"], "budget": "21 images"}
    with workers(device, 1, verifier_workers=1) as executor:
        done(tmp_path / "there", device, executor, **given)
    done(tmp_path / "here", device, **given)
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_more_gpus_than_there_are_is_one_line(cuda, tmp_path):
    with pytest.raises(ValueError, match=r"^expected 100 GPUs in the Ray cluster \(100 workers\), got ") as caught:
        done(tmp_path / "out", "cuda", nw.RayExecutor(workers=100), budget="2 images")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_by_default_each_gpu_has_one_worker(cuda, tmp_path):
    import torch

    with nw.RayExecutor() as executor:
        done(tmp_path / "out", "cuda", executor, budget="9 images")
        assert executor.workers == torch.cuda.device_count()
