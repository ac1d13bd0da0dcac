"""A real HTTP server on loopback that answers as a test says, and misbehaves as it says."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class Reply:
    """What a request gets.

    Attributes:
        body: text as it is, anything else as JSON.
        status, headers: of the answer.
        after: seconds before anything is sent.
        cut: how many bytes of the body are sent before the connection is closed; None: all.
        drip: seconds between any two bytes of the body.
        drip_head: the same before the body, in a header that never ends.
    """

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0
    cut: int | None = None
    drip: float = 0.0
    drip_head: float = 0.0


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: Any
    at: float


class Loopback:
    """``answer(seen, number)`` gives the reply to the request of that number, from 0; requests run at once."""

    def __init__(self, answer):
        self.answer = answer
        self.seen: list[Seen] = []
        self.busy = self.most_busy = 0
        self.closed = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.serve(self)

            def do_GET(self):
                outer.serve(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def serve(self, handler):
        raw = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            number = len(self.seen)
            headers = {key.lower(): value for key, value in handler.headers.items()}
            seen = Seen(handler.path, headers, json.loads(raw or b"null"), time.time())
            self.seen.append(seen)
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
        try:
            reply = self.answer(seen, number)
            self.closed.wait(reply.after)
            body = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
            if reply.cut is not None:
                handler.close_connection = True
                if reply.cut == 0:
                    return
            if reply.drip_head:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not self.closed.is_set():
                    handler.wfile.write(b"x")
                    time.sleep(reply.drip_head)
                return
            handler.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
            for key, value in headers.items():
                handler.send_header(key, value)
            handler.end_headers()
            if reply.drip:
                for at in range(len(body)):
                    if self.closed.is_set():
                        return
                    handler.wfile.write(body[at : at + 1])
                    time.sleep(reply.drip)
                return
            handler.wfile.write(body if reply.cut is None else body[: reply.cut])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough
        finally:
            with self._lock:
                self.busy -= 1


@contextmanager
def serving(answer):
    """A :class:`Loopback` on a free port, for as long as the block lasts."""
    loopback = Loopback(answer)
    thread = threading.Thread(target=loopback.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield loopback
    finally:
        loopback.closed.set()
        loopback.server.shutdown()
        loopback.server.server_close()
        thread.join()


def means(seen):
    """The mean of the numbers of each image that a verifier's request holds."""
    return [float(np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))).mean()) for one in seen.body["images"]]
