"""A small OpenAI-compatible server that grades pictures of the shapes world by the oracle: what a VLM grader would be.

It answers ``POST /v1/chat/completions`` for the rubric of :mod:`noisewright.verifiers.rubric`: it reads the prompt out
of the question, the picture out of the data URL, and gives each aspect ten times the oracle's share of it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from noisewright.shapes.oracle import Grade, grade, to_batch
from noisewright.verifiers.rubric import ASPECTS, OVERALL

MODEL = "shapes-oracle"
PROMPT = re.compile(r'as a JSON string, is ("(?:[^"\\]|\\.)*")')
ACCURACY, QUALITY, COHESION = "accuracy_to_prompt", "visual_quality_and_realism", "consistency_and_cohesion"


def answered(body: dict[str, Any]) -> dict[str, Any]:
    """The completion for a request.

    Raises:
        ValueError: on one without a prompt that the world knows, or without a picture.
    """
    parts = body["messages"][-1]["content"]
    text = next(part["text"] for part in parts if part["type"] == "text")
    url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    found = PROMPT.search(text)
    if found is None:
        raise ValueError("expected the rubric's question, got another")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    rating = rated(grade(to_batch(picture), json.loads(found.group(1)))[0])
    message = {"role": "assistant", "content": json.dumps(rating)}
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }  # fmt: skip


def rated(found: Grade) -> dict[str, dict[str, Any]]:
    """A rubric's answer: the oracle's grade as overall score and accuracy, its parts where they are meant."""
    scores = dict.fromkeys(ASPECTS, 10 * found.score)
    shares = found.aspects
    scores[QUALITY] = 10 * min(shares.get("shapes", 1.0), shares.get("colours", 1.0))
    scores[COHESION] = 10 * min(shares.get("relation", 1.0), shares.get("binding", 1.0))
    scores[OVERALL] = scores[ACCURACY] = 10 * found.score
    text = "right" if found.right else ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return {name: {"score": round(score, 4), "explanation": text} for name, score in scores.items()}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            status, answer = 200, answered(body)
        except (ValueError, TypeError, LookupError, StopIteration, OSError) as error:
            status, answer = 400, {"error": {"message": str(error) or type(error).__name__}}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """The server on loopback, while the block lasts; gives its ``http://127.0.0.1:PORT/v1``."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
