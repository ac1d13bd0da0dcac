"""A grid's pictures as people know it: x across, y down, a sheet for each z and prompt; what stands where.

:mod:`~noisewright.benchmark.report.grid_picture` draws the sheets as one PNG, :func:`sheet_html` as tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noisewright.benchmark.rows import CellRow
from noisewright.benchmark.spec import Spec
from noisewright.evaluate.numbers import decimals, written
from noisewright.evaluate.page import escaped, picture_inside
from noisewright.outside.texts import clean

MOST_AXES = 3
"""Of a grid of pictures: x, y and z."""

MOST_PROMPTS = 4
"""Whose pictures are all shown; a benchmark of more prompts has the wall of images instead."""

MOST_ACROSS, MOST_DOWN, MOST_TILES = 16, 24, 160
"""Pictures in a row, rows in a sheet, and pictures in all."""

MOST_SCORES = 4
"""Lines of scores below a picture."""

TILE_SIDE = 192
"""Pixels of a picture's longer side in a page."""


@dataclass(frozen=True)
class Tile:
    """What came of one cell.

    Attributes:
        file: its best picture, relative to the benchmark's directory; empty where there is none.
        scores: names and numbers, as they stand below it.
        missing: why there is no picture; empty where there is one.
    """

    file: str
    scores: tuple[tuple[str, str], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Sheet:
    """Pictures across and down.

    Attributes:
        title: the prompt and z, as far as there are several of these; may be empty.
        prompt: of its pictures; empty where the rows are prompts.
        x_name: the axis that goes across.
        y_name: the axis that goes down; empty without one.
        columns: labels across.
        rows: labels down; one empty label without such an axis.
        tiles: row by row.
    """

    title: str
    prompt: str
    x_name: str
    y_name: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class Sheets:
    """All sheets of a benchmark, and what was left out.

    Attributes:
        sheets: in the order of prompts, and of z for each.
        notes: sentences about what is not shown.
    """

    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...] = ()


def sheets_of(spec: Spec, rows: Sequence[CellRow]) -> Sheets:
    """The sheets of a benchmark of few axes and few prompts; none of one with more.

    The first axis goes across, the second down, the third is z. Prompts go down where there is one axis only. Of
    several seeds the first is shown.
    """
    if not 1 <= len(spec.axes) <= MOST_AXES or not 1 <= len(spec.prompts) <= MOST_PROMPTS:
        return Sheets(())
    first = [row for row in rows if row["repeat"] == 0]
    names = [axis.name for axis in spec.axes]
    at = {(row["number"], *(row["coordinates"].get(name) for name in names)): row for row in first}
    labels = [[value.label for value in axis.values] for axis in spec.axes]
    notes = [f"Of {spec.seeds} seeds the first is shown."] if spec.seeds > 1 else []
    x, y = labels[0][:MOST_ACROSS], labels[1][:MOST_DOWN] if len(labels) > 1 else [""]
    if len(x) < len(labels[0]) or (len(labels) > 1 and len(y) < len(labels[1])):
        notes.append(f"Of {len(labels[0])} columns and {len(labels[1]) if len(labels) > 1 else 1} rows the first "
                     f"{len(x)} and {len(y)} are shown.")  # fmt: skip
    places = _places(first)
    if len(labels) == 1 and len(spec.prompts) > 1:
        tiles = [[_tile(at.get((prompt.number, label)), places) for label in x] for prompt in spec.prompts]
        texts = tuple(prompt.text for prompt in spec.prompts)
        return Sheets((Sheet("", "", names[0], "prompt", tuple(x), texts, _fixed(tiles)),), tuple(notes))
    each = len(x) * len(y)
    wanted = [(prompt, z) for prompt in spec.prompts for z in (labels[2] if len(labels) > 2 else [None])]
    shown = wanted[: max(1, MOST_TILES // each)]
    if len(shown) < len(wanted):
        notes.append(f"Of {len(wanted)} grids the first {len(shown)} are shown.")
    sheets = []
    for prompt, z in shown:
        tail = () if z is None else (z,)
        tiles = [[_tile(at.get((prompt.number, one, *((down,) if len(labels) > 1 else ()), *tail)), places)
                  for one in x] for down in y]  # fmt: skip
        parts = [prompt.text] if len(spec.prompts) > 1 else []
        parts += [f"{names[2]}: {z}"] if z is not None else []
        sheets.append(Sheet(" | ".join(parts), prompt.text, names[0], names[1] if len(labels) > 1 else "", tuple(x),
                            tuple(y), _fixed(tiles)))  # fmt: skip
    return Sheets(tuple(sheets), tuple(notes))


def _fixed(tiles: Sequence[Sequence[Tile]]) -> tuple[tuple[Tile, ...], ...]:
    return tuple(tuple(row) for row in tiles)


def _places(rows: Sequence[CellRow]) -> Mapping[str, int]:
    """Decimals of each score, over all cells."""
    values: dict[str, list[float | None]] = {}
    for row in rows:
        for name, value in row["best"]["scores"].items() if "best" in row else ():
            values.setdefault(name, []).append(value)
    return {name: decimals(found) for name, found in values.items()}


def _tile(row: CellRow | None, places: Mapping[str, int]) -> Tile:
    if row is None:
        return Tile("", missing="not run")
    if row["status"] != "done" or "best" not in row:
        return Tile("", missing="failed")
    best = row["best"]
    judges = row.get("judges", [])
    scores = [(f"{name} (judge)" if name in judges else name, written(value, places.get(name, 3)))
              for name, value in best["scores"].items()]  # fmt: skip
    return Tile(best["file"], tuple(scores[:MOST_SCORES]))


def sheet_html(root: Path, sheet: Sheet) -> str:
    """A sheet as a table that scrolls inside of itself.

    Args:
        root: the benchmark's directory; a picture that is gone, or lies elsewhere, is said to be.
        sheet: its labels may hold anything.
    """
    corner = escaped(f"{sheet.y_name} \\ {sheet.x_name}" if sheet.y_name else sheet.x_name)
    head = "".join(f'<th scope="col">{escaped(one)}</th>' for one in sheet.columns)
    body = []
    for label, row in zip(sheet.rows, sheet.tiles, strict=True):
        cells = "".join(f"<td>{_cell(root, sheet, (column, label), tile)}</td>"
                        for column, tile in zip(sheet.columns, row, strict=True))  # fmt: skip
        body.append(f'<tr><th scope="row">{escaped(label)}</th>{cells}</tr>')
    title = f"<h3>{escaped(clean(sheet.title, 400))}</h3>" if sheet.title else ""
    return (f'{title}<div class="scroll"><table class="pictures"><thead><tr><th>{corner}</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>")  # fmt: skip


def _cell(root: Path, sheet: Sheet, at: tuple[str, str], tile: Tile) -> str:
    if tile.missing:
        return f'<div class="gone">{escaped(tile.missing)}</div>'
    scores = ", ".join(f"{name} {value}" for name, value in tile.scores)
    where = f"{sheet.x_name} {at[0]}" + (f", {sheet.y_name} {at[1]}" if sheet.y_name and sheet.prompt else "")
    alt = f"{sheet.prompt or at[1]} ({where}): {scores}"
    shown = picture_inside(root, tile.file, TILE_SIDE, alt) or '<div class="gone">its file is gone</div>'
    lines = "".join(f"<div><span>{escaped(name)}</span><b>{escaped(value)}</b></div>" for name, value in tile.scores)
    return f'{shown}<div class="scores">{lines}</div>'
