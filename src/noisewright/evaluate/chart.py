"""The best-so-far curve as SVG: text and lines in the colours of the page that it stands in."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.evaluate.numbers import decimals, written
from noisewright.outside.texts import clean

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 14, 40
TICKS = 5
CLOSE, LEAST = 1e-9, 1e-300
"""Values that are no further apart than this share of them, or than this, are one."""
BEST, BASE = "#e8590c", "#1c7ed6"
"""Colours that stand out from light and from dark."""


def curve_svg(curve: Sequence[Mapping[str, Any]], name: str, baseline: float | None = None) -> str:
    """Best value so far against images; nothing where there is no point.

    Args:
        curve: points with ``images`` and ``value``, as an overview has them.
        name: what the value is.
        baseline: the baseline's value among these, drawn as a dashed line.
    """
    points = [(float(one["images"]), float(one["value"])) for one in curve if math.isfinite(one["value"])]
    if not points:
        return ""
    level = baseline if baseline is not None and math.isfinite(baseline) else None
    low, high = bounds([value for _, value in points] + ([] if level is None else [level]))
    most = points[-1][0]

    def across(images: float) -> float:
        return LEFT + images / most * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [*_levels(low, high, up), *_images(most, across)]
    if level is not None:
        end, y = WIDTH - RIGHT, up(level)
        parts.append(f'<line x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" stroke="{BASE}" stroke-dasharray="5 4"/>')
        parts.append(f'<text x="{end}" y="{y - 5:.1f}" text-anchor="end" fill="{BASE}">baseline</text>')
    way = f"M{across(points[0][0]):.1f} {up(points[0][1]):.1f}"
    way += "".join(f"H{across(images):.1f}V{up(value):.1f}" for images, value in points[1:])
    parts.append(f'<path d="{way}" fill="none" stroke="{BEST}" stroke-width="2"/>')
    parts.append(f'<circle cx="{across(points[-1][0]):.1f}" cy="{up(points[-1][1]):.1f}" r="4" fill="{BEST}"/>')
    said = html.escape(clean(f"best so far: {name}"))
    parts.append(f'<text x="14" y="{(HEIGHT - BOTTOM + TOP) / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 14 {(HEIGHT - BOTTOM + TOP) / 2})">{said[:60]}</text>')  # fmt: skip
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="12" fill="currentColor" '
        f'style="max-width:{WIDTH}px;width:100%"><title>{said} against images</title>{"".join(parts)}</svg>'
    )


def _levels(low: float, high: float, up: Any) -> list[str]:
    """Grid lines with their values."""
    found = []
    for tick, text in named_ticks(low, high):
        y = up(tick)
        found.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
                     'stroke-opacity=".15"/>')  # fmt: skip
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return found


def _images(most: float, across: Any) -> list[str]:
    y = HEIGHT - BOTTOM + 18
    found = [f'<text x="{across(one):.1f}" y="{y}" text-anchor="middle">{one}</text>' for one in whole_ticks(most)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*found, f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">images</text>']


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value that are shown, with room around those that are there.

    Values that differ by rounding alone are one: no axis has room for what lies between them.
    """
    low, high = min(values), max(values)
    apart = high - low > max(CLOSE * max(abs(low), abs(high)), LEAST)
    margin = (high - low) * 0.08 if apart else abs(high) * 0.05 or 0.5
    return low - margin, high + margin


def named_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between two others, about five, each as it is written."""
    ticks = _ticks(low, high)
    places = _places(ticks[1] - ticks[0]) if len(ticks) > 1 else decimals(ticks)
    return [(tick, written(tick, places)) for tick in ticks]


def _places(step: float) -> int:
    """How many decimals a step of 1, 2, 2.5 or 5 times a power of ten has."""
    found = max(0, -math.floor(math.log10(step) + 1e-9))
    scaled = step * 10.0**found
    return found if abs(scaled - round(scaled)) < 0.1 else found + 1


def whole_ticks(most: float) -> list[int]:
    """Whole numbers from 0 to ``most``, about five."""
    return [int(one) for one in _ticks(0, most) if one == int(one)]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, about five."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
