"""What a PNG says of itself: the A1111 ``parameters`` chunk that users' tools read, and a ``noisewright`` recipe."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from noisewright.schemas.files import check_recipe
from noisewright.schemas.reading import parse_json, short

log = logging.getLogger("noisewright")

RECIPE_VERSION = 1
MOST_PIXELS = 2**26
"""Of an image file that is read: 8192 x 8192. A small file can hold an image that fills the memory."""


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
        recipe: see :func:`parameters_line`; stored whole as JSON in the chunk ``noisewright``.
    """
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("parameters", parameters_line(recipe, array.shape[1], array.shape[0]))
    chunks.add_itxt("noisewright", json.dumps(without_nan(recipe), allow_nan=False))
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", pnginfo=chunks, compress_level=4)
    return file.getvalue()


def parameters_line(recipe: dict[str, Any], width: int, height: int) -> str:
    """The A1111 text: prompt, negative prompt, then comma-separated ``Key: value`` pairs on the last line.

    Values that hold a comma, a colon or a newline are JSON-quoted, as A1111 does.
    """
    sampler = recipe["sampler"]
    pairs: list[tuple[str, Any]] = [("Steps", sampler["num_inference_steps"]), ("Sampler", sampler["solver"])]
    if sampler.get("guidance_scale") is not None:
        pairs.append(("CFG scale", sampler["guidance_scale"]))
    if recipe.get("seed") is not None:
        pairs.append(("Seed", recipe["seed"]))
    pairs += [("Size", f"{width}x{height}"), ("Model", _public_name(sampler["model"]))]
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


def _public_name(model: str) -> str:
    """A hub id as it is; of a directory only its own name, since images are shared."""
    return model if model.count("/") == 1 and not model.startswith((".", "/", "~")) else Path(model).name


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
    if type(found) is not int or found != RECIPE_VERSION:
        raise ValueError(f"expected a recipe of version {RECIPE_VERSION}, got {short(found)} in {path}")
    return array, check_recipe(recipe, f"the recipe of {path}")


def read_image(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The pixels (height, width, 3) uint8 and the text chunks of any image file.

    Of an animation (GIF, WebP, PNG, several pages of a TIFF) it is the first frame, with a warning in the log.

    Raises:
        ValueError: in one line, where it is empty, has more than :data:`MOST_PIXELS` or cannot be read.
    """
    return decode_image(Path(path), str(path))


def decode_image(source: Path | BinaryIO, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """As :func:`read_image`, of a file or of an open one's bytes; ``name`` is for messages.

    Raises:
        ValueError: in one line.
    """
    try:
        with warnings.catch_warnings():  # Pillow's, of damaged headers, and of a size that is checked here
            warnings.simplefilter("ignore")
            return _decoded(source, name)
    except FileNotFoundError:
        raise ValueError(f"expected an image file, got {name}, which does not exist") from None
    except UnidentifiedImageError:
        raise ValueError(f"expected a readable image, got {name}: cannot identify its format") from None
    except Image.DecompressionBombError:
        raise ValueError(f"expected a readable image, got {name}: at most {MOST_PIXELS} pixels are read") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"expected a readable image, got {name}: {first}") from None


def _decoded(source: Path | BinaryIO, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    if isinstance(source, Path) and source.is_file() and source.stat().st_size == 0:
        raise ValueError("it is empty (0 bytes)")
    with Image.open(source) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(f"it has {opened.width}x{opened.height} pixels, at most {MOST_PIXELS} are read")
        if getattr(opened, "is_animated", False) and opened.format != "MPO":  # a photograph with its preview
            log.warning("%s is animated (%d frames): only the first is read", name, getattr(opened, "n_frames", 0))
            opened.seek(0)
        opened.load()
        info = {str(key): value for key, value in opened.info.items()}
        return np.ascontiguousarray(np.asarray(opened.convert("RGB"))), info
