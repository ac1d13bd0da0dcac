"""Pictures of a run: the contact sheet, the best-so-far curve, and baseline beside best.

matplotlib is imported when it is first needed (:func:`prepare` does so ahead of a time-limited run), and only through
``matplotlib.figure``: no pyplot, no global state.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from noisewright.images.reading import read_image
from noisewright.outside.files import write_picture
from noisewright.outside.inside import inside

if TYPE_CHECKING:
    from noisewright.run.particle import Candidate
    from noisewright.run.verbs import CurvePoint

MOST_TILES = 64
"""How many candidates a contact sheet shows."""

TILE = 192
"""Pixels of a tile's longer side on the sheet; small images are enlarged by a whole factor to at least two thirds."""

MOST_COLUMNS = 8
MARGIN, GAP, LINE, TEXT = 20, 14, 17, 13
PAPER, INK, FAINT, ACCENT, LOST = "#ffffff", "#1b1f24", "#6a737d", "#d9480f", "#d0d7de"


def prepare() -> None:
    """Import and warm up matplotlib, so that a time-limited run does not pay for it at its end."""
    figure = _figure(2, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1])
    axes.set_title("a")
    figure.savefig(io.BytesIO(), format="png")


# The contact sheet


def contact_sheet(root: Path, candidates: Sequence[Candidate], names: Sequence[str]) -> Image.Image:
    """Tiles in the order given, each with its place, seed and scores below it; the first is framed.

    Args:
        root: the run directory; one image at a time is read from it.
        candidates: best first; at least one, and :data:`MOST_TILES` at most are shown.
        names: the verifiers whose scores are written.

    Raises:
        ValueError: without candidates.
    """
    shown = list(candidates)[:MOST_TILES]
    if not shown:
        raise ValueError("expected at least one candidate, got none")
    first = fit(_read_inside(root, shown[0].file), TILE)
    width, height = max(first.width, TILE * 2 // 3), max(first.height, 24)
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(len(shown))))
    rows = math.ceil(len(shown) / columns)
    cell = (width + GAP, height + LINE * (1 + len(names)) + GAP + 8)
    sheet = Image.new("RGB", (2 * MARGIN - GAP + columns * cell[0], 2 * MARGIN - GAP + rows * cell[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, one in enumerate(shown):
        left, top = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        tile = first if number == 0 else fit(_read_inside(root, one.file), TILE)
        sheet.paste(tile, (left + (width - tile.width) // 2, top + (height - tile.height) // 2))
        if number == 0:
            draw.rectangle((left - 4, top - 4, left + width + 3, top + height + 3), outline=ACCENT, width=3)
        _caption(draw, left, top + height + 8, width, number, one, names)
    return sheet


def _caption(
    draw: ImageDraw.ImageDraw, left: int, top: int, width: int, number: int, one: Candidate, names: Sequence[str]
) -> None:
    seed = f"seed {one.seed}" if one.seed is not None else one.id[:8]
    _pair(draw, left, top, width, f"{number + 1}. {seed}", "", ACCENT if number == 0 else INK)
    for line, name in enumerate(names, start=1):
        value = one.scores.get(name, math.nan)
        _pair(draw, left, top + line * LINE, width, name, format_score(value), FAINT)


def _pair(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, name: str, value: str, ink: str) -> None:
    """A name at the left, shortened where it must be, and its value at the right."""
    font = _font(TEXT)
    room = width - (draw.textlength(value, font) + 8 if value else 0)
    draw.text((left, top), _shortened(draw, name, room, font), fill=ink, font=font)
    if value:
        draw.text((left + width, top), value, fill=INK, font=font, anchor="ra")


def _shortened(draw: ImageDraw.ImageDraw, text: str, room: float, font: Any) -> str:
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def fit(image: Image.Image, side: int) -> Image.Image:
    """An image whose longer side is at most ``side``: small ones enlarged by a whole factor, large ones shrunk."""
    longest = max(image.size)
    if longest > side:
        scale = side / longest
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, side // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _read(path: Path) -> Image.Image:
    """An image, or a grey field where it cannot be read: a lost file must not cost the whole sheet."""
    try:
        return Image.fromarray(read_image(path)[0])
    except ValueError:
        return Image.new("RGB", (TILE, TILE), LOST)


def _read_inside(root: Path, name: str) -> Image.Image:
    """As :func:`_read`, of a file that a run names: one outside of its directory is lost too."""
    try:
        return _read(inside(root, name))
    except ValueError:
        return Image.new("RGB", (TILE, TILE), LOST)


def format_score(value: float) -> str:
    """A score in about five characters; ``nan`` where there is none."""
    if math.isnan(value):
        return "nan"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


# Baseline beside best


def before_after(
    baseline: str | Path, best: str | Path, *, prompt: str = "", captions: tuple[str, str] = ("baseline", "best"),
    side: int = 384,
) -> Image.Image:  # fmt: skip
    """The baseline at the left and the best at the right, each under its caption, the prompt on top.

    Args:
        baseline: a PNG.
        best: a PNG.
        prompt: written above both, wrapped.
        captions: written below each; a line break starts a second line.
        side: pixels of the longer side of each picture.
    """
    pictures = [fit(_read(Path(path)), side) for path in (baseline, best)]
    width, height = max(one.width for one in pictures), max(one.height for one in pictures)
    size, gap = max(14, side // 22), max(16, side // 16)
    font, step = _font(size), round(size * 1.35)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    wide = max(10, int((2 * width + gap) / max(1.0, probe.textlength("n", font))))
    title = textwrap.wrap(prompt, wide)[:3]
    below = max(len(text.splitlines()) for text in captions)
    top = MARGIN + len(title) * step + (10 if title else 0)
    size_px = (2 * MARGIN + 2 * width + gap, top + height + 12 + below * step + MARGIN // 2)
    canvas = Image.new("RGB", size_px, PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, text in enumerate(title):
        draw.text((MARGIN, MARGIN + line * step), text, fill=INK, font=font)
    for column, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + column * (width + gap)
        canvas.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
        for line, part in enumerate(text.splitlines()):
            ink = FAINT if line else (ACCENT if column else INK)
            draw.text((left, top + height + 12 + line * step), part, fill=ink, font=font)
    return canvas


# The best-so-far curve


def plot_curve(curve: Sequence[CurvePoint], verifiers: Sequence[str], file: str | Path | None = None) -> Any:
    """Best value so far against images and against seconds, as a matplotlib figure.

    Args:
        curve: from :meth:`noisewright.run.verbs.Run.curve`; may be empty.
        verifiers: one name, or those of the ensemble whose value the curve shows.
        file: where to write it as PNG (or what its suffix says).
    """
    figure = _figure(8.4, 3.8)
    left, right = figure.subplots(1, 2, sharey=True)
    values = [point.value if math.isfinite(point.value) else math.nan for point in curve]
    _panel(left, [float(point.images) for point in curve], values, "images")
    _panel(right, [point.seconds for point in curve], values, "seconds")
    one = len(verifiers) == 1
    left.set_ylabel(f"best {verifiers[0]} so far" if one else "best ensemble value so far", color=INK)
    figure.suptitle(_headline(curve, values, verifiers), x=0.015, y=0.975, ha="left", fontsize=11, color=INK)
    if curve:
        figure.legend(*left.get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained", rect=(0.01, 0.0, 0.98, 0.93))
    if file is not None:
        write_picture(figure, file)
    return figure


def _headline(curve: Sequence[CurvePoint], values: Sequence[float], verifiers: Sequence[str]) -> str:
    if not curve:
        return "no scored candidate yet"
    last = curve[-1]
    name = verifiers[0] if len(verifiers) == 1 else "ensemble of " + ", ".join(verifiers)
    cost = f"{last.images} image{'s' * (last.images != 1)}, {last.nfe} NFE, {last.seconds:.1f} s"
    return f"{name}: {format_score(values[0])} to {format_score(values[-1])} in {cost}"


def _panel(axes: Any, x: Sequence[float], values: Sequence[float], label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(PAPER)
    if x:
        axes.axhline(values[0], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="first candidate", zorder=1)
        axes.step(x, values, where="post", color=ACCENT, linewidth=2, label="best so far", zorder=3)
        axes.plot(x[-1:], values[-1:], "o", color=ACCENT, markersize=5, zorder=4)
    axes.set_xlabel(label, color=INK)
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    if label == "images":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.8, zorder=0)
    axes.tick_params(colors=FAINT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9cdd2")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from noisewright.evaluate.figure import DisplayedFigure

    figure = DisplayedFigure(figsize=(width, height), dpi=150, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure
