"""The best-so-far curve as the picture of a run, drawn with Pillow alone.

:func:`noisewright.evaluate.report.plot_curve` gives a matplotlib figure, which can be changed and shown; to import
matplotlib and to lay a figure out takes half a second, which a run need not pay for one picture.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from noisewright.evaluate.chart import bounds, named_ticks, whole_ticks
from noisewright.evaluate.report import (
    ACCENT,
    BASE,
    FAINT,
    INK,
    PAPER,
    UNITS,
    font_of,
    headline,
    shortened_to,
    tells_over_time,
)
from noisewright.run.ranking import CurvePoint

FINER = 2
"""How much larger it is drawn than it is shown, so that lines are smooth."""

WIDTH, HEIGHT = 1260, 390
"""Pixels of the picture, and of its panels with what stands below them."""

LEFT, RIGHT, BELOW, BETWEEN, ABOVE = 20, 30, 72, 44, 22
"""Pixels around the panels with the names of their values, and from one to the other."""

LARGE, SMALL, LINE = 22, 18, 33
"""Pixels of the letters, and from a line of them to the next."""

MOST = 1e300
"""Of a value that is drawn: what is taken of its axis must be a number too."""

GRID, AXIS = "#e6e8eb", "#c9cdd2"


@dataclass(frozen=True)
class _Panel:
    """Values against something, in a part of the picture.

    Attributes:
        x, label: what they are drawn against, and its name.
        ticks: where that is marked, and with what.
        left, right, top, bottom: pixels of the picture that is shown.
        low, high: the values at the bottom and at the top.
    """

    x: Sequence[float]
    label: str
    ticks: Sequence[tuple[float, str]]
    left: float
    right: float
    top: float
    bottom: float
    low: float
    high: float

    def across(self, x: float) -> float:
        most = max(self.x[-1], 1e-9) if self.x else 1.0
        return self.left + x / most * (self.right - self.left) * 0.97

    def up(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)


def curve_picture(
    curve: Sequence[CurvePoint],
    verifiers: Sequence[str],
    *,
    value_name: str = "ensemble value",
    baseline: float | None = None,
) -> Image.Image:
    """Best value so far against images, and against seconds where these tell something.

    Args:
        curve, verifiers, value_name, baseline: as :func:`noisewright.evaluate.report.plot_curve` takes them.
    """
    name = verifiers[0] if len(verifiers) == 1 else value_name
    values = [_drawn(one.value) for one in curve]
    title = headline(curve, values, name, verifiers)
    level = (_drawn(baseline), "baseline") if baseline is not None and math.isfinite(baseline) else None
    if level is None and curve and math.isfinite(values[0]):
        level = (values[0], "first candidate")
    top = ABOVE + LINE * len(title) + (LINE if curve else 0) + 12
    canvas = Image.new("RGB", (WIDTH * FINER, (top + HEIGHT) * FINER), PAPER)
    pen = _Pen(ImageDraw.Draw(canvas))
    for line, text in enumerate(title):
        pen.text((20, ABOVE + line * LINE), text, LARGE if line == 0 else SMALL, INK if line == 0 else FAINT, "la")
    if curve:
        _legend(pen, ABOVE + len(title) * LINE + LINE // 3, level)
    written = _wrapped(pen, f"best so far: {shortened_to(UNITS.get(name, name), 80)}", HEIGHT - BELOW)
    wide = _upright(canvas, written, (LEFT, top + (HEIGHT - BELOW) // 2))
    shown = [value for value in (*values, *([] if level is None else [level[0]])) if math.isfinite(value)]
    low, high = bounds(shown or [0.0])
    ticks = named_ticks(low, high)
    first = LEFT + wide + 24 + max(pen.width(text, SMALL) for _, text in ticks)
    for number, panel in enumerate(_panels(curve, (low, high), first, top)):
        _draw(pen, panel, values, level, ticks, named=number == 0)
    return canvas.reduce(FINER)


def _drawn(value: float) -> float:
    """A value as it is drawn: nan for none, and no larger than an axis can be."""
    return max(-MOST, min(MOST, value)) if math.isfinite(value) else math.nan


def _panels(curve: Sequence[CurvePoint], ends: tuple[float, float], first: float, top: int) -> list[_Panel]:
    """The panels between the lowest and the highest value, from a place of the picture on."""
    images = [float(point.images) for point in curve]
    parts = [(images, "images", [(float(one), str(one)) for one in whole_ticks(images[-1] if images else 1.0)])]
    if tells_over_time(curve):
        seconds = [point.seconds for point in curve]
        parts.append((seconds, "seconds", named_ticks(0.0, seconds[-1])))
    wide = (WIDTH - first - RIGHT - BETWEEN * (len(parts) - 1)) / len(parts)
    lefts = [first + number * (wide + BETWEEN) for number in range(len(parts))]
    return [
        _Panel(x, label, ticks, left, left + wide, top, top + HEIGHT - BELOW, *ends)
        for (x, label, ticks), left in zip(parts, lefts, strict=True)
    ]


def _draw(
    pen: _Pen, panel: _Panel, values: Sequence[float], level: tuple[float, str] | None,
    ticks: Sequence[tuple[float, str]], named: bool,
) -> None:  # fmt: skip
    """A panel: grid, axes and their names (the values' only where it is ``named``), the baseline, the curve."""
    for tick, text in ticks:
        y = panel.up(tick)
        pen.line([(panel.left, y), (panel.right, y)], GRID, 1)
        if named:
            pen.text((panel.left - 10, y), text, SMALL, FAINT, "rm")
    pen.line([(panel.left, panel.top), (panel.left, panel.bottom), (panel.right, panel.bottom)], AXIS, 1.5)
    for tick, text in panel.ticks:
        x = panel.across(tick)
        pen.line([(x, panel.bottom), (x, panel.bottom + 6)], AXIS, 1.5)
        pen.text((x, panel.bottom + 10), text, SMALL, FAINT, "ma")
    pen.text(((panel.left + panel.right) / 2, panel.bottom + 38), panel.label, SMALL, INK, "ma")
    if level is not None:
        pen.dashes(panel.left, panel.right, panel.up(level[0]))
    points = [(panel.across(x), panel.up(value)) for x, value in zip(panel.x, values, strict=True)
              if math.isfinite(value)]  # fmt: skip
    if points:
        steps = points[:1]
        for x, y in points[1:]:
            steps += [(x, steps[-1][1]), (x, y)]
        pen.line(steps, ACCENT, 4)
        pen.dot(points[-1], 6)


def _legend(pen: _Pen, y: float, level: tuple[float, str] | None) -> None:
    x = 20.0
    if level is not None:
        pen.dashes(x, x + 42, y + SMALL / 2)
        x += 52 + pen.text((x + 52, y + SMALL / 2), level[1], SMALL, INK, "lm") + 30
    pen.line([(x, y + SMALL / 2), (x + 42, y + SMALL / 2)], ACCENT, 4)
    pen.text((x + 52, y + SMALL / 2), "best so far", SMALL, INK, "lm")


def _wrapped(pen: _Pen, text: str, most: float) -> str:
    """A text in lines of so many pixels at most."""
    for letters in range(36, 6, -3):
        lines = textwrap.wrap(text, letters)
        if max(pen.width(line, SMALL) for line in lines) <= most:
            break
    return "\n".join(lines)


def _upright(canvas: Image.Image, text: str, place: tuple[int, int]) -> float:
    """Write a text that is read from below, its left edge and its middle at a place; gives how wide that is."""
    font = font_of(SMALL * FINER)
    left, top, right, bottom = ImageDraw.Draw(canvas).multiline_textbbox((0, 0), text, font)
    flat = Image.new("RGB", (math.ceil(right - left) + 2, math.ceil(bottom - top) + 2), PAPER)
    ImageDraw.Draw(flat).multiline_text((1 - left, 1 - top), text, fill=INK, font=font, align="center")
    turned = flat.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(turned, (place[0] * FINER, place[1] * FINER - turned.height // 2))
    return turned.width / FINER


class _Pen:
    """Draws in pixels of the picture that is shown.

    Args:
        draw: of the larger one.
    """

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, points: Sequence[tuple[float, float]], ink: str, width: float) -> None:
        scaled = [(x * FINER, y * FINER) for x, y in points]
        self._draw.line(scaled, fill=ink, width=max(1, round(width * FINER)))

    def dashes(self, left: float, right: float, y: float) -> None:
        """A dashed line of the baseline's colour."""
        x = left
        while x < right:
            self.line([(x, y), (min(x + 9, right), y)], BASE, 2)
            x += 15

    def dot(self, at: tuple[float, float], radius: float) -> None:
        x, y, r = at[0] * FINER, at[1] * FINER, radius * FINER
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=ACCENT)

    def text(self, at: tuple[float, float], text: str, size: int, ink: str, anchor: str) -> float:
        """Write, and give how wide it is; see Pillow's anchors."""
        place = at[0] * FINER, at[1] * FINER
        self._draw.text(place, text, fill=ink, font=font_of(size * FINER), anchor=anchor)
        return self.width(text, size)

    def width(self, text: str, size: int) -> float:
        return float(self._draw.textlength(text, font_of(size * FINER))) / FINER
