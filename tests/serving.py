"""Servers for tests: one in this process that is asked without a network, and one in a process of its own."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

MODELS = ("noisewright/shapes",)
VERIFIERS = ("brightness", "sharpness", "shapes-oracle")
HERE = "http://127.0.0.1:8188"
QUICK = ["--verifier", "brightness", "--judge", "none", "--steps", "2"]


def settings_of(runs, cache, **more):
    """Settings of a server over ``runs``, its thumbnails in a directory of the test's own."""
    from noisewright.web.settings import Settings

    own = {"runs": runs.resolve(), "models": MODELS, "verifiers": VERIFIERS, "cache": cache / "pictures"}
    return Settings(**{**own, **more})


@contextlib.contextmanager
def talking_to(settings, base=HERE, **more):
    """A client of a server in this process."""
    from starlette.testclient import TestClient

    from noisewright.web.app import app

    with TestClient(app(settings), base_url=base, follow_redirects=False, **more) as client:
        yield client


def events(text):
    """Server-sent events of a text, as (kind, value)."""
    found = []
    for part in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in part.splitlines() if not line.startswith(":") and ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def free_port():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def served(runs, *more, env=None):
    """``noisewright serve`` in a process of its own; gives its address and the process (see :func:`logged`).

    ``env`` adds to the environment.
    """
    port = [] if "--port" in more else ["--port", str(free_port())]
    command = [sys.executable, "-P", "-m", "noisewright", "serve", str(runs), *port, *map(str, more)]
    with tempfile.TemporaryFile("w+") as log:  # no pipe, which is full when nobody reads it
        surroundings = os.environ | (env or {})
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=surroundings)
        process.log = log
        try:
            line = process.stdout.readline()
            if not line:
                raise AssertionError(logged(process))
            yield line.split(" on ")[1].split(" ")[0].removesuffix("login").rstrip("/"), process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def logged(process):
    """What a server, and the process that holds its model, have said so far."""
    process.log.seek(0)
    return process.log.read()


@contextlib.contextmanager
def generating(here, *words, env=None):
    """A run with a page; gives the process and the page's address, which it says on standard error."""
    command = [sys.executable, "-P", "-m", "noisewright", "generate", "a red circle", "--serve", *QUICK, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here,
                               env={**os.environ, **(env or {})})  # fmt: skip
    try:
        yield process, found_in(process, "the run on ")
    finally:
        process.kill()
        process.communicate()


def found_in(process, before):
    """The address that a command says after some words on standard error."""
    for line in process.stderr:
        if found := re.search(before + r"(http\S+)", line):
            return found[1]
    raise AssertionError(f"it never said {before}")
