"""What a PNG says of itself: the A1111 ``parameters`` chunk that users' tools read, and a ``noisewright`` recipe."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from noisewright.images.frames import frames_in
from noisewright.images.reading import MOST_PIXELS as MOST_PIXELS
from noisewright.images.reading import read_image as read_image
from noisewright.outside.bundled import is_own, is_server
from noisewright.outside.messages import short
from noisewright.run.lineage import compact
from noisewright.run.particle import from_lineage
from noisewright.schemas.files import check_recipe
from noisewright.schemas.reading import parse_json

if TYPE_CHECKING:
    from torch import Tensor

PATH = re.compile(r"(file://)?(/|~|[A-Za-z]:[\\/]|\\\\).*[/\\\w]", re.DOTALL)
PROSE = ("model", "class_label")
"""Settings that are no paths, besides those with ``prompt`` in their name."""

RECIPE_VERSION = 2
READABLE = (1, 2)
"""Versions of recipes that are read: the first spelled out the id of every ancestor."""

LONG_RECIPE = 4096
"""Characters from which on a recipe is compressed: a long search's ancestry repeats itself."""

MOST_PACKED = 2**20 - 2**12
"""Readers refuse to unpack a longer text (Pillow at 1 MiB), so that one stays as it is."""


def without_nan(value: Any) -> Any:
    """A JSON-ready value with null for every number that JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    return [without_nan(one) for one in value] if isinstance(value, (list, tuple)) else value


def pixels_of(images: Tensor) -> np.ndarray:
    """(..., 3, height, width) in [0, 1] as (..., height, width, 3) uint8."""
    scaled = images.detach().cpu().float().numpy() * np.float32(255)
    return np.ascontiguousarray(np.moveaxis(np.rint(scaled).clip(0, 255).astype(np.uint8), -3, -1))


def pixel_hash(array: np.ndarray) -> str:
    """SHA-256 of the RGB bytes."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def encode_png(array: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """A PNG of (height, width, 3) uint8 pixels with both chunks.

    Args:
        array: the pixels.
        recipe: see :func:`parameters_line`; stored as :func:`public` has it, as JSON in the chunk ``noisewright``. Its
            lineage as text (:class:`noisewright.run.particle.Lineages`) or as :func:`read_recipe` gives it.
    """
    recipe = public(recipe)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("parameters", parameters_line(recipe, array.shape[1], array.shape[0]))
    chunks.add(b"iTXt", _text_chunk("noisewright", _recipe_text(recipe)))
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", pnginfo=chunks, compress_level=4)
    return file.getvalue()


def _recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe as JSON; the lineage, which can be long, comes last and is taken as it is where it is text already."""
    lineage = recipe.get("lineage", [])
    rest = {**recipe, "recipe_version": RECIPE_VERSION}
    rest.pop("lineage", None)
    if not isinstance(lineage, str):
        lineage = json.dumps(compact(from_lineage(lineage)) if lineage else [], separators=(",", ":"))
    head = json.dumps(without_nan(rest), allow_nan=False, separators=(",", ":"))
    return f'{head[:-1]},"lineage":{lineage}}}'


def _text_chunk(key: str, text: str) -> bytes:
    """The data of an iTXt chunk (PNG specification, 11.3.3.4), compressed where it is long."""
    packed = LONG_RECIPE < len(text) < MOST_PACKED
    data = zlib.compress(text.encode(), 1) if packed else text.encode()
    return key.encode("latin-1") + bytes([0, packed, 0, 0, 0]) + data


def parameters_line(recipe: dict[str, Any], width: int, height: int) -> str:
    """The A1111 text: prompt, negative prompt, then comma-separated ``Key: value`` pairs on the last line.

    Values that hold a comma, a colon or a newline are JSON-quoted, as A1111 does.
    """
    sampler = recipe["sampler"]
    known = sampler.get("steps_known", True)  # of a server's own number nobody knows
    pairs: list[tuple[str, Any]] = [("Steps", sampler["num_inference_steps"])] if known else []
    pairs.append(("Sampler", sampler["solver"]))
    if sampler.get("guidance_scale") is not None:
        pairs.append(("CFG scale", sampler["guidance_scale"]))
    if recipe.get("seed") is not None:
        pairs.append(("Seed", recipe["seed"]))
    pairs += [("Size", f"{width // frames_in(recipe)}x{height}"), ("Model", public_name(sampler["model"]))]
    if recipe.get("search"):
        pairs.append(("Search", recipe["search"]))
    scores = recipe.get("scores", {}).items()
    pairs += [(f"Score {name}", f"{value:.6g}") for name, value in scores if value is not None]
    pairs.append(("Version", f"noisewright {recipe['versions']['noisewright']}"))
    lines = [sampler["prompt"]]
    if sampler.get("negative_prompt"):
        lines.append(f"Negative prompt: {sampler['negative_prompt']}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs))
    return "\n".join(lines)


def public(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the places of files on this machine, since images are shared and paths name people.

    The model is called by its :func:`public_name`, and so is any other setting that is a whole path; prompts stay as
    they are. ``run.json`` keeps the paths.
    """
    sampler = recipe.get("sampler")
    if not isinstance(sampler, dict):
        return recipe
    found = {key: value if key in PROSE or "prompt" in key else _without_paths(value) for key, value in sampler.items()}
    if isinstance(sampler.get("model"), str):
        found["model"] = public_name(sampler["model"])
    return {**recipe, "sampler": found}


def public_name(model: str) -> str:
    """A hub id as it is; of a directory or a file only its own name, of a server what it calls the model."""
    if is_server(model):
        return model.partition("#")[2] or "a model behind a server"
    parts = PureWindowsPath(model).parts if "\\" in model else Path(model).parts
    is_id = len(parts) == 2 and model.count("/") == 1 and not model.startswith((".", "/", "~"))
    if is_own(model) or (is_id and not Path(model).exists()):
        return model
    return parts[-1] if parts and parts[-1] != ".." else Path(model).resolve().name or "model"


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(one) for one in value]
    is_path = isinstance(value, str) and PATH.match(value) is not None
    return public_name(value.removeprefix("file://")) if is_path else value


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if any(mark in text for mark in ",:\n") else text


def read_recipe(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The pixels (height, width, 3) uint8 and the recipe of a PNG that noisewright wrote.

    Raises:
        ValueError: in one line, where the file is no readable image or holds no recipe.
    """
    array, info = read_image(path)
    text = info.get("noisewright")
    if text is None:
        raise ValueError(f"expected a PNG with a noisewright recipe, got {path} without one")
    recipe = parse_json(text, f"the recipe of {path}") if isinstance(text, str) else None
    found = recipe.get("recipe_version") if isinstance(recipe, dict) else None
    if type(found) is not int or found not in READABLE:
        versions = " or ".join(map(str, READABLE))
        raise ValueError(f"expected a recipe of version {versions}, got {short(found)} in {path}")
    return array, check_recipe(recipe, f"the recipe of {path}")
