"""Pictures of a run: the contact sheet, baseline beside best, and the best-so-far curve as a matplotlib figure.

matplotlib is imported when a figure is asked for, and only through ``matplotlib.figure``: no pyplot, no global state.
What a run draws of itself needs none (:mod:`noisewright.evaluate.curve_picture`).
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from noisewright.evaluate.numbers import decimals, written
from noisewright.images.reading import read_image
from noisewright.outside.files import write_picture
from noisewright.outside.inside import inside

if TYPE_CHECKING:
    from noisewright.run.particle import Candidate
    from noisewright.run.ranking import CurvePoint, Ranking

MOST_TILES = 64
"""How many candidates a contact sheet shows."""

TILE = 192
"""Pixels of a tile's longer side on the sheet; small images are enlarged by a whole factor to at least two thirds."""

MOST_COLUMNS = 8
MARGIN, GAP, LINE, TEXT = 20, 14, 17, 13
LINE_INCHES = 0.22
"""Of a line above the curve."""

PAPER, INK, FAINT, ACCENT, BASE, LOST = "#ffffff", "#1b1f24", "#6a737d", "#d9480f", "#1864ab", "#d0d7de"


# The contact sheet


@dataclass(frozen=True)
class Tile:
    """A candidate as a contact sheet shows it.

    Attributes:
        file: its PNG, relative to the run directory.
        title: its place and its seed.
        mark: ``best``, ``baseline``, or both.
        lines: names and numbers below it.
    """

    file: str
    title: str
    mark: str
    lines: tuple[tuple[str, str], ...]


def contact_sheet(
    root: Path,
    ranked: Sequence[tuple[Candidate, float]],
    ranking: Ranking,
    *,
    baseline: str | None = None,
    judged: Mapping[str, Mapping[str, float]] | None = None,
) -> Image.Image:
    """Tiles in the order given, each with its place, seed and scores below it; the best and the baseline are framed.

    Args:
        root: the run directory; a few images at a time are read from it.
        ranked: candidates with their values, best first; at least one, and :data:`MOST_TILES` at most are shown, and
            the baseline.
        ranking: what they are sorted by.
        baseline: the baseline's id.
        judged: scores of judges, by id and judge.

    Raises:
        ValueError: without candidates.
    """
    if not ranked:
        raise ValueError("expected at least one candidate, got none")
    tiles = _tiles(ranked, ranking, baseline, judged or {})
    first = fit(read_inside(root, tiles[0].file), TILE)
    width, height = max(first.width, TILE * 2 // 3), max(first.height, 24)
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(len(tiles))))
    rows = [tiles[n : n + columns] for n in range(0, len(tiles), columns)]
    heights = [height + LINE * (1 + max(len(one.lines) for one in row)) + GAP + 8 for row in rows]
    sheet = Image.new("RGB", (2 * MARGIN - GAP + columns * (width + GAP), 2 * MARGIN - GAP + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    others = _small(root, [one.file for one in tiles[1:]], at_once=max(first.size) == TILE)
    pictures = iter([first, *others])
    for number, row in enumerate(rows):
        top = MARGIN + sum(heights[:number])
        for column, one in enumerate(row):
            left = MARGIN + column * (width + GAP)
            tile = next(pictures)
            sheet.paste(tile, (left + (width - tile.width) // 2, top + (height - tile.height) // 2))
            if one.mark:
                ink = ACCENT if one.mark.startswith("best") else BASE
                draw.rectangle((left - 4, top - 4, left + width + 3, top + height + 3), outline=ink, width=3)
            _caption(draw, left, top + height + 8, width, one)
    return sheet


def _small(root: Path, files: Sequence[str], at_once: bool) -> Iterator[Image.Image]:
    """The pictures of tiles; large ones several at once, since to read them takes longer than all else."""

    def small(file: str) -> Image.Image:
        return fit(read_inside(root, file), TILE)

    workers = min(len(files), os.cpu_count() or 1)
    if workers < 2 or not at_once:
        yield from map(small, files)
        return
    with ThreadPoolExecutor(workers, "noisewright-tile") as pool:  # Pillow lets other threads work meanwhile
        yield from pool.map(small, files)


def _tiles(
    ranked: Sequence[tuple[Candidate, float]], ranking: Ranking, baseline: str | None,
    judged: Mapping[str, Mapping[str, float]],
) -> list[Tile]:  # fmt: skip
    """The first of the ranked, and the baseline wherever it stands."""
    places = {name: decimals(one.scores.get(name) for one, _ in ranked) for name in ranking.names}
    for name in dict.fromkeys(name for scores in judged.values() for name in scores):
        places.setdefault(name, decimals(scores.get(name) for scores in judged.values()))
    of_values = decimals(value for _, value in ranked)
    tiles = []
    for place, (one, value) in enumerate(ranked, 1):
        if place > MOST_TILES and one.id != baseline:
            continue
        mark = ", ".join(["best"] * (place == 1) + ["baseline"] * (one.id == baseline))
        lines = [(name, written(one.scores.get(name, math.nan), places[name])) for name in ranking.names]
        if len(ranking.names) > 1:
            lines.insert(0, (ranking.name, written(value if math.isfinite(value) else math.nan, of_values)))
        lines += [(f"{name} (judge)", written(score, places[name])) for name, score in judged.get(one.id, {}).items()]
        seed = f"seed {one.seed}" if one.seed is not None else one.id[:8]
        tiles.append(Tile(one.file, f"{place}. {seed}", mark, tuple(lines)))
    return tiles


def _caption(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, one: Tile) -> None:
    ink = ACCENT if one.mark.startswith("best") else BASE if one.mark else INK
    _pair(draw, left, top, width, one.title, one.mark, ink, ink)
    for line, (name, value) in enumerate(one.lines, start=1):
        _pair(draw, left, top + line * LINE, width, name, value, FAINT, INK)


def _pair(
    draw: ImageDraw.ImageDraw, left: int, top: int, width: int, name: str, value: str, ink: str, strong: str
) -> None:
    """A name at the left, shortened where it must be, and its value at the right."""
    font = font_of(TEXT)
    room = width - (draw.textlength(value, font) + 8 if value else 0)
    draw.text((left, top), shortened(draw, name, room, font), fill=ink, font=font)
    if value:
        draw.text((left + width, top), value, fill=strong, font=font, anchor="ra")


def shortened(draw: ImageDraw.ImageDraw, text: str, room: float, font: Any) -> str:
    """A text that takes at most ``room`` pixels, cut where it must be."""
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


def read_inside(root: Path, name: str) -> Image.Image:
    """As :func:`_read`, of a file that a run names: one outside of its directory is lost too."""
    try:
        return _read(inside(root, name))
    except ValueError:
        return Image.new("RGB", (TILE, TILE), LOST)


@cache
def font_of(size: int) -> Any:
    """The font of pictures for people, in pixels."""
    return ImageFont.load_default(size)


# Baseline beside best


def captions(
    baseline: Mapping[str, float], best: Mapping[str, float], judges: Container[str] = ()
) -> tuple[str, str]:
    """What stands below the two pictures of :func:`before_after`: a name, and a line for each score.

    Args:
        baseline: scores of the baseline by verifier and judge.
        best: the same of the best.
        judges: names of those that the search did not see; they are marked.
    """
    places = {name: decimals([baseline.get(name), best.get(name)]) for name in best}

    def below(title: str, scores: Mapping[str, float]) -> str:
        lines = [f"{name}{' (judge)' * (name in judges)} {written(value, places.get(name, 3))}"
                 for name, value in scores.items()]  # fmt: skip
        return "\n".join([title, *lines])

    return below("baseline", baseline), below("best", best)


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
    font, step = font_of(size), round(size * 1.35)
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

UNITS = {"mean rank": "mean rank, 0 to 1", "z-sum": "z-sum, standard deviations"}
"""What the values of ensembles are counted in."""

LEAST_SHARE = 0.05
"""Of all seconds: images that were all scored within less stand above each other, and tell nothing over time."""


def plot_curve(
    curve: Sequence[CurvePoint],
    verifiers: Sequence[str],
    file: str | Path | None = None,
    *,
    value_name: str = "ensemble value",
    baseline: float | None = None,
) -> Any:
    """Best value so far against images, and against seconds where these tell something, as a matplotlib figure.

    Args:
        curve: from :meth:`noisewright.run.verbs.Run.curve`; may be empty.
        verifiers: one name, or those of the ensemble whose value the curve shows.
        file: where to write it as PNG (or what its suffix says).
        value_name: what the value of the ensemble is (:attr:`noisewright.run.ranking.Ranking.name`).
        baseline: the baseline's value among these; without one the first candidate's stands for it.
    """
    name = verifiers[0] if len(verifiers) == 1 else value_name
    values = [point.value if math.isfinite(point.value) else math.nan for point in curve]
    title = headline(curve, values, name, verifiers)
    header = 0.5 + LINE_INCHES * len(title)
    tall = 3.1 + header
    figure = _figure(8.4, tall)
    seconds = [point.seconds for point in curve]
    in_time = tells_over_time(curve)
    axes = figure.subplots(1, 1 + in_time, sharey=True, squeeze=False)[0]
    level = (baseline, "baseline") if baseline is not None and math.isfinite(baseline) else None
    if level is None and curve:
        level = (values[0], "first candidate")
    _panel(axes[0], [float(point.images) for point in curve], values, "images", level)
    if in_time:
        _panel(axes[1], seconds, values, "seconds", level)
    axes[0].set_ylabel(textwrap.fill(f"best so far: {shortened_to(UNITS.get(name, name), 80)}", 40), color=INK)
    for number, text in enumerate(title):
        place = 1 - (0.12 + LINE_INCHES * number) / tall
        ink, size = (INK, 11) if number == 0 else (FAINT, 9)
        figure.text(0.015, place, text, ha="left", va="top", fontsize=size, color=ink, parse_math=False)
    if curve:
        below = 1 - (0.14 + LINE_INCHES * len(title)) / tall
        figure.legend(*axes[0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.005, below), ncols=2,
                      frameon=False, fontsize=9, borderaxespad=0)  # fmt: skip
    figure.set_layout_engine("constrained", rect=(0.01, 0.0, 0.98, 1 - header / tall))
    if file is not None:
        write_picture(figure, file)
    return figure


def tells_over_time(curve: Sequence[CurvePoint]) -> bool:
    """Whether a curve over seconds says anything that one over images does not."""
    return bool(curve) and curve[-1].seconds - curve[0].seconds > LEAST_SHARE * curve[-1].seconds


def headline(
    curve: Sequence[CurvePoint], values: Sequence[float], name: str, verifiers: Sequence[str]
) -> list[str]:
    """From where to where, and at what cost: lines that fit beside nothing else."""
    if not curve:
        return ["no scored candidate yet"]
    last = curve[-1]
    places = decimals(values)
    cost = f"{last.images} image{'s' * (last.images != 1)}, {last.nfe} NFE, {last.seconds:.1f} s"
    ends = [written(value, places) for value in dict.fromkeys((values[0], values[-1]))]
    first = f"{shortened_to(name, 60)}: {' to '.join(ends)} in {cost}"
    of = textwrap.wrap("of " + ", ".join(verifiers), 125)[:2] if len(verifiers) > 1 else []
    return [first, *of]


def shortened_to(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _panel(
    axes: Any, x: Sequence[float], values: Sequence[float], label: str, level: tuple[float, str] | None
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(PAPER)
    if level is not None:
        value, name = level
        axes.axhline(value, color=BASE, linewidth=1, linestyle=(0, (4, 3)), label=name, zorder=1)
    if x:
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
