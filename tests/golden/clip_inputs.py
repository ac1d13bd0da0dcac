"""The inputs of ``make_clip.py``, made again from seeds wherever they are needed: numpy and Pillow only."""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image

SIZES = {
    "portrait": (300, 451, "RGB"),
    "landscape": (640, 359, "RGB"),
    "square": (224, 224, "RGB"),
    "tiny": (17, 23, "RGB"),
    "odd": (231, 333, "RGB"),
    "one pixel off": (225, 224, "RGB"),
    "long side as wanted": (224, 150, "RGB"),
    "grey": (256, 384, "L"),
    "transparent": (257, 301, "RGBA"),
}
"""Width, height and mode of the pictures, as cameras and the web have them, but smaller."""

PROMPTS = ["a red circle", "Two  blue squares,\nand a star!", "a red circle " * 9, "don't stop: 100% café"]
"""The third is longer than the text model's 16 tokens."""

WORDS = ["red", "blue", "circle", "square", "star", "two", "and", "the"]
HEAD_SHAPES = {
    f"layers.{n}.{kind}": shape
    for n, wide, narrow in [(0, 24, 1024), (2, 1024, 128), (4, 128, 64), (6, 64, 16), (7, 16, 1)]
    for kind, shape in (("weight", [narrow, wide]), ("bias", [narrow]))
}
"""The aesthetic head's tensors, as in the original but for the length of the vector."""

SIDE, PATCH, WIDTH, EMBED, CONTEXT, LAYERS, HEADS = 32, 8, 32, 24, 16, 2, 2


def picture(name: str) -> Image.Image:
    """A smooth picture with some noise, as a photograph has."""
    width, height, mode = SIZES[name]
    random = np.random.RandomState(zlib.crc32(name.encode()))
    y, x = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(4):
        a, b, c, d = random.rand(4)
        wave = np.sin(9 * a * x / width + 7 * b * y / height + 6 * c) * np.cos(25 * d * (x + y) / (width + height))
        layers.append(127.5 + 100 * wave + 12 * random.randn(height, width))
    pixels = np.clip(np.rint(np.stack(layers, axis=-1)), 0, 255).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(pixels if mode == "RGBA" else np.ascontiguousarray(pixels[..., :3]))


def merges() -> list[tuple[str, str]]:
    """Byte-pair merges that build :data:`WORDS` from the left."""
    found: list[tuple[str, str]] = []
    for word in WORDS:
        letters = [*word[:-1], word[-1] + "</w>"]
        for n in range(1, len(letters)):
            pair = ("".join(letters[:n]), letters[n])
            if pair not in found:
                found.append(pair)
    return found


def vocabulary(alphabet: list[str]) -> dict[str, int]:
    """CLIP's order: the bytes, the bytes that end a word, the merges, start and end of text."""
    names = [*alphabet, *(f"{one}</w>" for one in alphabet), *("".join(pair) for pair in merges())]
    return {name: n for n, name in enumerate([*names, "<start_of_text>", "<end_of_text>"])}


def weights(shapes: dict[str, list[int]], seed: int) -> dict[str, np.ndarray]:
    """Values for named tensors, each from its own name and the seed; lively enough that outputs differ."""
    found = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode()))
        values = random.randn(*shape) if shape else np.asarray(0.0)
        if name.endswith("logit_scale"):
            values = np.asarray(np.log(100.0))
        elif name.endswith("bias"):
            values = 0.1 * values
        elif len(shape) == 1 and name.endswith("weight"):  # of a layer norm
            values = 1 + 0.2 * values
        elif len(shape) > 1 and "embedding" not in name:
            values = 1.5 * values / np.sqrt(np.prod(shape[1:]))
        found[name] = values.astype(np.float32)
    return found


def sample(pixels: np.ndarray) -> np.ndarray:
    """What is kept of a preprocessed image (3, height, width): a few pixels, and the mean size of all."""
    return np.concatenate([pixels[:, 3::71, 5::97].reshape(-1), [np.abs(pixels).mean(), pixels.std()]])
