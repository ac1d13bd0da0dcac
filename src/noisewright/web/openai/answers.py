"""What a client gets: images in its format with their scores and seeds, whole or as events of a stream."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.run.reading import read_run
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.jobs import Job
from noisewright.web.openai.settings import tier_of

MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """One of the best images of a run.

    Attributes:
        file: its PNG.
        id, seed, scores, value: as the run has them.
    """

    file: Path
    id: str
    seed: int | None
    scores: Mapping[str, float | None]
    value: float | None


def pictures_of(root: Path) -> tuple[list[Picture], dict[str, Any]]:
    """The best images of a run that ended, best first, and its summary.

    Raises:
        ApiError: 404, where there are none (any more).
    """
    try:
        summary = read_run(root).get("summary")
    except ValueError:
        summary = None
    if not summary:
        raise ApiError(404, "the images of this request are not there", code="not_found")
    shown = summary.get("kept") or [summary["best"]]
    try:
        found = [Picture(inside(root, one["file"]), one["id"], one["seed"], one["scores"], one.get("value"))
                 for one in shown]  # fmt: skip
    except (KeyError, ValueError):
        raise ApiError(404, "the images of this request are not there", code="not_found") from None
    return found, summary


def format_of(job: Job) -> tuple[str, int]:
    """The format of a job's images, and the quality of the lossy ones."""
    return str(job.answering.get("output_format") or "png"), int(job.answering.get("output_compression", 100))


def encoded(file: Path, kind: str, quality: int) -> bytes:
    """An image in a format; a PNG as it is, with what made it.

    Raises:
        ApiError: 404, where it is gone.
    """
    try:
        if kind == "png":
            return file.read_bytes()
        pixels, _ = read_image(file)
    except (OSError, ValueError):
        raise ApiError(404, "the images of this request are not there", code="not_found") from None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=max(1, quality))
    return buffer.getvalue()


def answer(job: Job, root: Path, base_url: str, tell: Callable[[str], str] = str) -> dict[str, Any]:
    """The body of the answer to a request that is done.

    Args:
        job: whose it is.
        root: its run.
        base_url: of this server, for ``response_format`` url.
        tell: what a client is told of a line that the run says.

    Raises:
        ApiError: 404, where its images are gone.
    """
    pictures, summary = pictures_of(root)
    kind, quality = format_of(job)
    data = []
    for number, one in enumerate(pictures, 1):
        if job.answering.get("response_format") == "url":
            shown = {"url": f"{base_url.rstrip('/')}/v1/images/files/{job.id}/{number}.{kind}"}
        else:
            shown = {"b64_json": base64.b64encode(encoded(one.file, kind, quality)).decode()}
        data.append({**shown, **_extras(one)})
    return {
        "created": job.created, "id": job.id, "data": data, **_shape(job, pictures), "usage": usage_of(summary),
        **_said(job, summary, tell),
    }  # fmt: skip


def _extras(one: Picture) -> dict[str, Any]:
    """What is ours about an image."""
    return {"id": one.id, "seed": one.seed, "score": one.value, "scores": dict(one.scores)}


def _said(job: Job, summary: Mapping[str, Any], tell: Callable[[str], str]) -> dict[str, Any]:
    """Why the search ended, and what is to be known of it."""
    return {"stopped": job.stopped or summary.get("stopped"), "warnings": [*map(tell, summary.get("warnings", []))]}


def _shape(job: Job, pictures: list[Picture]) -> dict[str, Any]:
    size = str(job.answering.get("size") or "auto")
    if size == "auto" and pictures:
        try:
            with Image.open(pictures[0].file) as opened:
                size = f"{opened.width}x{opened.height}"
        except OSError:
            size = "auto"
    kind, _ = format_of(job)
    quality = job.answering.get("quality")
    return {"background": "opaque", "output_format": kind, "quality": tier_of(quality), "size": size}


def usage_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What it cost: no tokens, of which a search uses none, and what it does use."""
    none = {"image_tokens": 0, "text_tokens": 0}
    return {
        "input_tokens": 0, "input_tokens_details": none, "output_tokens": 0, "output_tokens_details": none,
        "total_tokens": 0, "images": summary["images"], "nfe": summary["nfe"], "forwards": summary["forwards"],
        "seconds": summary["seconds"]["total"],
    }  # fmt: skip


def event(kind: str, body: Mapping[str, Any]) -> str:
    """A server-sent event, whose name is its ``type`` too."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"


def error_event(error: ApiError) -> str:
    """The event in place of an answer that fails on its way."""
    return f"event: error\ndata: {json.dumps({'type': 'error', **error.to_json()})}\n\n"


def partial_event(job: Job, file: Path, number: int) -> str:
    """The best so far."""
    kind, quality = format_of(job)
    body = base64.b64encode(encoded(file, kind, quality)).decode()
    return event(f"image_{job.kind}.partial_image", {
        "b64_json": body, "partial_image_index": number, "created_at": job.created, "id": job.id,
        **_shape(job, [Picture(file, "", None, {}, None)]),
    })  # fmt: skip


def completed_events(job: Job, root: Path, tell: Callable[[str], str] = str) -> list[str]:
    """The winners, an event each, best first."""
    pictures, summary = pictures_of(root)
    kind, quality = format_of(job)
    return [
        event(f"image_{job.kind}.completed", {
            "b64_json": base64.b64encode(encoded(one.file, kind, quality)).decode(), "created_at": job.created,
            **_shape(job, [one]), **_extras(one), "id": job.id, "image": one.id, "usage": usage_of(summary),
            **_said(job, summary, tell),
        })
        for one in pictures
    ]  # fmt: skip
