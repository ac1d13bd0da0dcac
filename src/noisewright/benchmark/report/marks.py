"""What tells the lines of a plot apart: colour, dash and marker, each by itself, in light and in dark and in grey."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How one line is drawn.

    Attributes:
        colour: stands out (3 to 1 or more) from white and from a dark page.
        dash: an SVG ``stroke-dasharray``; empty for a whole line.
        marker: a name in :data:`MARKERS`.
    """

    colour: str
    dash: str
    marker: str


MARKERS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "square": "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "triangle": "M0 -4.8L4.6 3.6H-4.6Z",
    "diamond": "M0 -5.2L4.8 0L0 5.2L-4.8 0Z",
    "cross": "M-1.4 -4.6H1.4V-1.4H4.6V1.4H1.4V4.6H-1.4V1.4H-4.6V-1.4H-1.4Z",
    "down": "M0 4.8L4.6 -3.6H-4.6Z",
    "star": "M0 -5.4L1.5 -1.8L5.2 -1.6L2.3 0.8L3.3 4.5L0 2.4L-3.3 4.5L-2.3 0.8L-5.2 -1.6L-1.5 -1.8Z",
    "bar": "M-1.8 -5H1.8V5H-1.8Z",
}
"""SVG paths about the place that they mark."""

STYLES = (
    Style("#2277cc", "", "circle"),
    Style("#dd4411", "7 3", "square"),
    Style("#998855", "2 3", "triangle"),
    Style("#bb2288", "9 3 2 3", "diamond"),
    Style("#8811ff", "4 2", "cross"),
    Style("#7788bb", "12 4", "down"),
    Style("#bb6677", "1 3 5 3", "star"),
    Style("#8866ff", "5 5", "bar"),
)
"""As many lines as are told apart in one plot. The colours are at least 14 apart (CIELAB) for people who see no red, no
green or no blue too; few colours stand out in light and dark alike."""

MOST_LINES = len(STYLES)
LEVEL = "3 3"
"""The dash of a level line, which is in the text's colour."""


def marked(style: Style, x: float, y: float, tip: str = "", *, hollow: bool = False) -> str:
    """A marker of a line at a place, with a rim in the page's colour where lines cross below it.

    Args:
        style: of the line.
        x: in the plot's units.
        y: downwards.
        tip: escaped already; shown under the mouse.
        hollow: only its rim, in the line's colour.
    """
    fill = f'fill="Canvas" stroke="{style.colour}" stroke-width="1.6"' if hollow else (
        f'fill="{style.colour}" stroke="Canvas" stroke-width=".8"')  # fmt: skip
    inner = f"><title>{tip}</title></path>" if tip else "/>"
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{MARKERS[style.marker]}" {fill}{inner}'


SWATCH = '<svg class="swatch" viewBox="0 0 40 14" width="40" height="14" aria-hidden="true">'


def swatch(style: Style, *, hollow: bool = False) -> str:
    """A piece of a line with its marker, for a legend."""
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    line = f'<path d="M1 7H39" stroke="{style.colour}" stroke-width="2"{dash}/>'
    return f"{SWATCH}{line}{marked(style, 20, 7, hollow=hollow)}</svg>"


def level_swatch() -> str:
    """A piece of a level line, for a legend."""
    return f'{SWATCH}<path d="M1 7H39" stroke="currentColor" stroke-width="1.5" stroke-dasharray="{LEVEL}"/></svg>'
