"""Bars inside tables: where the time went, and a mean with its interval on one scale for a whole column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noisewright.benchmark.report.scales import Scale, scale_of
from noisewright.evaluate.page import escaped
from noisewright.evaluate.words import duration

PHASES = ("encode", "denoise", "decode", "verify", "other")
"""Of a run's time, as they stand in a bar; ``other`` is what is left of the total."""

COLOURS = {"encode": "#b5479e", "denoise": "#2271d1", "decode": "#2b9348", "verify": "#d9480f", "other": "#7a7f87"}
WIDE, INK = 140, "#2277cc"
"""Units of an interval's picture, and its colour."""

PATTERNS = (
    '<svg width="0" height="0" aria-hidden="true" class="defs"><defs>'
    '<pattern id="nw-encode" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#b5479e"/><path d="M0 3H6" stroke="Canvas" stroke-width="1.5"/></pattern>'
    '<pattern id="nw-denoise" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#2271d1"/></pattern>'
    '<pattern id="nw-decode" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#2b9348"/><circle cx="3" cy="3" r="1.3" fill="Canvas"/></pattern>'
    '<pattern id="nw-verify" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#d9480f"/><path d="M0 3H6" stroke="Canvas" stroke-width="1.8"/></pattern>'
    '<pattern id="nw-other" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" fill="#7a7f87" fill-opacity=".35"/></pattern>'
    "</defs></svg>"
)
"""How phases are told apart in grey; stands once in a page that has :func:`time_table`."""


def parts_of(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase, with what is left of the total; none below 0."""
    known = {name: max(0.0, float(seconds.get(name) or 0.0)) for name in PHASES[:-1]}
    total = float(seconds.get("total") or 0.0)
    return {**known, "other": max(0.0, total - sum(known.values()))}


def time_table(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """A bar for each row, on one scale, and its parts in figures.

    Args:
        rows: a label, and seconds by phase with their ``total``.
    """
    parts = [(label, parts_of(seconds)) for label, seconds in rows]
    used = [name for name in PHASES if any(one[name] > 0 for _, one in parts)]
    most = max((sum(one.values()) for _, one in parts), default=0.0)
    if most <= 0:
        return ""
    legend = "".join(f'<li><svg class="swatch" width="26" height="14" aria-hidden="true"><rect width="26" height="14" '
                     f'fill="url(#nw-{name})"/></svg> {name}</li>' for name in used)  # fmt: skip
    body = "".join(_time_row(label, one, used, most) for label, one in parts)
    head = "".join(f"<th><button>{name}</button></th>" for name in used)
    return (
        f'{PATTERNS}<ul class="legend">{legend}</ul><div class="scroll"><table class="times"><thead><tr>'
        f'<th class="text"></th><th class="text">seconds of a cell (mean)</th><th><button>total</button></th>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _time_row(label: str, parts: Mapping[str, float], used: Sequence[str], most: float) -> str:
    total, begin, drawn = sum(parts.values()), 0.0, []
    for name in used:
        share = 100 * parts[name] / most
        if share > 0:
            drawn.append(f'<rect x="{begin:.2f}%" width="{share:.2f}%" height="16" fill="url(#nw-{name})" '
                         f'stroke="{COLOURS[name]}" stroke-width=".8"/>')  # fmt: skip
        begin += share
    said = ", ".join(f"{name} {duration(parts[name])}" for name in used)
    bar = (f'<svg class="bar" height="16" role="img"><title>{escaped(label)}: {said}</title>{"".join(drawn)}</svg>')
    cells = "".join(f'<td data-value="{value!r}">{_seconds(value)}</td>' for value in
                    (total, *(parts[name] for name in used)))  # fmt: skip
    return f'<tr><th class="text">{escaped(label)}</th><td class="wide">{bar}</td>{cells}</tr>'


def _seconds(value: float) -> str:
    if value >= 60:
        return duration(value)
    return f"{value:.{2 if value < 10 else 1}f} s"


def interval_scale(ends: Sequence[float | None]) -> Scale:
    """One scale for a column of intervals."""
    return scale_of([one for one in ends if one is not None and math.isfinite(one)], count=3)


def interval_bar(
    scale: Scale, value: float | None, low: float | None, high: float | None, *, zero: float | None = None,
    strong: bool = False,
) -> str:  # fmt: skip
    """A mean with its interval as a small picture.

    Args:
        scale: of the column.
        value: the mean; without a number nothing is drawn.
        low: the lower end.
        high: the upper end.
        zero: where a line stands that intervals are read against (the mean of the baseline, or no difference).
        strong: whether the difference stands: a filled marker.
    """
    if value is None or not math.isfinite(value):
        return ""
    place = {one: 4 + scale.share(one) * (WIDE - 8) for one in (value, low, high, zero)
             if one is not None and math.isfinite(one)}  # fmt: skip
    parts = []
    if zero is not None and zero in place and scale.low <= zero <= scale.high:
        parts.append(f'<path d="M{place[zero]:.1f} 0V16" class="zero"/>')
    if low is not None and high is not None and low in place and high in place:
        parts.append(f'<path d="M{place[low]:.1f} 8H{place[high]:.1f}" stroke="{INK}" stroke-width="2"/>')
    parts.append(f'<circle cx="{place[value]:.1f}" cy="8" r="3.6" fill="{INK if strong else "Canvas"}" stroke="{INK}" '
                 'stroke-width="1.6"/>')  # fmt: skip
    size = f'viewBox="0 0 {WIDE} 16" width="{WIDE}" height="16"'
    return f'<svg class="interval" {size} aria-hidden="true">{"".join(parts)}</svg>'
