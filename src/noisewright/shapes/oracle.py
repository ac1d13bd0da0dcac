"""An exact reader of scenes: which objects a picture shows, and whether they are what a prompt asks for.

A pixel belongs to an object when it has chroma (backgrounds have almost none); its colour is the nearest hue of
the palette, by the vote of its neighbourhood. Connected pixels of one colour are a component, and a component is
an object when a drawn shape of the same area at the same centroid covers it. What is not an object is malformed,
and a picture with anything malformed is not right.
"""

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from noisewright.shapes.prompts import Prompt, holds, parse
from noisewright.shapes.scene import AREA, COLOURS, PALETTE, RADIUS_PX, SHAPES, SIDE_PX, SceneObject, distance
from noisewright.shapes.scene import rgb as as_rgb

CHROMA = 0.18  # least max - min of RGB of an object's pixel; backgrounds stay under 0.06
DUST_PX = 8  # smaller components are ignored; the smallest object has 45 pixels
OBJECT_PX = (24, 420)  # pixels of a component that can be an object
LEAST_IOU = 0.80
MOST_COLOUR_ERROR = 0.30  # RGB distance, in [0, 1] units, of an object's body from its palette colour
RADIUS_LIMITS_PX = (4.2, 11.2)
LARGE_FROM_PX = (RADIUS_PX["small"][1] + RADIUS_PX["large"][0]) / 2
SEPARATION_PX = 6.0  # between centroids, along a relation's axis
WEIGHTS = {"count": 0.25, "colours": 0.15, "shapes": 0.15, "sizes": 0.1, "binding": 0.2, "relation": 0.15}
_WINDOW_PX = 32
_TABLE = 257
_TABLE_REACH = 3.4  # radii from the centre to the edge of the distance table
_RADIUS_FACTORS = (0.94, 1.0, 1.06)


@dataclass(frozen=True)
class Blot:
    """Something malformed: its nearest colour, centroid and area in pixels, and what is wrong with it."""

    colour: str
    x: float
    y: float
    area: int
    reason: str


@dataclass(frozen=True)
class Reading:
    """What one picture shows."""

    things: tuple[SceneObject, ...]
    malformed: tuple[Blot, ...]


@dataclass(frozen=True)
class Grade:
    """How well a picture meets a prompt.

    Attributes:
        right: the scene is exactly the prompt's.
        score: 1.0 when right, else below 1: the weighted mean of the aspects.
        aspects: aspect -> share met, in [0, 1]; only those that the prompt asks for.
    """

    right: bool
    score: float
    aspects: dict[str, float]


def to_batch(images: Any) -> Tensor:
    """Pictures in any usual form as a float tensor (batch, 3, 64, 64) in [0, 1].

    Args:
        images: a tensor (batch, 3, height, width) or (3, height, width), float in [0, 1] or uint8; an array
            (batch, height, width, 3) or (height, width, 3) likewise; a PIL image; or a sequence of these.
            Sizes other than 64x64 are averaged to it.

    Raises:
        ValueError: the pictures have another shape.
    """
    if isinstance(images, (list, tuple)):
        return torch.cat([to_batch(image) for image in images]) if images else torch.zeros(0, 3, SIDE_PX, SIDE_PX)
    if isinstance(images, Tensor):
        batch = images.detach()
    else:
        array = np.asarray(images.convert("RGB") if hasattr(images, "convert") else images)
        if array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise ValueError(f"expected an array (..., height, width, 3), got {array.shape}")
        batch = torch.from_numpy(np.array(array)).movedim(-1, -3)
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(f"expected pictures (batch, 3, height, width), got {tuple(batch.shape)}")
    batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
    if batch.shape[-2:] != (SIDE_PX, SIDE_PX):
        batch = F.interpolate(batch, (SIDE_PX, SIDE_PX), mode="area")
    return batch.cpu().nan_to_num().clamp(0, 1)


@cache
def _palette_hues() -> Tensor:
    return torch.tensor([colorsys.rgb_to_hsv(*(v / 255 for v in rgb))[0] for rgb in PALETTE.values()])


@cache
def _palette_rgb() -> Tensor:
    return torch.tensor(list(PALETTE.values())) / 255


@cache
def _distance_table() -> Tensor:
    axis = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE)
    x, y = np.meshgrid(axis, axis)
    return torch.from_numpy(np.stack([distance(shape, x, y) for shape in SHAPES])).float()[None]


def _classify(images: Tensor) -> tuple[Tensor, Tensor]:
    """Chroma, and the index of each pixel's colour or -1, both (batch, 64, 64)."""
    high, which = images.max(dim=1)
    chroma = high - images.amin(dim=1)
    red, green, blue = images.unbind(dim=1)
    safe = chroma.clamp(min=1e-6)
    sextant = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4])
    hue = sextant.gather(0, which[None])[0] / 6 % 1
    apart = (hue[:, None] - _palette_hues().view(1, -1, 1, 1)).abs()
    nearest = torch.minimum(apart, 1 - apart).argmin(dim=1)
    # Blurred edges pass through foreign hues: a vote weighted by chroma gives them to the body beside them.
    votes = F.one_hot(nearest, len(COLOURS)).movedim(-1, 1) * (chroma * (chroma > CHROMA))[:, None]
    elected = F.avg_pool2d(votes, 3, stride=1, padding=1).argmax(dim=1)
    return chroma, torch.where(chroma > CHROMA, elected, -1)


def _runs(colours: Tensor) -> Tensor:
    """The number of the run of equal values along the last axis that each element lies in."""
    starts = torch.ones_like(colours, dtype=torch.bool)
    starts[..., 1:] = colours[..., 1:] != colours[..., :-1]
    return starts.flatten().cumsum(0).view(colours.shape) - 1


def _components(colours: Tensor) -> tuple[Tensor, int]:
    """Numbers the connected regions of equal colour.

    Returns:
        Component of each pixel or -1, of the shape of ``colours``, and how many there are.
    """
    inside = colours >= 0
    runs = [_runs(colours)[inside], _runs(colours.transpose(1, 2)).transpose(1, 2)[inside]]
    labels = torch.arange(len(runs[0]))
    sizes = [int(run.max()) + 1 if len(run) else 0 for run in runs]
    while True:
        before = labels
        for run, size in zip(runs, sizes, strict=True):
            highest = torch.zeros(size, dtype=labels.dtype).scatter_reduce(0, run, labels, "amax")
            labels = highest[run]
        if torch.equal(before, labels):
            break
    names, numbers = torch.unique(labels, return_inverse=True)
    components = torch.full(colours.shape, -1)
    components[inside] = numbers
    return components, len(names)


def _fit(
    components: Tensor, alpha: Tensor, which: Tensor, image_of: Tensor, x: Tensor, y: Tensor, area: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The drawn shape that best covers each component: its index, radius in pixels and soft IoU."""
    half = _WINDOW_PX // 2
    offsets = torch.arange(_WINDOW_PX) - half
    columns, rows = x.long()[:, None] + offsets, y.long()[:, None] + offsets  # (count, window)
    padded = F.pad(components, (half,) * 4, value=-1)
    alphas = F.pad(alpha, (half,) * 4)
    at = image_of[:, None, None], rows[:, :, None] + half, columns[:, None, :] + half
    mask = alphas[at] * (padded[at] == which[:, None, None])  # (count, window, window)
    radii = (area[:, None] / torch.tensor([AREA[shape] for shape in SHAPES])).sqrt()  # (count, shapes)
    table = _distance_table()
    dx, dy = columns + 0.5 - x[:, None], rows + 0.5 - y[:, None]
    ious = []
    for factor in _RADIUS_FACTORS:
        for shape in range(len(SHAPES)):
            radius = radii[:, shape, None, None] * factor
            grid = torch.stack(
                [dx[:, None, :].expand_as(mask) / radius, dy[:, :, None].expand_as(mask) / radius], dim=-1
            )
            flat = (grid / _TABLE_REACH).view(1, -1, _WINDOW_PX, 2)
            signed = F.grid_sample(table[:, shape : shape + 1], flat, align_corners=True, padding_mode="border")
            cover = (0.5 - signed.view(mask.shape) * radius).clamp(0, 1)
            ious.append(torch.minimum(cover, mask).sum(dim=(1, 2)) / torch.maximum(cover, mask).sum(dim=(1, 2)))
    best, index = torch.stack(ious).max(dim=0)  # factors x shapes
    shape = index % len(SHAPES)
    factor = torch.tensor(_RADIUS_FACTORS)[index // len(SHAPES)]
    return shape, radii.gather(1, shape[:, None])[:, 0] * factor, best


def read(images: Any) -> list[Reading]:
    """Reads pictures.

    Args:
        images: as ``to_batch`` takes them.

    Returns:
        One reading a picture; its things from left to right.
    """
    batch = to_batch(images)
    chroma, colours = _classify(batch)
    components, count = _components(colours)
    inside = components >= 0
    numbers = components[inside]
    image, row, column = inside.nonzero(as_tuple=True)
    weight = chroma[inside]

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, *values.shape[1:]).index_add_(0, numbers, values)

    pixels = total(torch.ones(len(numbers)))
    kept = pixels >= DUST_PX
    # The chroma of a component's body: pixels of the blurred edge weigh little.
    body = total(weight**4) / total(weight**3).clamp(min=1e-9)
    body_rgb = total(batch.movedim(1, -1)[inside] * (weight**3)[:, None]) / total(weight**3).clamp(min=1e-9)[:, None]
    floor = 0.04
    strength = ((weight - floor) / (body[numbers] - floor).clamp(min=1e-3)).clamp(0, 1)
    alpha = torch.zeros(chroma.shape)
    alpha[inside] = strength
    area = total(strength).clamp(min=1e-6)
    x, y = total(strength * (column + 0.5)) / area, total(strength * (row + 0.5)) / area
    image_of = torch.zeros(count, dtype=torch.long).scatter_(0, numbers, image)
    colour_of = torch.zeros(count, dtype=torch.long).scatter_(0, numbers, colours[inside])
    error = (body_rgb - _palette_rgb()[colour_of]).norm(dim=1)

    shape, radius, iou = torch.zeros(count, dtype=torch.long), torch.zeros(count), torch.zeros(count)
    fitting = (kept & (pixels >= OBJECT_PX[0]) & (pixels <= OBJECT_PX[1])).nonzero()[:, 0]
    if len(fitting):
        shape[fitting], radius[fitting], iou[fitting] = _fit(
            components, alpha, fitting, image_of[fitting], x[fitting], y[fitting], area[fitting]
        )

    things: list[list[SceneObject]] = [[] for _ in range(len(batch))]
    blots: list[list[Blot]] = [[] for _ in range(len(batch))]
    for i in kept.nonzero()[:, 0][x[kept].argsort()].tolist():
        colour, at = COLOURS[colour_of[i]], (x[i].item(), y[i].item())
        size = "large" if radius[i] >= LARGE_FROM_PX else "small"
        if not OBJECT_PX[0] <= pixels[i] <= OBJECT_PX[1]:
            reason = "size"
        elif iou[i] < LEAST_IOU:
            reason = "shape"
        elif not RADIUS_LIMITS_PX[0] <= radius[i] <= RADIUS_LIMITS_PX[1]:
            reason = "size"
        elif error[i] > MOST_COLOUR_ERROR:
            reason = "colour"
        else:
            tone = as_rgb((255 * body_rgb[i]).tolist())
            things[image_of[i]].append(SceneObject(SHAPES[shape[i]], colour, size, radius[i].item(), *at, tone))
            continue
        blots[image_of[i]].append(Blot(colour, *at, int(pixels[i]), reason))
    return [Reading(tuple(a), tuple(b)) for a, b in zip(things, blots, strict=True)]


def _overlap(wanted: Sequence[Any], found: Sequence[Any]) -> float:
    return (Counter(wanted) & Counter(found)).total() / max(len(wanted), len(found))


def grade_reading(reading: Reading, prompt: Prompt) -> Grade:
    """Grades one reading against a prompt."""
    slots = [group for group in prompt.groups for _ in range(group.count)]
    things, blots = reading.things, reading.malformed
    count, most = len(things) + len(blots), max(len(slots), len(things) + len(blots))
    shown: list[SceneObject | Blot] = [*things, *blots]
    aspects = {
        "count": 1 - abs(count - len(slots)) / most,
        "colours": _overlap([s.colour for s in slots], [t.colour for t in shown]),
        "shapes": _overlap([s.shape for s in slots], [t.shape for t in things] + ["malformed"] * len(blots)),
    }
    # The assignment of things to the prompt's slots that meets most; at most four slots, and few things.
    near = [*things[:6], *[None] * (len(slots) - len(things))]
    best = (-1.0, 0, 0, 0.0)
    for chosen in permutations(near, len(slots)):
        pairs = [(slot, thing) for slot, thing in zip(slots, chosen, strict=True) if thing is not None]
        bound = sum((t.colour, t.shape) == (s.colour, s.shape) for s, t in pairs)
        sized = sum((t.colour, t.shape, t.size) == (s.colour, s.shape, s.size) for s, t in pairs if s.size is not None)
        related = 0.0
        if prompt.relation and len(pairs) == 2 and bound == 2:
            (_, a), (_, b) = pairs
            related = float(holds(prompt.relation, a.x - b.x, a.y - b.y, SEPARATION_PX))
        best = max(best, (bound + sized + related, bound, sized, related))
    _, bound, sized, related = best
    aspects["binding"] = bound / most
    named = sum(slot.size is not None for slot in slots)
    if named:
        aspects["sizes"] = sized / named
    if prompt.relation:
        aspects["relation"] = related
    right = not blots and all(value == 1 for value in aspects.values())
    weight = sum(WEIGHTS[name] for name in aspects)
    score = sum(WEIGHTS[name] * value for name, value in aspects.items()) / weight
    return Grade(right, 1.0 if right else min(score, 0.99), aspects)


def grade(images: Any, prompt: str | Prompt) -> list[Grade]:
    """Grades pictures against a prompt.

    Args:
        images: as ``to_batch`` takes them.
        prompt: a prompt, or its text.

    Raises:
        ValueError: the text is not of the grammar, or the pictures have no such shape.
    """
    parsed = parse(prompt) if isinstance(prompt, str) else prompt
    return [grade_reading(reading, parsed) for reading in read(images)]
