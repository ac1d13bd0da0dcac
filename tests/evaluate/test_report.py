import math

import numpy as np
import pytest
from PIL import Image

from noisewright.evaluate import report
from noisewright.run.particle import Candidate, noise_particle
from noisewright.run.verbs import CurvePoint


def candidates(root, count, size=(64, 64), names=("clip",)):
    found = []
    for number in range(count):
        array = np.full((size[1], size[0], 3), number * 3 % 256, np.uint8)
        Image.fromarray(array).save(root / f"{number}.png")
        scores = {name: float(number) for name in names}
        found.append(Candidate(noise_particle(number, 10), number, scores, f"{number}.png", ""))
    return found


@pytest.mark.parametrize("count", [1, 2, 9, 70])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (1024, 512), (20, 700)])
def test_contact_sheet_of_any_size(tmp_path, count, size):
    sheet = report.contact_sheet(tmp_path, candidates(tmp_path, count, size), ["clip"])
    columns = min(report.MOST_COLUMNS, math.ceil(math.sqrt(min(count, report.MOST_TILES))))
    assert sheet.mode == "RGB"
    assert sheet.width <= columns * (report.TILE + report.GAP) + 2 * report.MARGIN
    assert sheet.width >= report.TILE * 2 // 3


def test_contact_sheet_shows_the_tiles_in_order(tmp_path):
    sheet = report.contact_sheet(tmp_path, candidates(tmp_path, 4), ["clip"])
    middle = report.MARGIN + report.TILE // 2
    assert sheet.getpixel((middle, middle)) == (0, 0, 0)
    assert sheet.getpixel((middle + report.TILE + report.GAP, middle)) == (3, 3, 3)


def test_contact_sheet_survives_a_lost_image_and_a_missing_score(tmp_path):
    made = candidates(tmp_path, 3)
    (tmp_path / "1.png").unlink()
    unscored = Candidate(made[2].particle, 2, {"clip": math.nan}, "2.png", "")
    report.contact_sheet(tmp_path, [*made[:2], unscored], ["clip"])


def test_contact_sheet_without_candidates_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        report.contact_sheet(tmp_path, [], ["clip"])


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((64, 64), 192, (192, 192)),
        ((100, 50), 192, (100, 50)),
        ((1000, 500), 200, (200, 100)),
        ((1, 9000), 192, (1, 192)),
    ],
)
def test_fit(size, side, expected):
    assert report.fit(Image.new("RGB", size), side).size == expected


def points(values):
    return [CurvePoint(n + 1, 10 * (n + 1), 0.5 * (n + 1), value, "x") for n, value in enumerate(values)]


@pytest.mark.parametrize("values", [[], [1.0], [-math.inf, 0.2, 0.2, 0.9], [-math.inf]])
@pytest.mark.parametrize("names", [("clip",), ("clip", "aesthetic")])
def test_curve_of_anything(tmp_path, values, names):
    figure = report.plot_curve(points(values), names, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert min(image.size) > 300
    left = figure.axes[0]
    assert left.get_xlabel() == "images"
    assert ("clip" if len(names) == 1 else "ensemble") in left.get_ylabel()


def test_curve_leaves_no_global_figure():
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    report.prepare()
    report.plot_curve(points([1.0, 2.0]), ["clip"])
    assert plt.get_fignums() == before


def test_before_after(tmp_path):
    Image.new("RGB", (64, 64), "black").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "b.png")
    made = report.before_after(tmp_path / "a.png", tmp_path / "b.png", prompt="two red circles " * 20, side=256)
    colours = {colour for _, colour in made.getcolors(made.width * made.height)}
    assert {(0, 0, 0), (255, 0, 0), (255, 255, 255)} <= colours
    assert made.width > 2 * 256


@pytest.mark.parametrize(
    ("value", "text"), [(0.12361, "0.1236"), (31.25, "31.250"), (12345.2, "12345"), (math.nan, "nan"), (-3.0, "-3.000")]
)
def test_format_score(value, text):
    assert report.format_score(value) == text
