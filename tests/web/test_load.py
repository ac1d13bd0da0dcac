"""Many requests at once, of a server that is killed in the middle: nothing that it accepted is lost."""

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from noisewright.run.reading import read_run
from serving import events, free_port, served

CLIENTS, REQUESTS = 8, 200
KILLED_AFTER = 40
"""Answers, when the server is killed."""

WARM_AFTER = 140
"""Answers, when its successor has filled what it keeps ready: it grows by some 15 MiB over a hundred requests."""

MOST_TRIES = 600
"""Of one request, 0.1 s apart, until a server is there again."""

MOST_GROWN = 8
"""MiB that a process may grow by over sixty requests, where half a MiB is seen. 140 KiB kept of each are found."""

TIDY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""The C library gives back what is freed, so that what grows is kept: left alone, it holds some MiB more."""

STREAMED = 5
"""Every so many requests one is a stream."""


def resident(pid):
    """MiB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def family(pid):
    """A server's process and the one that holds its model, which another thread of it may have started."""
    lists = [(path / "children").read_text().split() for path in Path(f"/proc/{pid}/task").iterdir()]
    return [pid, *(int(one) for some in lists for one in some)]


def asked(client, number):
    """The answer to one request, sent again under its key where the server went away.

    Each has a long prompt of its own, so that what is kept of one is of no use to another.
    """
    prompt = f"a red circle, the {number}th of them, " + f"{number * 7919 % 1000} red and blue " * 250
    body = {"prompt": prompt[:5000], "num_inference_steps": 2, "quality": "low", "seed": number}
    if number % STREAMED == 0:
        body |= {"stream": True, "partial_images": 1}
    for _ in range(MOST_TRIES):
        try:
            answer = client.post("/v1/images/generations", json=body, headers={"Idempotency-Key": f"key {number}"})
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        found = answer_in(answer)
        if found is not None:
            return answer.status_code, found
        time.sleep(0.1)
    raise AssertionError(f"no answer to request {number}")


def answer_in(answer):
    """What an answer says, or the last event of a stream; None where the request is to be sent again."""
    if answer.status_code in (429, 503):
        return None
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()
    kind, last = events(answer.text)[-1]
    if kind == "image_generation.completed":
        return {"id": last["id"], "data": [last]}
    assert kind == "error", kind
    return None if last["error"]["code"] == "stopping" else last


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_two_hundred_requests_of_eight_clients_outlive_their_server(tmp_path):
    runs, port = tmp_path / "runs", free_port()
    runs.mkdir()
    words = ("--port", str(port), "--model", "noisewright/shapes")
    answers, sizes, lock, many = {}, [], threading.Lock(), threading.Event()
    with served(runs, *words) as (address, first), httpx.Client(base_url=address, timeout=120) as client:
        def one(number):
            found = asked(client, number)
            with lock:
                answers[number] = found
                if len(answers) == KILLED_AFTER:
                    many.set()

        with ThreadPoolExecutor(CLIENTS) as pool:
            waited = [pool.submit(one, number) for number in range(REQUESTS)]
            assert many.wait(300)
            first.send_signal(signal.SIGKILL)
            first.wait()
            with served(runs, *words, env=TIDY) as (_, second):
                while not all(one.done() for one in waited):
                    if len(answers) >= WARM_AFTER and not sizes:
                        sizes += [resident(pid) for pid in family(second.pid)]
                    time.sleep(0.02)
                for one in waited:
                    one.result()
                sizes += [resident(pid) for pid in family(second.pid)]
                metrics = client.get("/metrics").text
    assert [answers[number][0] for number in range(REQUESTS)] == [200] * REQUESTS
    assert [answers[number][1]["data"][0]["seed"] for number in range(REQUESTS)] == list(range(REQUESTS))
    assert len({found["data"][0]["b64_json"] for _, found in answers.values()}) == REQUESTS
    notes = [json.loads(path.read_text()) for path in (runs / ".requests").glob("img_*.json")]
    assert [one["state"] for one in notes] == ["done"] * REQUESTS  # none was lost, and none done twice
    assert all(read_run(runs / one["id"])["summary"]["images"] == 1 for one in notes)
    assert "noisewright_queue 0" in metrics
    assert "noisewright_running 0" in metrics
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(values['noisewright_requests_total{state="done"}']) == float(values["noisewright_images_total"])
    assert float(values["noisewright_nfe_total"]) == 2 * float(values["noisewright_images_total"])
    assert not [name for name in values if "failed" in name or 'status="500"' in name]
    assert len(sizes) == 4, sizes
    assert max(sizes[2] - sizes[0], sizes[3] - sizes[1]) < MOST_GROWN, sizes
