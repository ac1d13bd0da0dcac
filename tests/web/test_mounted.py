"""The images endpoint beside the page: one guard, one model in memory, one list of runs."""

import base64
import io
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

import tiny
from noisewright.run.reading import read_run
from noisewright.web.openai.mounted import images_settings
from noisewright.web.settings import Limits
from serving import MODELS, logged, served, settings_of, talking_to

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
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert str(runs) not in answer.text
        assert client.get("/api/runs").status_code == 200


def test_health_is_not_well_where_the_disk_is_full(runs, tmp_path, monkeypatch):
    """A full one still takes the name of a file, and not what is in it."""
    import errno

    from noisewright.web.openai import jobs

    before = jobs.write_atomically

    def full(path, data, **more):
        if data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        before(path, data, **more)

    with talking_to(settings_of(runs, tmp_path)) as client:
        assert client.get("/healthz").status_code == 200
        monkeypatch.setattr(jobs, "write_atomically", full)
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        monkeypatch.undo()
        assert client.get("/healthz").status_code == 200
        assert not (runs / ".requests" / "probe").exists()


def test_health_is_that_of_the_endpoint(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path)) as client:
        assert client.get("/healthz").json() == {"status": "ok", "waiting": 0, "running": 0}
        client.app.state.parts.images.end()
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the server is being stopped")
    with talking_to(settings_of(runs, tmp_path, only="first")) as client:
        assert client.get("/healthz").status_code == 200


def test_a_first_model_that_cannot_be_loaded_is_said(runs, tmp_path):
    model = tmp_path / "private" / "model"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    with talking_to(settings_of(runs, tmp_path, models=(str(model),), preload=True)) as client:
        answer = until(lambda: (found := client.get("/healthz")).status_code == 503 and found)
        assert "the first model cannot be loaded" in answer.json()["reason"]
        assert str(tmp_path) not in answer.text
        answer = client.post("/v1/images/generations", json=BODY)  # the server's fault, and no word of where it is
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert str(tmp_path) not in answer.text
        until(lambda: 'noisewright_requests_total{state="failed"} 1' in client.get("/metrics").text)


def metrics_of(client):
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.mark.slow
def test_metrics_are_of_the_page_and_the_endpoint(client, monkeypatch):
    made(client, search={"budget": 3, "verifiers": "brightness"})
    asked = metrics_of(client)
    assert asked["noisewright_images_total"] == 3
    assert (asked["noisewright_queue"], asked["noisewright_jobs_queue"]) == (0, 0)
    client.post("/api/start", json={"fields": FIELDS})
    until(lambda: metrics_of(client).get('noisewright_jobs_total{state="done"}') == 1)
    both = metrics_of(client)
    assert both["noisewright_images_total"] == 5
    assert both["noisewright_nfe_total"] == 10
    assert both['noisewright_seconds_total{phase="denoise"}'] > asked['noisewright_seconds_total{phase="denoise"}']
    long = client.post("/api/start", json={"fields": {**FIELDS, "budget": ["400 images"]}}).json()
    client.post("/api/start", json={"fields": FIELDS})
    until(lambda: metrics_of(client)["noisewright_jobs_running"] == 1)
    assert metrics_of(client)["noisewright_jobs_queue"] == 1
    client.post("/api/stop", json={"run": long["run"]})
    until(lambda: metrics_of(client)["noisewright_jobs_queue"] == metrics_of(client)["noisewright_jobs_running"] == 0)
    ended = metrics_of(client)
    assert sum(value for name, value in ended.items() if name.startswith("noisewright_jobs_total")) == 3
    for _ in range(2):
        client.get("/api/runs", headers={"Host": "evil.example"})
        client.post("/api/mark", json={}, headers={"Origin": "http://evil.example"})
    client.post("/v1/images/generations", json={})
    refused = metrics_of(client)
    assert [refused[f'noisewright_refused_total{{status="{status}"}}'] for status in (400, 403, 421)] == [1, 2, 2]


@pytest.mark.slow
def test_the_start_says_where_and_how_models_are_loaded(runs, tmp_path):
    """For both alike, so that they share one; a run that was begun otherwise goes on as it was."""
    with talking_to(settings_of(runs, tmp_path)) as client:
        begun = client.post("/api/start", json={"fields": FIELDS}).json()
        until(lambda: client.get("/api/jobs").json()["jobs"][-1]["state"] == "done")
    with talking_to(settings_of(runs, tmp_path, device="cpu", dtype="float64")) as client:
        asked = made(client)["id"]
        of_page = client.post("/api/start", json={"fields": FIELDS}).json()["run"]
        client.post("/api/more", json={"run": begun["run"], "budget": "4 images"})
        until(lambda: all(one["state"] == "done" for one in client.get("/api/jobs").json()["jobs"]))
        found = {name: read_run(runs / name) for name in (asked, of_page, begun["run"])}
    assert [one["spec"]["sampler"]["dtype"] for one in found.values()] == ["float64", "float64", "float32"]
    assert found[begun["run"]]["summary"]["images"] == 4


@pytest.mark.slow
def test_requests_are_edited_with_a_mask_through_the_whole_server(runs, tmp_path):
    """``noisewright serve`` takes pictures, and what a mask keeps is kept."""
    from diffusers import StableDiffusionInpaintPipeline

    model = tmp_path / "inpaint"
    StableDiffusionInpaintPipeline(**tiny.sd().components, requires_safety_checker=False).save_pretrained(model)
    fields = {"prompt": "two", "num_inference_steps": "4", "seed": "3", "quality": "low",
              "search[verifiers]": "brightness"}  # fmt: skip

    def drawn(image):
        file = io.BytesIO()
        image.save(file, "png")
        return file.getvalue()

    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    everything = Image.new("L", (32, 32), 255)
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    with talking_to(settings_of(runs, tmp_path, models=(str(model),))) as client:
        def edited(mask, image=noise):
            files = {"image": ("x.png", drawn(Image.fromarray(image))), "mask": ("m.png", drawn(mask))}
            answer = client.post("/v1/images/edits", data=fields, files=files)
            assert answer.status_code == 200, answer.text
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))))

        whole, part = edited(everything), edited(half)
        assert whole.shape == part.shape == (32, 32, 3)
        assert not np.array_equal(whole, part)
        files = {"image": ("x.png", drawn(Image.fromarray(noise))),
                 "mask": ("m.png", drawn(Image.new("L", (4097, 8), 0)))}  # fmt: skip
        answer = client.post("/v1/images/edits", data=fields, files=files)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mask")


LOUD = "a red circle\nERROR forged line\x1b[31m\x1b]0;title\x07 \u202e\u2066 " + "very " * 300


@pytest.mark.slow
def test_nothing_that_a_client_says_is_a_line_of_the_log(runs):
    """Neither of the server nor of the process that holds its model, whose libraries say what they cut of a prompt."""
    with served(runs, "--model", "noisewright/shapes", "--verifier", "shapes-clip") as (address, process):
        with httpx.Client(base_url=address, timeout=120) as client:
            for path, body in (("/v1/images/generations", {**BODY, "prompt": LOUD, "search": {}}),
                               ("/v1/images/generations", {**BODY, "model": LOUD[:200]}),
                               ("/v1/images/generations", {**BODY, "search": {"verifiers": LOUD[:200]}}),
                               ("/api/start", {"fields": {**FIELDS, "prompt": LOUD, "verifier": ["shapes-clip"]}}),
                               (f"/{quote(LOUD[:40])}", {})):  # fmt: skip
                client.post(path, json=body, headers={"X-Loud": "a\tb"})
            until(lambda: all(one["state"] == "done" for one in client.get("/api/jobs").json()["jobs"]))
        said = logged(process)
    assert not [mark for mark in ("\x1b", "\x07", "\u202e", "\u2066") if mark in said]
    assert not [line for line in said.splitlines() if line.startswith("ERROR forged")]


def test_every_record_of_a_process_is_one_harmless_line():
    code = """
import logging, warnings
from noisewright.outside.texts import guard_all_logs
guard_all_logs()
loud = "prompt\\nERROR forged \\x1b[31m"
logging.getLogger("diffusers.pipelines").error("cut: %s", loud)
logging.getLogger().error(loud)
warnings.warn(loud)
try:
    raise ValueError(loud)
except ValueError:
    logging.getLogger("elsewhere").exception("failed")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\x1b" not in found.stderr
    assert found.stderr.count("prompt ERROR forged") >= 3
    assert not [line for line in found.stderr.splitlines() if line.startswith("ERROR")]


@pytest.mark.slow
def test_the_first_model_is_loaded_at_once_where_it_is_wanted(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, preload=True)) as client:
        assert client.get("/v1/models").json()["data"][0]["fingerprint"]
        assert len([one for one in threading.enumerate() if one.name == "model"]) == 1
