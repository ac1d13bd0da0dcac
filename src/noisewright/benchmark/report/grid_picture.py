"""The sheets of a grid as one labelled picture, to be shown to others by itself."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from noisewright.benchmark.report.sheets import Sheet, Tile
from noisewright.evaluate.report import FAINT, INK, LOST, PAPER, fit, font_of, read_inside, shortened
from noisewright.outside.texts import clean

MARGIN, GAP, LINE, TEXT, TITLE = 24, 12, 18, 14, 18
TILE, LEAST_TILE = 192, 96
"""Pixels of a tile's side; where the picture would be wider than :data:`WIDEST`, less."""

WIDEST = 8000
LABEL = 170
"""Pixels that a row's label may take; it is wrapped."""

MOST_LINES = 5
"""Of a label, and of a title."""


@dataclass(frozen=True)
class Sizes:
    """Pixels that all sheets share: of a tile, of the labels at the left, and lines below a tile."""

    width: int
    height: int
    label: int
    scores: int


def grid_picture(root: Path, title: str, sheets: Sequence[Sheet]) -> Image.Image:
    """The sheets below each other, each with its axes' names and labels, and scores below each picture.

    Args:
        root: the benchmark's directory; a picture that is gone, or lies elsewhere, is a grey field.
        title: on top; a prompt, as a rule.
        sheets: at least one; their pictures are read one at a time.

    Raises:
        ValueError: without sheets.
    """
    if not sheets:
        raise ValueError("expected at least one sheet, got none")
    sizes = _sizes(root, sheets)
    columns = max(len(sheet.columns) for sheet in sheets)
    width = 2 * MARGIN + sizes.label + columns * (sizes.width + GAP) - GAP
    headline = _wrapped(title, width - 2 * MARGIN, TITLE)
    heads = [_wrapped(sheet.title, width - 2 * MARGIN, TEXT + 2) for sheet in sheets]
    top = MARGIN + len(headline) * (TITLE + 8) + (8 if headline else 0)
    heights = [_height(sheet, sizes, len(head)) for sheet, head in zip(sheets, heads, strict=True)]
    picture = Image.new("RGB", (width, top + sum(heights) + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(headline):
        draw.text((MARGIN, MARGIN + number * (TITLE + 8)), line, fill=INK, font=font_of(TITLE))
    for sheet, head, height in zip(sheets, heads, heights, strict=True):
        _draw_sheet(picture, draw, root, sheet, head, top, sizes)
        top += height
    return picture


def _sizes(root: Path, sheets: Sequence[Sheet]) -> Sizes:
    every = [tile for sheet in sheets for row in sheet.tiles for tile in row]
    columns = max(len(sheet.columns) for sheet in sheets)
    labels = [label for sheet in sheets for label in sheet.rows] + [sheet.y_name for sheet in sheets]
    wide = max(_length(label, TEXT) for label in labels)
    label = min(LABEL, math.ceil(wide)) + GAP if wide else 0
    side = max(LEAST_TILE, min(TILE, (WIDEST - 2 * MARGIN - label) // columns - GAP))
    first = next((tile for tile in every if tile.file), None)
    shown = fit(read_inside(root, first.file), side) if first else Image.new("RGB", (side, side))
    # A narrow picture still has room for a score below it.
    return Sizes(max(shown.width, side * 2 // 3), max(shown.height, 24), label, max(len(one.scores) for one in every))


def _height(sheet: Sheet, sizes: Sizes, lines: int) -> int:
    row = sizes.height + 8 + sizes.scores * LINE + GAP
    return lines * (TEXT + 8) + 2 * LINE + 12 + len(sheet.rows) * row + GAP


def _draw_sheet(
    picture: Image.Image, draw: ImageDraw.ImageDraw, root: Path, sheet: Sheet, head: Sequence[str], top: int,
    sizes: Sizes,
) -> None:  # fmt: skip
    font = font_of(TEXT)
    for line in head:
        draw.text((MARGIN, top), line, fill=INK, font=font_of(TEXT + 2))
        top += TEXT + 8
    left = MARGIN + sizes.label
    width = len(sheet.columns) * (sizes.width + GAP) - GAP
    name = shortened(draw, clean(sheet.x_name), width, font)
    draw.text((left + width / 2, top), name, fill=FAINT, font=font, anchor="ma")
    if sheet.y_name:
        draw.text((MARGIN, top + LINE), shortened(draw, clean(sheet.y_name), sizes.label, font), fill=FAINT, font=font)
    for column, label in enumerate(sheet.columns):
        said = shortened(draw, clean(label), sizes.width, font)
        draw.text((left + column * (sizes.width + GAP) + sizes.width / 2, top + LINE), said, fill=INK, font=font,
                  anchor="ma")  # fmt: skip
    top += 2 * LINE + 8
    for label, tiles in zip(sheet.rows, sheet.tiles, strict=True):
        lines = _wrapped(label, sizes.label - GAP, TEXT)
        begin = top + max(0, (sizes.height - len(lines) * LINE) // 2)
        for number, line in enumerate(lines):
            draw.text((MARGIN, begin + number * LINE), line, fill=INK, font=font)
        for column, tile in enumerate(tiles):
            _draw_tile(picture, draw, root, tile, (left + column * (sizes.width + GAP), top), sizes)
        top += sizes.height + 8 + sizes.scores * LINE + GAP


def _draw_tile(
    picture: Image.Image, draw: ImageDraw.ImageDraw, root: Path, tile: Tile, at: tuple[int, int], sizes: Sizes
) -> None:
    left, top = at
    font = font_of(TEXT - 1)
    if tile.missing:
        draw.rectangle((left, top, left + sizes.width - 1, top + sizes.height - 1), fill=LOST)
        draw.text((left + sizes.width / 2, top + sizes.height / 2), tile.missing, fill=INK, font=font, anchor="mm")
        return
    shown = fit(read_inside(root, tile.file), max(sizes.width, sizes.height))
    if shown.width > sizes.width or shown.height > sizes.height:
        shown.thumbnail((sizes.width, sizes.height))
    picture.paste(shown, (left + (sizes.width - shown.width) // 2, top + (sizes.height - shown.height) // 2))
    for number, (name, value) in enumerate(tile.scores):
        y = top + sizes.height + 6 + number * LINE
        room = sizes.width - draw.textlength(value, font) - 8
        draw.text((left, y), shortened(draw, clean(name), room, font), fill=FAINT, font=font)
        draw.text((left + sizes.width, y), value, fill=INK, font=font, anchor="ra")


def _length(text: str, size: int) -> float:
    return ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(clean(text), font_of(size))


def _wrapped(text: str, room: int, size: int) -> list[str]:
    """A text in lines of at most ``room`` pixels; a word that is longer is cut in pieces."""
    said = clean(text, 600)
    if not said:
        return []
    letters = max(4, int(len(said) * room / max(1.0, _length(said, size))))
    lines = textwrap.wrap(said, letters)
    while letters > 4 and max(_length(line, size) for line in lines) > room:
        letters -= 1
        lines = textwrap.wrap(said, letters)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"{lines[MOST_LINES - 1][:-3]}..."]
    return lines
