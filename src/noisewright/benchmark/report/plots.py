"""Line plots with intervals as inline SVG, which stand in light pages and in dark ones; lines are told apart in grey.

Every plot has a title and a description for those who hear it, axes with names, units and round ticks, and one legend
in HTML for all plots side by side, since SVG breaks no lines.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

from noisewright.benchmark.report.marks import LEVEL, MOST_LINES, STYLES, Style, level_swatch, marked, swatch
from noisewright.benchmark.report.scales import Scale, scale_of, tick_texts
from noisewright.evaluate.numbers import decimals, written
from noisewright.outside.texts import clean

MOST_BANDS = 2
"""Lines whose intervals are drawn as bands; those of more lines would cover each other, and are whiskers."""

MOST_PANELS = 24
"""Of small multiples."""

LETTER = 0.6
"""Of the font's size: what a letter is wide, at most and on the average of a text."""

SAID_POINTS = 60
"""Points that a description spells out, the ends of lines first."""


@dataclass(frozen=True)
class Point:
    """A number with its interval, at a cost.

    Attributes:
        x: the cost.
        y: the number.
        low: the lower end of its interval, or None.
        high: the upper end, or None.
        label: of this point on its line, shown under the mouse; may be empty.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Line:
    """Points that belong together, in the order in which they are joined.

    Attributes:
        name: in the legend.
        points: at least one.
        hollow: markers are rims only (judges beside verifiers).
        joined: whether there is a line from each point to the next.
    """

    name: str
    points: tuple[Point, ...]
    hollow: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Plot:
    """What is drawn.

    Attributes:
        title: above the plot.
        x_name: below the axis, with its unit.
        y_name: above the axis, with its unit.
        lines: in the order of the legend.
        level: a name and a number, drawn as a dashed line all across; or None.
        log: whether the x axis may be logarithmic.
        whole: whether the ticks of the x axis are whole numbers.
    """

    title: str
    x_name: str
    y_name: str
    lines: tuple[Line, ...]
    level: tuple[str, float] | None = None
    log: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Frame:
    """Where the axes of a plot stand, in its own units, and what is at their ends."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    across: Scale
    up: Scale
    font: float = 12.5

    def x(self, value: float) -> float:
        return self.left + self.across.share(value) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        return self.height - self.bottom - self.up.share(value) * (self.height - self.top - self.bottom)


def plot_figures(plots: Sequence[Plot]) -> str:
    """Plots of the same lines side by side, and their legend; small multiples where there are too many lines."""
    drawn = [plot for plot in plots if any(line.points for line in plot.lines)]
    if not drawn:
        return ""
    if len(drawn[0].lines) > MOST_LINES:
        return "".join(small_multiples(plot) for plot in drawn)
    figures = "".join(_figure(html.escape(clean(plot.title)), plot_svg(plot)) for plot in drawn)
    return f'<div class="plots">{figures}</div>{legend(drawn[0])}'


def single(plot: Plot) -> str:
    """One plot with a legend of its own, for several side by side whose lines differ."""
    svg = plot_svg(plot)
    return _figure(html.escape(clean(plot.title)), f"{svg}{legend(plot)}")


def _figure(caption: str, svg: str, kind: str = "plot") -> str:
    return f'<figure class="{kind}"><figcaption>{caption}</figcaption><div class="scroll">{svg}</div></figure>'


def legend(plot: Plot) -> str:
    """What each line is, and the level."""
    entries = [(swatch(style, hollow=line.hollow), line.name)
               for style, line in zip(STYLES, plot.lines, strict=False)]  # fmt: skip
    if plot.level is not None:
        entries.append((level_swatch(), plot.level[0]))
    said = "".join(f"<li>{drawn} {html.escape(clean(name))}</li>" for drawn, name in entries)
    return f'<ul class="legend">{said}</ul>' if said else ""


def plot_svg(plot: Plot) -> str:
    """One plot of at most :data:`~.marks.MOST_LINES` lines.

    Raises:
        ValueError: on more lines.
    """
    if len(plot.lines) > MOST_LINES:
        raise ValueError(f"expected at most {MOST_LINES} lines in a plot, got {len(plot.lines)}")
    frame = _frame(plot, 420, 300, count=5)
    parts = [*_grid(frame), *_names(frame, plot), *_level(frame, plot)]
    banded = len(plot.lines) <= MOST_BANDS and all(len(line.points) > 1 and line.joined for line in plot.lines)
    if banded:
        parts += [_band(frame, line, style) for line, style in zip(plot.lines, STYLES, strict=False)]
    for number, (line, style) in enumerate(zip(plot.lines, STYLES, strict=False)):
        # Of several lines the whiskers stand beside each other, since equal budgets put them at one place.
        aside = 0.0 if banded else (number - (len(plot.lines) - 1) / 2) * min(5.0, 28 / len(plot.lines))
        parts += _line(frame, line, style, aside=aside, whiskers=not banded)
    return _svg(frame, plot, parts)


def small_multiples(plot: Plot) -> str:
    """A small plot for each line, on the same axes, with all others faint behind it: for many lines."""
    frame = _frame(plot, 270, 200, count=3, font=11.5)
    behind = [_way(frame, line, "currentColor", "", 0.0, 'stroke-opacity=".22"') for line in plot.lines[:200]]
    found = []
    for line in plot.lines[:MOST_PANELS]:
        style = Style(STYLES[0].colour, "", STYLES[0].marker)
        parts = [*_grid(frame), *_names(frame, plot), *_level(frame, plot), *behind, _band(frame, line, style),
                 *_line(frame, line, style, whiskers=len(line.points) == 1)]  # fmt: skip
        one = Plot(f"{plot.title}: {line.name}", plot.x_name, plot.y_name, (line,), plot.level)
        found.append(_figure(html.escape(clean(line.name)), _svg(frame, one, parts), "plot small"))
    left = len(plot.lines) - MOST_PANELS
    more = f'<p class="faint">{left} more of these are left out here; the tables have them.</p>' if left > 0 else ""
    level = legend(replace(plot, lines=()))
    title = f'<p class="multiples">{html.escape(clean(plot.title))}. Faint: all the others.</p>'
    return f'{title}<div class="panels">{"".join(found)}</div>{level}{more}'


def _frame(plot: Plot, width: int, height: int, *, count: int, font: float = 12.5) -> Frame:
    points = [point for line in plot.lines for point in line.points]
    values = [one for point in points for one in (point.y, point.low, point.high) if one is not None]
    if plot.level is not None:
        values.append(plot.level[1])
    across = scale_of((point.x for point in points), count=count, log=plot.log, whole=plot.whole)
    up = scale_of(values, count=count)
    left = 12 + max((len(text) for text in tick_texts(up)), default=1) * font * LETTER
    ends = tick_texts(across)
    # Half of the last tick's text may stand beyond the axis.
    right = 6 + (len(ends[-1]) * font * LETTER / 2 if ends else 0)
    return Frame(width, height, left, right, font * 2.1, font * 3.6, across, up, font)


def _grid(frame: Frame) -> list[str]:
    """Grid lines and the ticks' numbers; of those below the axis as many as have room."""
    end, base = frame.width - frame.right, frame.height - frame.bottom
    found = []
    for tick, text in zip(frame.up.ticks, tick_texts(frame.up), strict=True):
        y = frame.y(tick)
        found.append(f'<path d="M{frame.left:.1f} {y:.1f}H{end:.1f}" class="grid"/>')
        found.append(f'<text x="{frame.left - 6:.1f}" y="{y + frame.font * 0.35:.1f}" text-anchor="end">{text}</text>')
    found.append(f'<path d="M{frame.left:.1f} {base:.1f}H{end:.1f}" class="axis"/>')
    taken = float("-inf")
    for tick, text in zip(frame.across.ticks, tick_texts(frame.across), strict=True):
        x, half = frame.x(tick), len(text) * frame.font * LETTER / 2
        if x - half < taken:
            continue
        taken = x + half + 6
        found.append(f'<path d="M{x:.1f} {base:.1f}v5" class="axis"/>')
        found.append(f'<text x="{x:.1f}" y="{base + frame.font + 6:.1f}" text-anchor="middle">{text}</text>')
    return found


def _names(frame: Frame, plot: Plot) -> list[str]:
    most = int(frame.width / (frame.font * LETTER)) - 2
    across = plot.x_name + (", log scale" if frame.across.log else "")
    middle = (frame.left + frame.width - frame.right) / 2
    # A long name is not centred below the axis: it would stick out at the right.
    half = min(len(across), most) * frame.font * LETTER / 2
    middle = min(max(middle, half + 2), frame.width - half - 2)
    return [
        f'<text x="2" y="{frame.font:.1f}" class="name">{_cut(plot.y_name, most)}</text>',
        f'<text x="{middle:.1f}" y="{frame.height - frame.font * 0.4:.1f}" text-anchor="middle" class="name">'
        f"{_cut(across, most)}</text>",
    ]


def _level(frame: Frame, plot: Plot) -> list[str]:
    if plot.level is None:
        return []
    y = frame.y(plot.level[1])
    return [f'<path d="M{frame.left:.1f} {y:.1f}H{frame.width - frame.right:.1f}" class="level" '
            f'stroke-dasharray="{LEVEL}"/>']  # fmt: skip


def _band(frame: Frame, line: Line, style: Style) -> str:
    """The intervals of a line's points, joined."""
    ends = [(one.x, one.low, one.high) for one in line.points if one.low is not None and one.high is not None]
    if len(ends) < 2:
        return ""
    upper = "L".join(f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in ends)
    lower = "L".join(f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(ends))
    return f'<path d="M{upper}L{lower}Z" fill="{style.colour}" fill-opacity=".2"/>'


def _line(frame: Frame, line: Line, style: Style, *, aside: float = 0.0, whiskers: bool) -> list[str]:
    found = [_way(frame, line, style.colour, style.dash, aside)]
    if whiskers:
        for point in line.points:
            if point.low is not None and point.high is not None:
                x, low, high = frame.x(point.x) + aside, frame.y(point.low), frame.y(point.high)
                way = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
                found.append(f'<path d="{way}" stroke="{style.colour}" stroke-width="1.2" fill="none"/>')
    places = _places(line.points)
    found += [marked(style, frame.x(one.x) + aside, frame.y(one.y), _tip(line, one, places), hollow=line.hollow)
              for one in line.points]  # fmt: skip
    return found


def _way(frame: Frame, line: Line, colour: str, dash: str, aside: float, more: str = "") -> str:
    if len(line.points) < 2 or not line.joined:
        return ""
    way = "L".join(f"{frame.x(one.x) + aside:.1f} {frame.y(one.y):.1f}" for one in line.points)
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{way}" class="line" fill="none" stroke="{colour}" stroke-width="2"{pattern} {more}/>'


def _places(points: Sequence[Point]) -> int:
    return decimals(one for point in points for one in (point.y, point.low, point.high))


def _number(point: Point, places: int) -> str:
    span = "" if point.low is None or point.high is None else (
        f" [{written(point.low, places)}, {written(point.high, places)}]")  # fmt: skip
    return f"{written(point.y, places)}{span}"


def _tip(line: Line, point: Point, places: int) -> str:
    label = f", {point.label}" if point.label else ""
    return html.escape(clean(f"{line.name}{label}: {_number(point, places)} at {point.x:.4g}"))


def _said(plot: Plot) -> str:
    """The lines of a plot in words: where each begins and ends."""
    each, parts = max(1, SAID_POINTS // max(1, len(plot.lines))), []
    for line in plot.lines:
        places = _places(line.points)
        ends = line.points if len(line.points) <= each else (line.points[0], line.points[-1])
        parts.append(f"{line.name}: " + ", ".join(f"{_number(one, places)} at {one.x:.4g}" for one in ends))
    level = "" if plot.level is None else f" {plot.level[0]}: {plot.level[1]:.4g}."
    return f"{plot.y_name} against {plot.x_name}. {'; '.join(parts)}.{level}"


def _svg(frame: Frame, plot: Plot, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {frame.width} {frame.height}" role="img" font-size="{frame.font}" '
        f'fill="currentColor"><title>{html.escape(clean(plot.title))}</title>'
        f"<desc>{html.escape(clean(_said(plot), 4000))}</desc>{''.join(parts)}</svg>"
    )


def _cut(text: str, most: int) -> str:
    return html.escape(clean(text, most))
