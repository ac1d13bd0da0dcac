"""Whole runs dealt to workers of a Ray cluster: the prompts of a file, and a benchmark's grid."""

import json
import os
import signal
import sys
import time
from importlib.util import find_spec

import pytest

import noisewright as nw
import warm
from commands import done, run
from far import Elsewhere
from grids import BUDGETS, SEARCHES, spec
from loopback import Reply, means, serving
from noisewright.benchmark.drive import run_benchmark
from noisewright.executors.ray import RayExecutor
from noisewright.run.reading import read_run
from runs import content

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

PROMPTS = ["a cat", "a red dog", "two birds", "a house", "a tree"]
PATIENCE = 120  # seconds after which a process that should have ended counts as stuck

TOLD = """
import os
from pathlib import Path

PLACE = Path(__file__).parent / "marks"
(PLACE / f"loaded-{os.getpid()}").touch()

def told(images, prompt):
    (PLACE / f"scored-{os.getpid()}-{prompt.replace(' ', '-')}").touch()
    if "dog" in prompt and (PLACE / "picky").exists():
        raise RuntimeError("no dogs")
    return images.mean((1, 2, 3))
"""


@pytest.fixture
def listed(here):
    """A file of prompts, and a verifier that notes who loads it and who asks it."""
    (here / "prompts.txt").write_text("\n".join(PROMPTS))
    (here / "told.py").write_text(TOLD)
    (here / "marks").mkdir()
    return here


def words(model, *more, images=3):
    return ["generate", "--prompt-file", "prompts.txt", "--model", model, "--verifier", "told.py:told", "--judge",
            "none", "--steps", "2", "--batch-size", "2", "--budget", f"{images} images", *more]  # fmt: skip


def on(head, workers=2):
    return ["--executor", f"ray:{head.address},cpus_per_worker=1", "--workers", str(workers)]


def marked(place, kind):
    return {path.name.split("-")[1] for path in (place / "marks").glob(f"{kind}-*")}


def test_prompts_are_dealt_and_what_is_loaded_stays(head, model, listed, capsys):
    found = json.loads(done(capsys, words(model, "--out", "far", "--json", *on(head))))
    scored, loaded = marked(listed, "scored"), marked(listed, "loaded")
    assert len(scored) == 2
    assert str(os.getpid()) not in scored
    assert loaded == {*scored, str(os.getpid())}
    assert [(one["number"], one["prompt"], one["status"]) for one in found["runs"]] == [
        (number, prompt, "done") for number, prompt in enumerate(PROMPTS, start=1)
    ]
    done(capsys, words(model, "--out", "here"))
    for run_ in sorted((listed / "here").iterdir()):
        assert content(listed / "far" / run_.name) == content(run_)
        assert (listed / "far" / run_.name / "contact-sheet.png").is_file()
    again = json.loads(done(capsys, words(model, "--out", "far", "--json", *on(head, 1))))
    assert [one["status"] for one in again["runs"]] == ["done"] * 5  # the request names other workers
    more = json.loads(done(capsys, words(model, "--out", "far", "--json", *on(head, 1))))
    assert [one["status"] for one in more["runs"]] == ["found"] * 5


def test_a_prompt_that_fails_keeps_no_other_from_being_made(head, model, listed, capsys):
    (listed / "marks" / "picky").touch()
    ended = run(capsys, words(model, "--out", "far", "--json", *on(head)))
    assert ended.code == 1
    found = json.loads(ended.out)["runs"]
    assert [one["status"] for one in found] == ["done", "failed", "done", "done", "done"]
    assert "no dogs" in found[1]["error"]


def test_what_is_wrong_with_the_settings_is_said_before_there_are_workers(head, model, listed, capsys):
    ended = run(capsys, words(model, "--out", "far", "--target", "clip=3", *on(head)))
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert not (listed / "far").exists()


def test_ctrl_c_ends_the_runs_in_hand_and_the_same_command_goes_on(head, model, listed, capsys):
    (listed / "prompts.txt").write_text("\n".join(PROMPTS[:3]))  # the third is not begun
    given = [sys.executable, "-m", "noisewright", *words(str(model), "--out", "far", *on(head), images=2000)]
    process = warm.Popen(given, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True, cwd=listed)
    until = time.monotonic() + PATIENCE
    journals = [listed / "far" / name / "journal.jsonl" for name in ("0001-a-cat", "0002-a-red-dog")]
    while not all(one.exists() and one.read_bytes().count(b"\n") > 3 for one in journals):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    names = sorted(path.name for path in (listed / "far").iterdir())
    assert names == ["0001-a-cat", "0002-a-red-dog"]
    images = []
    for name in names:
        held = read_run(listed / "far" / name)
        assert held["status"] == "interrupted"
        images.append(held["summary"]["images"])
    most = max(images) + 2
    done(capsys, words(model, "--out", "far", *on(head), images=most))
    done(capsys, words(model, "--out", "here", images=most))
    for run_ in sorted((listed / "here").iterdir()):
        assert content(listed / "far" / run_.name) == content(run_)


def test_an_executor_from_python_is_dealt_prompts(head, model, listed):
    given = {"verifier": "brightness", "judge": "none", "num_inference_steps": 2, "budget": "3 images",
             "progress": False, "pictures": False}  # fmt: skip
    executor = RayExecutor(head.address, workers=2, verifier_workers=1, cpus_per_worker=1)
    found = list(nw.search_many(str(model), PROMPTS, out=listed / "far", executor=executor, **given))
    assert {one.status for one in found} == {"done"}
    assert sorted(one.number for one in found) == [1, 2, 3, 4, 5]
    for one in nw.search_many(str(model), PROMPTS, out=listed / "here", **given):
        assert content(listed / "far" / one.run.name) == content(one.run)


def test_a_grid_is_dealt(head, tmp_path):
    grid = spec(BUDGETS, SEARCHES, prompts=2)
    rows = []
    for place, more in (("here", {}), ("far", {"executor": f"ray:{head.address},workers=2,cpus_per_worker=1"})):
        results = run_benchmark(grid, tmp_path / place, **more)
        assert not results.failed
        rows.append({row["cell"]: (row["best"], row["nfe"], row["images"]) for row in results.done})
    assert rows[0] == rows[1]
    assert len(rows[0]) == 8


def test_a_grid_with_a_server_beside_other_verifiers_is_dealt(head, tmp_path):
    """Servers are asked from this process, those beside them by the workers."""
    with serving(lambda seen, number: Reply(means(seen))) as server:
        grid = spec(BUDGETS, SEARCHES, prompts=1, verifier=["sharpness", f"{server.url}/score"])
        rows = []
        for place, more in (("here", {}), ("far", {"executor": f"ray:{head.address},workers=2,cpus_per_worker=1"})):
            results = run_benchmark(grid, tmp_path / place, **more)
            assert not results.failed, results.failed
            rows.append({row["cell"]: (row["best"], row["nfe"], row["images"]) for row in results.done})
    assert rows[0] == rows[1]
    assert len(rows[0]) == 4


def test_a_run_with_a_server_beside_a_verifier_on_another_device(head, model, tmp_path):
    """Both are asked beside the model, in one job."""
    given = {"judge": [], "num_inference_steps": 2, "budget": "7 images", "batch_size": 2, "progress": False,
             "pictures": False}  # fmt: skip
    with serving(lambda seen, number: Reply(means(seen))) as server:
        for place, executor in (("here", "local"), ("far", f"ray:{head.address},workers=2,cpus_per_worker=1")):
            verifiers = [f"{server.url}/score", Elsewhere("meta")]
            found = nw.search(str(model), "a cat", verifier=verifiers, executor=executor, out=tmp_path / place, **given)
            assert len(found.candidates) == 7
    assert content(tmp_path / "far") == content(tmp_path / "here")


@pytest.mark.parametrize("executor", ["local:here", "rey", 3])
def test_what_cannot_be_dealt_runs_is_refused(tmp_path, executor):
    with pytest.raises((ValueError, TypeError), match="executor"):
        run_benchmark(spec(BUDGETS), tmp_path / "grid", executor=executor)
    assert not (tmp_path / "grid").exists()
