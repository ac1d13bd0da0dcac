"""What scoring by a server costs where the next images are made meanwhile, on the bundled model.

A server, a process of its own on this machine, answers as late as a micro-batch takes to make. The same best-of-N is
run in turns with the server waited for (serial) and not (overlapped). Prints both times, their ratio, and whether the
journals are the same but for timings.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import noisewright as nw
from noisewright.run.reading import read_journal
from noisewright.verifiers.http import HttpVerifier

PROMPT = "a green star left of a red circle"


class Serial(HttpVerifier):
    """The same server, waited for."""

    waits = False


class Handler(BaseHTTPRequestHandler):
    """Scores images by how bright they are, after a while; ``GET /SECONDS`` sets how long."""

    delay = 0.0

    def do_GET(self) -> None:
        Handler.delay = float(self.path[1:])
        self.reply("null")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.delay)
        images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in request["images"]]
        self.reply(json.dumps([float(one.mean()) / 255 for one in images]))

    def reply(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *given: object) -> None:
        """Say nothing."""


def serve(port: Connection) -> None:
    """Serve for ever; the port is sent first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    """The server's address."""
    here, there = Pipe()
    process = get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()


def content(run: Path) -> list[dict]:
    """The lines of a journal but for what the clock says."""
    timings = ("seconds", "elapsed")
    return [{key: value for key, value in one.items() if key not in timings} for one in read_journal(run)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    pipe = nw.load()
    pipe.set_progress_bar_config(disable=True)
    seconds: dict[str, list[float]] = {"serial": [], "overlapped": []}
    with serving() as address, tempfile.TemporaryDirectory() as place:
        url = f"{address}/score"
        verifiers = {"serial": Serial(url, name="server"), "overlapped": HttpVerifier(url, name="server")}

        def run(name: str, count: int, out: Path) -> nw.Result:
            return nw.search(
                pipe, PROMPT, verifier=verifiers[name], judge=[], budget=count, batch_size=given.batch, pictures=False,
                out=out,
            )  # fmt: skip

        run("serial", given.batch, Path(place) / "warm")
        made = [run("serial", 4 * given.batch, Path(place) / f"cold{k}").seconds for k in range(2)]
        delay = statistics.median((one["denoise"] + one["decode"]) / 4 for one in made)
        urllib.request.urlopen(f"{address}/{delay}").close()
        equal = True
        for number in range(given.repeats):
            roots = {name: Path(place) / f"{name}{number}" for name in seconds}
            for name, root in roots.items():
                began = time.perf_counter()
                run(name, given.count, root)
                seconds[name].append(time.perf_counter() - began)
            equal &= content(roots["serial"]) == content(roots["overlapped"])
    ratios = [ours / other for ours, other in zip(seconds["overlapped"], seconds["serial"], strict=True)]
    print(f"best of {given.count}, batch {given.batch}, {torch.get_num_threads()} threads; the server answers after "
          f"{delay:.2f} s, as long as a micro-batch takes")  # fmt: skip
    for name, values in seconds.items():
        print(f"{name:12}{statistics.median(values):8.2f} s")
    print(f"ratio       {statistics.median(ratios):8.3f}   ({min(ratios):.3f}..{max(ratios):.3f})")
    print(f"journals equal but for timings: {'yes' if equal else 'NO'}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
