"""Bodies of requests, read within bounds: JSON, or a form with images, which are decoded and written anew."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from noisewright.images.reading import decode_image
from noisewright.outside.files import write_atomically
from noisewright.outside.texts import clean
from noisewright.schemas.reading import parse_json
from noisewright.web.openai.errors import ApiError

MOST_FILES, MOST_FIELDS = 8, 60

PARTS = {"image": "image", "image[]": "image", "mask": "mask_image"}
"""Files of a form, and the arguments of a pipeline's call."""

KINDS = ("PNG", "JPEG", "WEBP")
"""Formats of pictures that are taken."""


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        ApiError: 413, where it is larger, as soon as that is known; 400 where the client went away in its middle.
    """
    too_large = ApiError(413, f"expected a body of at most {most} bytes, got more", code="body_too_large")
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and (len(said) > 15 or int(said) > most):
        raise too_large
    found = bytearray()
    try:
        async for part in request.stream():
            found += part
            if len(found) > most:
                raise too_large
    except ClientDisconnect:
        raise ApiError(400, "the request ended in its middle", code="invalid_body") from None
    return bytes(found)


async def read_json(request: Request, most: int) -> Any:
    """The JSON of a request.

    Raises:
        ApiError: 413; 415 on another kind of body; 400 on what is no JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # nor none, which a page of another site can send too
        said = f"expected a body of application/json, got {clean(kind, 80) or 'none'}"
        raise ApiError(415, said, code="unsupported_media_type")
    body = await read_body(request, most)
    try:
        found = parse_json(body, "the request", most=most)
        json.dumps(found, allow_nan=False)
    except ValueError as error:
        text = str(error) if str(error).startswith("expected") else "expected finite numbers in the request"
        raise ApiError(400, text, code="invalid_json") from None
    return found


async def read_form(request: Request, most: int) -> tuple[dict[str, list[str]], dict[str, list[bytes]]]:
    """The fields of a form, several of one name only where it ends in ``[]``, and files by the argument they are for.

    Raises:
        ApiError: 413; 415 on another kind of body; 400 on a damaged form, a field that is there twice, or an unknown
            file.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(415, "expected a body of multipart/form-data", code="unsupported_media_type")
    body = await read_body(request, most)

    async def parts() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    try:
        parser = MultiPartParser(request.headers, parts(), max_files=MOST_FILES, max_fields=MOST_FIELDS,
                                 max_part_size=most)  # fmt: skip
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"expected a form: {clean(error.message, 200)}", code="invalid_body") from None
    except (KeyError, ValueError, UnicodeDecodeError, AssertionError):
        raise ApiError(400, "expected a form, got a damaged one", code="invalid_body") from None
    fields: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in PARTS:
                raise ApiError(400, "expected files as image or mask", None, "unknown_parameter")
            files.setdefault(PARTS[name], []).append(await value.read())
        elif name in PARTS:
            raise ApiError(400, f"expected {PARTS[name]} as a file, got text", name.removesuffix("[]"), "invalid_value")
        elif name in fields and not name.endswith("[]"):
            raise ApiError(400, "expected each field once", None, "invalid_value")
        else:
            fields.setdefault(name, []).append(value)
    return fields, files


def rewritten(data: bytes, param: str, most_side: int) -> bytes:
    """A picture of somebody else's as a PNG of ours: its pixels, and nothing else that was in the file.

    Args:
        data: a PNG, JPEG or WebP file; no other format's reader is begun.
        param: the field that it is for.
        most_side: pixels of a side: a larger one is refused by what its header says, before it is decoded.

    Raises:
        ApiError: 400, on what is no such picture.
    """
    try:
        pixels, _ = decode_image(io.BytesIO(data), param, KINDS, most_side)
    except ValueError as error:
        raise ApiError(400, str(error), param, "invalid_image") from None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def written(files: Mapping[str, bytes], folder: Path, most_side: int) -> dict[str, Path]:
    """Pictures of somebody else's, written anew in a folder, by the argument that each is for.

    Raises:
        ApiError: 400, on what is no picture, or too large.
    """
    found = {}
    for argument, picture in files.items():
        data = rewritten(picture, "mask" if argument == "mask_image" else argument, most_side)
        folder.mkdir(parents=True, exist_ok=True)
        found[argument] = folder / f"{argument}.png"
        write_atomically(found[argument], data)
    return found
