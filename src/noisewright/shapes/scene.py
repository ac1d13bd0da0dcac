"""Scenes of coloured shapes on a shaded background, and how they are drawn."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

SIDE_PX = 64
SUPERSAMPLING = 4
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
RADIUS_PX = {"small": (5.0, 6.2), "large": (8.2, 10.0)}
PALETTE = {
    "red": (220, 30, 42),
    "orange": (247, 132, 18),
    "yellow": (245, 226, 35),
    "green": (35, 165, 60),
    "cyan": (30, 198, 216),
    "blue": (40, 78, 222),
    "purple": (132, 42, 196),
    "pink": (250, 100, 178),
}
COLOURS = tuple(PALETTE)
COLOUR_JITTER = 9  # largest change of a channel of one object's colour, in 0..255
GAP_PX = 3.0  # least distance between two objects: two anti-aliased edges and a clean pixel between them

RGB = tuple[float, float, float]


def rgb(values: Iterable[float]) -> RGB:
    """Three numbers as a colour."""
    red, green, blue = map(float, values)
    return red, green, blue


@dataclass(frozen=True)
class Background:
    """A linear gradient from ``start`` to ``end`` (RGB in 0..255) along ``angle`` (radians)."""

    start: RGB
    end: RGB
    angle: float


@dataclass(frozen=True)
class SceneObject:
    """One object: names of its shape, colour and size; ``radius``, ``x`` and ``y`` (its centroid) in pixels."""

    shape: str
    colour: str
    size: str
    radius: float
    x: float
    y: float
    rgb: RGB | None = None  # 0..255; None means the palette's


@dataclass(frozen=True)
class Scene:
    """Objects on a background."""

    things: tuple[SceneObject, ...]
    background: Background


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 1.0


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.87


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    slope = np.array([1.8, 1.04]) / np.hypot(1.8, 1.04)  # outward normal of a slanted side
    side = np.abs(x) * slope[0] - (y + 1.2) * slope[1]
    return np.maximum(side, y - 0.6)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # The five arms folded onto half an arm: its tip at angle 0, the notch beside it at 36 degrees.
    angle = np.arctan2(x, -y)
    fifth = 2 * np.pi / 5
    folded = np.abs((angle + fifth / 2) % fifth - fifth / 2)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    notch = 0.55 * np.array([np.cos(fifth / 2), np.sin(fifth / 2)])
    edge = notch - np.array([1.25, 0.0])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (along - 1.25) * normal[0] + across * normal[1]


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 1.1, y - 0.38), np.maximum(x - 0.38, y - 1.1))


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}
REACH = {"circle": 1.0, "square": 1.24, "triangle": 1.21, "star": 1.25, "cross": 1.17}  # circumscribed radius
# Half extents of the bounding box of a unit shape: left and right, top, bottom.
EXTENT = {
    "circle": (1.0, 1.0, 1.0),
    "square": (0.87, 0.87, 0.87),
    "triangle": (1.04, 1.2, 0.6),
    "star": (1.19, 1.25, 1.02),
    "cross": (1.1, 1.1, 1.1),
}

AREA = {
    "circle": 3.1414992141723634,
    "square": 3.0250177383422856,
    "triangle": 1.8730160713195803,
    "star": 2.02049072265625,
    "cross": 2.7622574996948246,
}
"""Areas of the shapes of radius 1, counted on a grid of 2048 x 2048 points over [-1.3, 1.3] squared."""


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside; a lower bound outside corners) to a shape of radius 1 at the origin.

    Args:
        shape: one of ``SHAPES``.
        x, y: coordinates in radii, y downwards, any shape.
    """
    return _DISTANCES[shape](x, y)


def coverage(thing: SceneObject) -> tuple[np.ndarray, slice, slice]:
    """How much of each pixel a thing covers, on its own patch.

    Returns:
        Coverage in [0, 1], of shape (rows, columns), and the patch's rows and columns in the image.
    """
    reach = thing.radius * 1.26 + 1
    left, top = max(0, int(thing.x - reach)), max(0, int(thing.y - reach))
    right, bottom = min(SIDE_PX, int(thing.x + reach) + 1), min(SIDE_PX, int(thing.y + reach) + 1)
    offset = 0.5 / SUPERSAMPLING
    xs = np.arange(left, right, 1 / SUPERSAMPLING) + offset
    ys = np.arange(top, bottom, 1 / SUPERSAMPLING) + offset
    x, y = np.meshgrid((xs - thing.x) / thing.radius, (ys - thing.y) / thing.radius)
    inside = distance(thing.shape, x, y) < 0
    rows, columns = bottom - top, right - left
    blocks = inside.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3), dtype=np.float32), slice(top, bottom), slice(left, right)


def _paint_background(background: Background) -> np.ndarray:
    axis = (np.arange(SIDE_PX, dtype=np.float32) + 0.5) / SIDE_PX - 0.5
    cos, sin = np.cos(background.angle), np.sin(background.angle)
    ramp = 0.5 + (axis[None, :] * cos + axis[:, None] * sin) / (abs(cos) + abs(sin))
    start, end = np.array(background.start, np.float32), np.array(background.end, np.float32)
    return start + ramp[:, :, None].astype(np.float32) * (end - start)


def render(scene: Scene) -> np.ndarray:
    """Draws a scene.

    Returns:
        uint8 array of shape (64, 64, 3), RGB.
    """
    canvas = _paint_background(scene.background)
    for thing in scene.things:
        alpha, rows, columns = coverage(thing)
        colour = np.array(thing.rgb or PALETTE[thing.colour], np.float32)
        patch = canvas[rows, columns]
        canvas[rows, columns] = patch + alpha[:, :, None] * (colour - patch)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def apart(a: SceneObject, b: SceneObject, gap_px: float = GAP_PX) -> bool:
    """Whether two things are surely at least ``gap_px`` apart, by their boxes or by their circles."""
    if np.hypot(a.x - b.x, a.y - b.y) >= a.radius * REACH[a.shape] + b.radius * REACH[b.shape] + gap_px:
        return True
    first, second = box(a), box(b)
    across = max(first[0] - second[2], second[0] - first[2])
    down = max(first[1] - second[3], second[1] - first[3])
    return max(across, down) >= gap_px


def box(thing: SceneObject) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a thing, in pixels."""
    side, top, bottom = (thing.radius * extent for extent in EXTENT[thing.shape])
    return thing.x - side, thing.y - top, thing.x + side, thing.y + bottom


def sample_background(rng: np.random.Generator) -> Background:
    """A light or dark grey gradient with a slight tint."""
    level = rng.uniform(185, 235) if rng.random() < 0.5 else rng.uniform(28, 75)
    tint = rng.uniform(-7, 7, size=3)
    shade = rng.uniform(5, 18)
    start, end = level + tint - shade, level + tint + shade
    return Background(rgb(start), rgb(end), float(rng.uniform(0, 2 * np.pi)))
