"""What scoring by a server costs where the next images are made meanwhile, on the bundled model.

A server on this machine answers as late as a micro-batch takes to make. The same best-of-N is run in turns with the
server waited for (serial) and not (overlapped), in this process. Prints both times, their ratio, and whether the
journals are the same but for timings.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    """Scores images by how bright they are, after a while."""

    delay = 0.0

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.delay)
        images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in asked["images"]]
        answer = json.dumps([float(one.mean()) / 255 for one in images]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *given: object) -> None:
        """Say nothing."""


@contextmanager
def serving():
    """The server's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/score"
    finally:
        server.shutdown()


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
    with serving() as url, tempfile.TemporaryDirectory() as place:
        verifiers = {"serial": Serial(url, name="server"), "overlapped": HttpVerifier(url, name="server")}

        def run(name: str, count: int, out: Path) -> float:
            began = time.perf_counter()
            nw.search(
                pipe, PROMPT, verifier=verifiers[name], judge=[], budget=count, batch_size=given.batch, pictures=False,
                out=out,
            )  # fmt: skip
            return time.perf_counter() - began

        run("serial", given.batch, Path(place) / "warm")
        batches = [run("serial", 2 * given.batch, Path(place) / f"cold{k}") / 2 for k in range(3)]
        Handler.delay = statistics.median(batches)
        equal = True
        for number in range(given.repeats):
            roots = {name: Path(place) / f"{name}{number}" for name in seconds}
            for name, root in roots.items():
                seconds[name].append(run(name, given.count, root))
            equal &= content(roots["serial"]) == content(roots["overlapped"])
    ratios = [ours / other for ours, other in zip(seconds["overlapped"], seconds["serial"], strict=True)]
    print(f"best of {given.count}, batch {given.batch}, {torch.get_num_threads()} threads; the server answers after "
          f"{Handler.delay:.2f} s, as long as a micro-batch takes")  # fmt: skip
    for name, values in seconds.items():
        print(f"{name:12}{statistics.median(values):8.2f} s")
    print(f"ratio       {statistics.median(ratios):8.3f}   ({min(ratios):.3f}..{max(ratios):.3f})")
    print(f"journals equal but for timings: {'yes' if equal else 'NO'}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
