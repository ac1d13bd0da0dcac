"""The picture of the best so far, whatever the values are."""

import math
import subprocess
import sys

import numpy as np
import pytest

from noisewright.evaluate import curve_picture as pictures
from noisewright.evaluate.curve_picture import curve_picture
from noisewright.run.ranking import CurvePoint


def points(values, seconds=None):
    seconds = [1.0] * len(values) if seconds is None else seconds
    return [CurvePoint(k + 1, 25 * (k + 1), seconds[k], value, f"{k:016x}") for k, value in enumerate(values)]


def share(picture, colour, box=(0.0, 0.0, 1.0, 1.0)):
    """How many pixels of a part of the picture are of a colour, as text ``#rrggbb``."""
    array = np.asarray(picture)
    height, width = array.shape[:2]
    left, top, right, bottom = box
    part = array[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((np.abs(part.astype(int) - wanted).max(-1) < 8).sum())


@pytest.mark.parametrize(
    "values",
    [
        [], [math.nan], [math.nan, 1.0, 2.0], [0.5], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0 + 2e-16], [0.0, 5e-324],
        [-1e308, 1e308], [1.7e308], [-math.inf, 1.0], [-123456.789, -123456.788], list(range(300)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("baseline", [None, 0.25, math.nan, 1.7e308, -math.inf])
def test_curve_of_anything(values, baseline):
    picture = curve_picture(points(values, [float(k) for k in range(len(values))]), ["clip"], baseline=baseline)
    assert picture.width == pictures.WIDTH
    assert picture.height > pictures.HEIGHT
    drawn = share(picture, pictures.ACCENT)
    assert drawn > 0 if any(map(math.isfinite, values)) else drawn <= 42 * 6  # the legend alone


def test_the_best_so_far_rises_from_left_to_right():
    rising = curve_picture(points([0.0, 0.0, 1.0, 1.0]), ["clip"])
    low, high = (0.1, 0.6, 0.6, 0.85), (0.65, 0.2, 0.95, 0.5)
    assert min(share(rising, pictures.ACCENT, one) for one in (low, high)) > 100
    flat = curve_picture(points([0.0] * 4), ["clip"])
    assert share(flat, pictures.ACCENT, high) == 0


def test_seconds_are_shown_where_they_tell_something():
    """A second pair of axes stands where there was one wide panel."""
    alone, both = (
        curve_picture(points([0.0, 0.5, 1.0], seconds), ["clip"]) for seconds in ([2.0, 2.0, 2.0], [2.0, 3.0, 4.0])
    )
    middle = (0.48, 0.3, 0.6, 0.8)
    assert share(both, pictures.AXIS, middle) > 100 > share(alone, pictures.AXIS, middle)


def test_the_baseline_is_a_line_of_its_own():
    with_it, without = (curve_picture(points([1.0, 2.0]), ["clip"], baseline=one) for one in (0.5, None))
    below = (0.1, 0.7, 0.95, 0.85)
    assert share(with_it, pictures.BASE, below) > 100
    assert share(curve_picture([], ["clip"]), pictures.BASE) == 0
    assert share(without, pictures.BASE) > 100  # the first candidate stands for it


@pytest.mark.parametrize("name", ["a" * 500, "a verifier with many words " * 20, "$x^2$ \\alpha", "日本語"])
def test_names_are_shortened_and_taken_as_they_are(name):
    picture = curve_picture(points([1.0, 2.0]), [name])
    assert share(picture, pictures.ACCENT, (0.2, 0.2, 1.0, 1.0)) > 100


def test_a_wide_name_beside_the_values_leaves_the_legend_alone():
    wide, narrow = (curve_picture(points([1.0, 2.0]), [name]) for name in ("W" * 300, "i"))
    legend = (0.0, 0.0, 0.06, 0.18)
    assert share(wide, pictures.BASE, legend) == share(narrow, pictures.BASE, legend) > 20


def test_huge_values_leave_room_for_the_curve():
    picture = curve_picture(points([-1e308, 1e308]), ["clip"])
    assert share(picture, pictures.ACCENT, (0.2, 0.3, 0.6, 1.0)) > 100


def test_no_matplotlib_is_needed():
    program = (
        "import sys\nimport noisewright.execute\n"
        "from noisewright.evaluate.curve_picture import curve_picture\ncurve_picture([], ['a'])\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
