"""The images endpoint beside the page: one guard, one model in memory, one list of runs."""

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from noisewright.run.reading import read_run
from noisewright.web.openai.mounted import images_settings
from noisewright.web.settings import Limits
from serving import MODELS, settings_of, talking_to

TOKEN = "a-long-enough-token"
BODY = {"prompt": "a red circle", "num_inference_steps": 2, "quality": "low", "search": {"verifiers": "brightness"}}
FIELDS = {"prompt": "a red circle", "verifier": ["brightness"], "judge": "none", "budget": ["2 images"],
          "num_inference_steps": 2}  # fmt: skip
TWO = (*MODELS, "noisewright/shapes-small")


def until(true, seconds=120):
    ends = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)
    return found


def made(client, **more):
    answer = client.post("/v1/images/generations", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.slow
def test_a_run_of_a_request_is_in_the_list_of_the_page(client, runs):
    found = made(client)
    name = found["id"]
    assert read_run(runs / name)["status"] == "done"
    listed = until(lambda: [one for one in client.get("/api/runs").json()["runs"] if one["name"] == name])
    assert listed[0]["prompt"] == "a red circle"
    assert len(client.get("/api/run", params={"run": name}).json()["rows"]) == 1


@pytest.mark.slow
def test_the_page_and_the_endpoint_have_one_process_with_one_model(runs, tmp_path):
    """Jobs of the page and requests, of two models, at the same time: the process says what it loads."""
    with talking_to(settings_of(runs, tmp_path, models=TWO)) as client, ThreadPoolExecutor(4) as pool:
        processes = set()
        asked = [pool.submit(made, client, model=TWO[number % 2], seed=number) for number in range(4)]
        jobs = [client.post("/api/start", json={"fields": {**FIELDS, "model": name}}).json() for name in TWO]
        while not all(one.done() for one in asked):
            processes.add(client.app.state.parts.worker.pid)
            time.sleep(0.02)
        ended = lambda: {one["id"]: one["state"] for one in client.get("/api/jobs").json()["jobs"]}  # noqa: E731
        until(lambda: all(ended()[one["job"]] == "done" for one in jobs))
        assert len(processes - {None}) == 1
        assert {read_run(runs / one.result()["id"])["request"]["model"] for one in asked} == set(TWO)


@pytest.mark.slow
def test_a_process_that_is_killed_takes_no_request_with_it(client):
    pid = until(lambda: made(client) and client.app.state.parts.worker.pid)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(made, client, seed=number, search={"budget": 24, "verifiers": "brightness"})
                 for number in range(3)]  # fmt: skip
        until(lambda: client.app.state.parts.worker.busy)
        os.kill(pid, 9)
        assert [one.result()["usage"]["images"] for one in asked] == [24, 24, 24]


@pytest.mark.slow
def test_requests_take_turns_with_a_long_run_of_the_page(client, runs):
    long = client.post("/api/start", json={"fields": {**FIELDS, "budget": ["400 images"], "batch_size": 4}}).json()
    until(lambda: (runs / long["run"] / "journal.jsonl").exists())
    made(client)
    assert read_run(runs / long["run"])["status"] == "running"
    client.post("/api/stop", json={"run": long["run"]})


def test_the_endpoint_is_behind_the_guard(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, token=TOKEN)) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.post("/v1/images/generations", json=BODY).status_code == 401
        held = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.get("/v1/models", headers=held)
        assert [one["id"] for one in answer.json()["data"]] == list(MODELS)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        other = {**held, "Origin": "http://elsewhere.example"}
        assert client.post("/v1/images/generations", json=BODY, headers=other).status_code == 403
        assert client.get("/v1/models", headers={**held, "Host": "elsewhere.example"}).status_code == 421
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 401


def picture(side):
    file = io.BytesIO()
    Image.effect_noise((side, side), 100).convert("RGB").save(file, "png")
    return file.getvalue()


def test_images_may_be_larger_than_other_requests(runs, tmp_path):
    data = picture(900)
    assert len(data) > Limits().body
    limits = Limits(upload=len(data) + 2**16)
    with talking_to(settings_of(runs, tmp_path, limits=limits)) as client:
        def sent(path, body):
            return client.post(path, data={"prompt": "two"}, files={"image": ("x.png", body)})

        answer = sent("/v1/images/edits", data)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "image"), answer.text
        for path, body in (("/v1/images/generations", data), ("/v1/images/edits", data + b"\0" * 2**17)):
            answer = sent(path, body)
            assert answer.status_code == 413
            assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_without_a_length_is_bounded_too(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, limits=Limits(upload=2**12))) as client:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = client.post("/v1/images/edits", content=(b"0" * 2**10 for _ in range(9)), headers=kind)
        assert answer.status_code == 413


def test_models_are_named_without_paths_of_this_machine(runs, tmp_path):
    typed = (str(tmp_path / "one" / "model"), str(tmp_path / "two" / "model"), "http://host/v1#far", *MODELS)
    found = images_settings(settings_of(runs, tmp_path, models=typed)).models
    assert list(found) == ["model", "model-2", "far", *MODELS]
    assert tuple(found.values()) == typed


def test_a_server_of_one_run_has_no_endpoint(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, only="first")) as client:
        assert client.get("/v1/models").status_code == 404


def test_a_directory_that_cannot_be_written_takes_no_requests(runs, tmp_path, monkeypatch):
    (runs / ".requests").write_text("a file in its place")
    with talking_to(settings_of(runs, tmp_path)) as client:
        answer = client.post("/v1/images/generations", json=BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert str(runs) not in answer.text
        assert client.get("/api/runs").status_code == 200


@pytest.mark.slow
def test_the_first_model_is_loaded_at_once_where_it_is_wanted(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, preload=True)) as client:
        assert client.get("/v1/models").json()["data"][0]["fingerprint"]
        assert {one.name for one in threading.enumerate() if one.name == "model"} == {"model"}
