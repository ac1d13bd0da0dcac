"""The images endpoint on loopback, in this process or in one of its own: ``python serving_images.py RUNS PORT``."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import openai
import uvicorn

from noisewright.web.openai.app import images_app
from noisewright.web.openai.settings import ImagesSettings

SHAPES = "noisewright/shapes"
PROMPT = "a red circle"
QUICK = {"num_inference_steps": 2}
"""What makes an image in milliseconds."""

OWN = ("seed", "search", "negative_prompt", "guidance_scale", "num_inference_steps")
"""Fields that OpenAI has not."""


def settings_of(runs, **more):
    more.setdefault("device", "cpu")
    return ImagesSettings(runs=Path(runs), **more)


class Served:
    """A service with its address."""

    def __init__(self, service, url):
        self.service, self.settings, self.url = service, service.settings, url


def served_by(app, port=0):
    """The server of an application."""
    return uvicorn.Server(uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1,
    ))  # fmt: skip


@contextmanager
def serving_images(settings):
    """The service and the server for as long as the block lasts."""
    app = images_app(settings)
    server = served_by(app)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Served(app.state.images, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def client_of(served, **more):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=120, **more)


def generate(client, prompt=PROMPT, **fields):
    own = {key: fields.pop(key) for key in OWN if key in fields}
    return client.images.generate(prompt=prompt, extra_body={**QUICK, **own}, **fields)


def posted(served, body, path="/v1/images/generations", **headers):
    """Status, headers and JSON of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{served.url}{path}", data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.loads(error.read())


def got(served, path):
    with urllib.request.urlopen(f"{served.url}{path}", timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    served_by(images_app(settings_of(sys.argv[1])), int(sys.argv[2])).run()
