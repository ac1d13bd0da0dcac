"""Image servers on loopback: what a seed's picture is, and answers of the protocol, good and bad."""

from __future__ import annotations

import base64
import io
import time

import numpy as np
from PIL import Image

from loopback import Reply, serving

SIZE = (8, 12)
"""Height and width."""

MODEL = "tiny/painter"


def picture(seed, size=SIZE):
    """The image of a seed, (height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def encoded(array, kind="png"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def image_reply(array, **more):
    return Reply({"created": 0, "data": [{"b64_json": encoded(array)}]}, **more)


def models_reply(*models):
    return Reply({"object": "list", "data": [{"id": name, "object": "model", "created": time.time_ns(),
                                              "owned_by": "tests"} for name in models or (MODEL,)]})  # fmt: skip


def error_reply(status, message, **headers):
    return Reply({"error": {"message": message, "type": "invalid_request_error"}}, status, headers)


def plain(seen, number):
    """A server that does as it should."""
    if seen.path.endswith("/models"):
        return models_reply()
    width, height = map(int, seen.body.get("size", f"{SIZE[1]}x{SIZE[0]}").split("x"))
    return image_reply(picture(seen.body["seed"], (height, width)))


def painting(answer=None):
    """A :class:`~loopback.Loopback` whose images ``answer(seen)`` gives; its list has one model."""
    return serving(lambda seen, number: plain(seen, number) if answer is None or seen.path.endswith("/models")
                   else answer(seen))  # fmt: skip


def asked_of(server):
    """The bodies of the requests for images, in the order in which they came."""
    return [one.body for one in server.seen if one.path.endswith("/images/generations")]
