"""What was accepted is not lost: the server is killed, ended, started again with less to offer."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

import tiny
from noisewright.run.reading import read_journal, read_run
from noisewright.web.openai.fields import EditFields, read_fields
from noisewright.web.openai.service import ImagesService
from web.serving_images import QUICK, SHAPES, serving_images, settings_of

HERE = Path(__file__).parent
PROMPT = "a red circle"
LONG = {"prompt": PROMPT, "num_inference_steps": 10, "search": {"budget": 48, "verifiers": "brightness"}}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def got(url):
    with suppress(OSError, urllib.error.HTTPError), urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())
    return None


def posted(url, body):
    request = urllib.request.Request(f"{url}/v1/images/generations", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    except OSError as error:
        return 0, str(error)


@contextmanager
def process(runs, port):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.Popen([sys.executable, str(HERE / "serving_images.py"), str(runs), str(port)], env=env)
    try:
        until(lambda: got(f"http://127.0.0.1:{port}/healthz") or found.poll() is not None)
        assert found.poll() is None
        yield found
    finally:
        found.kill()
        found.wait()


def notes(runs):
    return {path.stem: json.loads(path.read_text()) for path in (runs / ".requests").glob("img_*.json")}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_every_accepted_request_is_finished_by_the_next_server(tmp_path, how):
    runs, port = tmp_path / "runs", free_port()
    url = f"http://127.0.0.1:{port}"
    with process(runs, port) as server, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(posted, url, LONG) for _ in range(3)]
        until(lambda: len(notes(runs)) == 3 and any(len(list(one.glob("images/*.png"))) > 2 for one in runs.iterdir()))
        server.send_signal(how)
        server.wait(60)
        ended = [one.result()[0] for one in waiting]
    assert set(ended) <= ({0} if how == signal.SIGKILL else {0, 503})
    assert {one["state"] for one in notes(runs).values()} == {"queued"}
    begun = {name: len(read_journal(runs / name)) for name in notes(runs) if (runs / name / "run.json").is_file()}
    assert begun
    with process(runs, port):
        for name in notes(runs):
            found = until(lambda name=name: (one := got(f"{url}/v1/images/generations/{name}"))
                          and one["status"] == "completed" and one)  # fmt: skip
            assert len(found["result"]["data"]) == 1
            assert found["result"]["usage"]["images"] == 48
    for name in notes(runs):
        files = list((runs / name / "images").glob("*.png"))
        assert len(files) == 48  # what was there was not made twice


def test_what_waits_is_put_off_where_the_service_ends_and_done_by_the_next(tmp_path):
    runs = tmp_path / "runs"
    with ThreadPoolExecutor(2) as pool:
        with serving_images(settings_of(runs, at_once=1)) as served:
            first, second = (pool.submit(posted, served.url, LONG) for _ in range(2))
            until(lambda: served.service.running == 1 and served.service.waiting == 1)
        assert {one.result()[0] for one in (first, second)} <= {0, 503}
    assert {one["state"] for one in notes(runs).values()} == {"queued"}
    with serving_images(settings_of(runs, at_once=1)):
        until(lambda: {one["state"] for one in notes(runs).values()} == {"done"})


def test_what_is_no_longer_offered_says_so(tmp_path):
    runs = tmp_path / "runs"
    with ThreadPoolExecutor(1) as pool, serving_images(settings_of(runs, at_once=1)) as served:
        pool.submit(posted, served.url, LONG)
        until(lambda: served.service.running == 1)
    name = next(iter(notes(runs)))
    with serving_images(settings_of(runs, models={"small": "noisewright/shapes-small"})) as served:
        found = got(f"{served.url}/v1/images/generations/{name}")
    assert found["status"] == "failed"
    assert found["why"] == "the server offers 'noisewright/shapes' no longer"


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 2, "id": "img_000000000000000000000000"}'])
def test_a_damaged_note_is_said_and_left(tmp_path, caplog, text):
    folder = tmp_path / "runs" / ".requests"
    folder.mkdir(parents=True)
    (folder / "img_000000000000000000000000.json").write_text(text)
    with caplog.at_level(logging.WARNING, "noisewright"), serving_images(settings_of(tmp_path / "runs")) as served:
        assert posted(served.url, {"prompt": PROMPT, **QUICK, "quality": "low"})[0] == 200
    assert "img_000000000000000000000000" in caplog.text
    assert (folder / "img_000000000000000000000000.json").read_text() == text


AMOUNTS = ["1e999", "1e300", "-5", "9" * 400, "null", "true", '"1"', "[]"]
ANSWERING = [("output_compression", {}), ("output_format", "pdf"), ("output_format", [None]), ("quality", [{}]),
             ("n", 10**30), ("partial_images", "x"), ("response_format", "file")]  # fmt: skip


@pytest.mark.parametrize("state", ["done", "queued"])
def test_what_a_note_says_is_of_its_kind(tmp_path, caplog, state):
    """Whatever stands in one, the server starts, works, and answers about it."""
    runs = tmp_path / "runs"
    with serving_images(settings_of(runs)) as served:
        assert posted(served.url, {"prompt": PROMPT, **QUICK, "quality": "low"})[0] == 200
    path = next((runs / ".requests").glob("img_*.json"))
    held = {**json.loads(path.read_text()), "state": state}
    texts = [json.dumps({**held, "created": "@"}).replace('"@"', one) for one in AMOUNTS]
    texts += [json.dumps({**held, "answering": {name: one}}) for name, one in ANSWERING]
    path.unlink()
    for number, text in enumerate(texts):
        name = f"img_{number:024x}"
        path.with_name(f"{name}.json").write_text(text.replace(path.stem, name))
    with caplog.at_level(logging.WARNING, "noisewright"), serving_images(settings_of(runs, at_once=1)) as served:
        assert posted(served.url, {"prompt": PROMPT, **QUICK, "quality": "low"})[0] == 200
        for number in range(len(texts)):
            assert got(f"{served.url}/v1/images/generations/img_{number:024x}") is None
    assert caplog.text.count("got a damaged one") == len(texts)


def test_who_waits_is_told_that_somebody_else_cancelled(tmp_path):
    """What waits and what is begun, each in its own words, and not that the client itself went away."""
    with serving_images(settings_of(tmp_path / "runs", at_once=1)) as served, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(posted, served.url, LONG) for _ in range(2)]
        until(lambda: served.service.running == 1 and served.service.waiting == 1)
        for job in served.service.open_jobs()[::-1]:
            served.service.leave(job, "it was taken out of the queue on the page")
        found = [one.result(60) for one in answers]
    assert [status for status, _ in found] == [409, 409]
    assert all("it was taken out of the queue on the page" in body["error"]["message"] for _, body in found)


def test_a_stream_says_that_the_server_ends(tmp_path):
    """It ends as a stream does, with an event, and nothing is cut."""
    with serving_images(settings_of(tmp_path / "runs")) as served:
        body = json.dumps({**LONG, "stream": True, "partial_images": 1}).encode()
        request = urllib.request.Request(f"{served.url}/v1/images/generations", body,
                                         {"Content-Type": "application/json"})  # fmt: skip
        answer = urllib.request.urlopen(request, timeout=60)
        first = answer.readline()
    with answer:
        rest = answer.read().decode()  # which fails where it was cut
    assert first == b"event: image_generation.partial_image\n"
    last = rest.strip().rpartition("\n\n")[2]
    assert last.startswith("event: error")
    assert "the server is being stopped" in last


HOSTILE = {
    "a verifier in a file": ({"verifier": ["evil.py:run"]}, "verifier 'evil.py:run' no longer"),
    "a model elsewhere": ({"model": "evil/model"}, "offers 'evil/model' no longer"),
    "a directory to write to": ({"score_cache": "cache"}, "expected no score_cache"),
    "an image elsewhere": (
        {"pipeline_args": {"image": {"$file": ["/etc/x.png", "", "RGB", [1, 1]]}}}, "expected no image",
    ),
    "an argument": ({"pipeline_args": {"callback": 3}}, "expected no callback"),
    "arguments of a search": ({"search": "refine", "search_args": {"start": "x.png"}}, "expected no search_args"),
    "a LoRA": ({"loras": [{"file": "x.safetensors"}]}, "expected no loras"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_note_names_nothing_that_a_request_could_not(tmp_path, name):
    """What lies in the directory is data."""
    changes, says = HOSTILE[name]
    runs = tmp_path / "runs"
    with ThreadPoolExecutor(1) as pool, serving_images(settings_of(runs, at_once=1)) as served:
        pool.submit(posted, served.url, LONG)
        until(lambda: served.service.running == 1)
    path = next((runs / ".requests").glob("*.json"))
    held = json.loads(path.read_text())
    held["request"].update(changes)
    path.write_text(json.dumps(held))
    with serving_images(settings_of(runs)) as served:
        found = got(f"{served.url}/v1/images/generations/{path.stem}")
    assert found["status"] == "failed"
    assert says in found["why"]


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_two_hundred_requests_of_eight_clients(tmp_path):
    runs, port = tmp_path / "runs", free_port()
    sizes = []
    with process(runs, port) as server:
        def one(number):
            found = posted(f"http://127.0.0.1:{port}", {"prompt": PROMPT, **QUICK, "quality": "low", "seed": number})
            if number % 50 == 49:
                sizes.append(resident(server.pid))
            return found

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(200)))
    assert [status for status, _ in answers] == [200] * 200
    assert [found["data"][0]["seed"] for _, found in answers] == list(range(200))
    assert len({found["data"][0]["b64_json"] for _, found in answers}) == 200
    assert {one["state"] for one in notes(runs).values()} == {"done"}
    assert read_run(runs / answers[0][1]["id"])["spec"]["sampler"]["model"] == SHAPES
    assert max(sizes[1:]) - sizes[0] < 64, sizes


def test_an_edit_goes_on_with_its_own_image(tmp_path):
    runs, model = tmp_path / "runs", tmp_path / "model"
    StableDiffusionImg2ImgPipeline(**tiny.sd().components, requires_safety_checker=False).save_pretrained(model)
    settings = settings_of(runs, models={"tiny": str(model)})
    settings.notes.mkdir(parents=True)
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "png")
    fields = read_fields(EditFields, {"prompt": "two", "num_inference_steps": 5, "quality": "low"})
    begun = ImagesService(settings)  # which is never started
    job = begun.submit(fields, "edit", None, {"image": file.getvalue()})
    with serving_images(settings):
        until(lambda: notes(runs)[job.id]["state"] != "queued")
    assert notes(runs)[job.id]["state"] == "done", notes(runs)[job.id]["why"]
