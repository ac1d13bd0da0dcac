"""A grid's pictures: which sheets there are, what stands where, and the labelled PNG."""

import itertools

import numpy as np
import pytest
from PIL import Image

from noisewright.benchmark.report.grid_picture import MARGIN, TILE, WIDEST, grid_picture
from noisewright.benchmark.report.sheets import (
    MOST_ACROSS,
    MOST_PROMPTS,
    MOST_TILES,
    Sheet,
    Tile,
    sheet_html,
    sheets_of,
)
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.evaluate.report import LOST, PAPER

SIDE = 32


def spec_of(*counts, prompts=1, seeds=1):
    """Axes x, y, z, ... with so many values; prompts ``p1``, ``p2``, ..."""
    axes = tuple(Axis(name, tuple(Value(f"{name}{n}", {}) for n in range(count)))
                 for name, count in zip("xyzw", counts, strict=False))  # fmt: skip
    return Spec("a", "A grid", {}, axes, tuple(SetPrompt(f"p{n}", n) for n in range(1, prompts + 1)), seeds=seeds)


def rows_of(spec, root=None):
    """A row for each cell, whose picture is of one grey that no other has."""
    points = itertools.product(spec.prompts, range(spec.seeds), *(axis.values for axis in spec.axes))
    rows = []
    for number, (prompt, repeat, *values) in enumerate(points):
        file = f"{number}.png"
        if root is not None:
            Image.new("L", (SIDE, SIDE), number + 1).save(root / file)
        best = {"id": file, "seed": 0, "scores": {"clip": number / 8, "oracle": None}, "file": file}
        labels = {axis.name: value.label for axis, value in zip(spec.axes, values, strict=True)}
        rows.append({"cell": str(number), "coordinates": labels, "prompt": prompt.text, "number": prompt.number,
                     "category": None, "seed": repeat, "repeat": repeat, "status": "done", "verifiers": ["clip"],
                     "judges": ["oracle"], "best": best, "baseline": best})  # fmt: skip
    return rows


def files(sheet):
    return [[tile.file for tile in row] for row in sheet.tiles]


def test_x_goes_across_and_y_down_and_z_is_a_sheet_each():
    spec = spec_of(2, 3, 2)
    first, second = sheets_of(spec, rows_of(spec)).sheets
    assert (first.x_name, first.y_name, first.columns, first.rows) == ("x", "y", ("x0", "x1"), ("y0", "y1", "y2"))
    assert (first.title, second.title) == ("z: z0", "z: z1")
    # The last axis runs fastest through the rows.
    assert files(first) == [["0.png", "6.png"], ["2.png", "8.png"], ["4.png", "10.png"]]
    assert files(second)[0] == ["1.png", "7.png"]
    assert first.tiles[1][0].scores == (("clip", "0.25"), ("oracle (judge)", "nan"))


def test_prompts_go_down_where_there_is_one_axis():
    spec = spec_of(2, prompts=3)
    (sheet,) = sheets_of(spec, rows_of(spec)).sheets
    assert (sheet.y_name, sheet.rows) == ("prompt", ("p1", "p2", "p3"))
    assert files(sheet) == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png", "5.png"]]


def test_one_axis_and_one_prompt_are_one_row():
    spec = spec_of(3)
    (sheet,) = sheets_of(spec, rows_of(spec)).sheets
    assert (sheet.y_name, sheet.rows, files(sheet)) == ("", ("",), [["0.png", "1.png", "2.png"]])


def test_further_prompts_have_sheets_of_their_own():
    spec = spec_of(2, 2, prompts=2)
    found = sheets_of(spec, rows_of(spec)).sheets
    assert [sheet.title for sheet in found] == ["p1", "p2"]
    assert files(found[1]) == [["4.png", "6.png"], ["5.png", "7.png"]]


def test_many_axes_or_prompts_have_no_sheets():
    assert sheets_of(spec_of(2, 2, 2, 2), []).sheets == ()
    assert sheets_of(spec_of(2, prompts=MOST_PROMPTS + 1), []).sheets == ()
    assert sheets_of(spec_of(), []).sheets == ()


def test_what_is_left_out_is_said():
    found = sheets_of(spec_of(MOST_ACROSS + 1, 10, 5, seeds=2), [])
    assert len(found.sheets) * MOST_ACROSS * 10 <= MOST_TILES
    assert found.notes == (
        "Of 2 seeds the first is shown.",
        f"Of {MOST_ACROSS + 1} columns and 10 rows the first {MOST_ACROSS} and 10 are shown.",
        "Of 5 grids the first 1 are shown.",
    )


def test_failed_cells_and_those_that_were_not_run_are_said_to_be():
    spec = spec_of(3)
    rows = rows_of(spec)
    rows[1] = {**{name: value for name, value in rows[1].items() if name not in ("best", "baseline")},
               "status": "failed", "error": "out of memory"}  # fmt: skip
    (sheet,) = sheets_of(spec, rows[:2]).sheets
    assert [tile.missing for tile in sheet.tiles[0]] == ["", "failed", "not run"]


def field(picture, grey):
    """The box of the pixels of one grey, inclusive."""
    down, across = np.nonzero((np.asarray(picture) == grey).all(2))
    return across.min(), down.min(), across.max(), down.max()


def test_the_picture_has_each_image_in_its_place(tmp_path):
    spec = spec_of(3, 2, 2)
    found = sheets_of(spec, rows_of(spec, tmp_path))
    picture = grid_picture(tmp_path, "a red circle", found.sheets)
    assert picture.getpixel((0, 0)) == tuple(bytes.fromhex(PAPER[1:]))
    at = {grey: field(picture, grey) for grey in range(1, 13)}
    for left, top, right, bottom in at.values():
        assert (right - left + 1, bottom - top + 1) == (TILE // SIDE * SIDE,) * 2
    x = [[at[1 + 4 * n + y][0] for n in range(3)] for y in (0, 2)]
    assert x[0] == x[1] == sorted(set(x[0])), "columns stand below each other"
    assert at[1][1] == at[5][1] < at[3][1] < at[2][1], "y goes down, then the next z"


def test_a_long_title_and_long_labels_stay_inside(tmp_path):
    spec = spec_of(2, 2)
    sheet = sheets_of(spec, rows_of(spec, tmp_path)).sheets[0]
    long = "a very long label of many words " * 30
    wide = Sheet(long, long, long, long, (long, "b" * 500), (long, "c" * 500), sheet.tiles)
    picture = grid_picture(tmp_path, long, [wide])
    edge = np.asarray(picture)
    plain = np.array(list(bytes.fromhex(PAPER[1:])))
    for border in (edge[:, : MARGIN - 2], edge[:, -(MARGIN - 2) :], edge[: MARGIN - 4], edge[-8:]):
        assert (border == plain).all(), "nothing stands in the margins"


def test_many_columns_have_smaller_tiles(tmp_path):
    tiles = tuple(Tile("", missing="not run") for _ in range(60))
    sheet = Sheet("", "p", "x", "", tuple(map(str, range(60))), ("",), (tiles,))
    assert grid_picture(tmp_path, "", [sheet]).width <= WIDEST


def test_pictures_that_are_gone_or_elsewhere_are_grey_fields(tmp_path):
    (tmp_path / "run").mkdir()
    Image.new("RGB", (SIDE, SIDE), (9, 9, 9)).save(tmp_path / "secret.png")
    tiles = (Tile("../secret.png", (("clip", "1"),)), Tile("none.png", (("clip", "1"),)))
    sheet = Sheet("", "p", "x", "", ("a", "b"), ("",), (tiles,))
    picture = grid_picture(tmp_path / "run", "t", [sheet])
    assert not (np.asarray(picture) == 9).all(2).any()
    assert (np.asarray(picture) == list(bytes.fromhex(LOST[1:]))).all(2).sum() > 2 * 10_000
    assert sheet_html(tmp_path / "run", sheet).count("its file is gone") == 2


def test_no_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least one sheet"):
        grid_picture(tmp_path, "", [])


def test_the_table_says_what_each_picture_shows(tmp_path):
    spec = spec_of(2, 2)
    sheet = sheets_of(spec, rows_of(spec, tmp_path)).sheets[0]
    found = sheet_html(tmp_path, sheet)
    assert found.count("<img ") == 4
    assert 'alt="p1 (x x1, y y0): clip 0.250, oracle (judge) nan"' in found
    evil = '"><script>alert(1)</script>'
    tiles = ((Tile("0.png", ((evil, evil),)),),)
    assert "<script" not in sheet_html(tmp_path, Sheet(evil, evil, evil, evil, (evil,), (evil,), tiles))
