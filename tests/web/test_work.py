"""One model is in memory at a time, whoever asks for it."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from noisewright import planning
from noisewright.run.reading import read_run
from noisewright.web.work import Works

MODELS = ("noisewright/shapes", "noisewright/shapes-small")


def job(number, out, images=2, **more):
    request = {"model": MODELS[number % 2], "prompt": "a red circle", "verifier": ["brightness"], "judge": ["none"],
               "budget": [f"{images} images"], "num_inference_steps": 2, "device": "cpu", **more}  # fmt: skip
    return {"id": str(number), "kind": "run", "request": request, "out": str(out / str(number)), "pictures": False}


@pytest.fixture
def works(monkeypatch):
    """Works whose models are watched: none may be there when another is loaded."""
    alive, load = weakref.WeakSet(), planning.load_requested

    def loaded(request):
        assert not alive, "a model is in memory already"
        pipe = load(request)
        alive.add(pipe)
        return pipe

    monkeypatch.setattr(planning, "load_requested", loaded)
    return Works()


@pytest.mark.slow
def test_jobs_of_two_models_at_once_never_have_both_in_memory(works, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(works.do, [job(number, tmp_path) for number in range(6)]))
    assert [one["ok"] for one in found] == [True] * 6, found
    assert {read_run(tmp_path / str(number))["summary"]["images"] for number in range(6)} == {2}


@pytest.mark.slow
def test_what_failed_holds_no_model(works, tmp_path):
    bad = works.do(job(0, tmp_path, target={"no-such": 1.0}))
    assert (bad["ok"], bad["why"]) == (False, "wrong")
    assert "no-such" in bad["error"]
    assert works.do(job(1, tmp_path))["ok"]


@pytest.mark.slow
def test_a_job_that_is_stopped_keeps_what_it_made_and_says_how_far_it_is(works, tmp_path):
    events = []

    def heard(event):
        events.append(event)
        if event["kind"] == "better":
            works.stop("0")

    found = works.do(job(0, tmp_path, images=500, batch_size=2), heard)
    assert (found["ok"], found["result"]["interrupted"]) == (True, True)
    assert found["result"]["images"] < 500
    assert [one["kind"] for one in events[:3]] == ["entered", "begun", "better"]
    assert 0 < events[2]["done"] < 0.1


def test_who_waits_gives_up_when_it_is_stopped_and_when_all_end():
    works, entered, go_on = Works(), threading.Event(), threading.Event()

    def hold():
        with works.line.at("another model", lambda: False):
            entered.set()
            go_on.wait()

    with ThreadPoolExecutor(3) as pool:
        pool.submit(hold)
        entered.wait()
        waiting = [pool.submit(works.do, {"id": name, "kind": "score", "run": "x", "verifier": "x"}) for name in "ab"]
        while len(works.jobs) < 2:
            pass
        works.stop("a")
        assert waiting[0].result(60)["why"] == "stopped"
        assert not waiting[1].done()
        works.end()
        assert waiting[1].result(60)["why"] == "stopped"
        go_on.set()
