"""Plots of a report: axes, ticks, lines that are told apart, descriptions."""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisewright.benchmark.report.bars import interval_bar, interval_scale, parts_of, time_table
from noisewright.benchmark.report.marks import LEVEL, MARKERS, STYLES
from noisewright.benchmark.report.plots import MOST_PANELS, Line, Plot, Point, plot_figures, plot_svg
from noisewright.benchmark.report.scales import LOG_RATIO, scale_of, tick_texts

WHITE, DARK = "#ffffff", "#121212"
"""The pages' colours in Chromium, light and dark."""

GRAPHIC = 3.0
"""Contrast that WCAG 2.2 asks of graphics (1.4.11)."""

NUMBERS = st.lists(st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda one: one == 0 or abs(one) > 1e-9),
                   min_size=1, max_size=8)  # fmt: skip


def line(name="random", ys=(0.2, 0.3, 0.35), xs=(160, 320, 2560), half=0.05):
    return Line(name, tuple(Point(x, y, y - half, y + half, f"{x} NFE") for x, y in zip(xs, ys, strict=True)))


def plot(*lines, **changes):
    return Plot(**{"title": "score against NFE", "x_name": "NFE", "y_name": "score", "lines": lines, **changes})


def tree(svg):
    return ElementTree.fromstring(svg)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@given(NUMBERS)
def test_all_numbers_and_all_ticks_stand_on_the_axis(values):
    scale = scale_of(values)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert all(0 <= scale.share(one) <= 1 for one in values)
    assert len(scale.ticks) >= 2
    assert all(-1e-6 <= scale.share(one) <= 1 + 1e-6 for one in scale.ticks)
    texts = tick_texts(scale)
    assert len(set(texts)) == len(texts), (scale, texts)
    assert [abs(float(text.translate({ord("k"): "e3", ord("M"): "e6", ord("G"): "e9"})) - tick) <= 1e-6 * abs(tick)
            for text, tick in zip(texts, scale.ticks, strict=True)] == [True] * len(texts)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]), ((31.2, 31.8), ["31.2", "31.4", "31.6", "31.8"]),
     ((3, 3), ["2.8", "3.0", "3.2"]), ((-0.001, 0.001), ["-0.0010", "-0.0005", "0.0000", "0.0005", "0.0010"]),
     ((0, 64000), ["0", "20k", "40k", "60k"])],
)  # fmt: skip
def test_ticks_are_round(values, ticks):
    assert tick_texts(scale_of(values)) == ticks


def test_a_large_ratio_has_a_logarithmic_axis_where_it_may():
    values = [10, 10 * LOG_RATIO]
    assert not scale_of(values).log
    scale = scale_of(values, log=True)
    assert scale.log
    assert math.isclose(scale.share(math.sqrt(values[0] * values[1])), 0.5)
    assert tick_texts(scale_of([160, 2560], log=True)) == ["200", "500", "1000", "2000"]
    assert tick_texts(scale_of([1, 1e7], log=True)) == ["1", "100", "10k", "1M"]
    assert not scale_of([0, 100], log=True).log, "nothing has no logarithm"
    assert not scale_of([10, 20], log=True).log


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [(1.0, 1e300), (-1e308, 1e308), (5e-324, 1.0), (0.0, 5e-324), (1e308, 1.7e308)])
def test_no_number_is_too_large_or_too_small_for_an_axis(values, log):
    scale = scale_of(values, log=log)
    assert all(0 <= scale.share(value) <= 1 for value in values)
    assert all(map(math.isfinite, (scale.low, scale.high, *scale.ticks)))
    assert max(map(len, tick_texts(scale)), default=0) < 20



def test_an_axis_of_what_is_never_negative_begins_at_0():
    assert scale_of([1, 100]).low == 0
    assert scale_of([0.9, 0.95]).low > 0.89


def test_whole_numbers_have_whole_ticks():
    assert scale_of([1, 3], whole=True).ticks == (1, 2, 3)


def test_numbers_that_rounding_told_apart_are_one():
    assert tick_texts(scale_of([0.1, 0.1 + 1e-16])) == ["0.090", "0.095", "0.100", "0.105", "0.110"]


def test_no_number_makes_an_axis_too():
    assert scale_of([math.nan, math.inf]).ticks


@pytest.mark.parametrize("paper", [WHITE, DARK])
def test_colours_stand_out(paper):
    assert min(contrast(style.colour, paper) for style in STYLES) >= GRAPHIC


SEEN = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear RGB as it is seen without a kind of cones (Machado, Oliveira and Fernandes 2009, severity 1)."""

XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
APART = 14.0
"""Least distance of two colours of lines."""


def lab(colour, seen):
    """CIELAB of a colour as it is seen, under D65."""
    parts = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(np.array(seen) @ linear, 0, 1) / XYZ.sum(1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN)
def test_colours_are_told_apart_by_other_eyes(eyes):
    pairs = itertools.combinations([lab(style.colour, SEEN[eyes]) for style in STYLES], 2)
    assert min(np.linalg.norm(one - other) for one, other in pairs) >= APART


def test_lines_are_told_apart_without_colour():
    for one, other in itertools.combinations(STYLES, 2):
        assert one.dash != other.dash
        assert one.marker != other.marker
    assert {style.marker for style in STYLES} <= set(MARKERS)
    assert LEVEL not in {style.dash for style in STYLES}


def test_a_plot_has_a_title_a_description_and_named_axes():
    svg = tree(plot_svg(plot(line(), line("zero-order", (0.25, 0.4, 0.5)), level=("baseline", 0.1))))
    assert svg.attrib["role"] == "img"
    assert svg.find("title").text == "score against NFE"
    said = svg.find("desc").text
    assert "random: 0.200 [0.150, 0.250] at 160" in said
    assert "zero-order" in said
    assert "baseline: 0.1" in said
    assert {"score", "NFE, log scale"} <= {one.text for one in svg.iter("text")}


def test_points_stand_where_their_numbers_say():
    svg = tree(plot_svg(plot(Line("a", (Point(0, 0.0), Point(5, 5.0), Point(10, 10.0))), log=False)))
    at = [tuple(map(float, re.findall(r"[\d.]+", one.attrib["transform"]))) for one in svg.iter("path")
          if "transform" in one.attrib]  # fmt: skip
    (left, low), (x, y), (right, high) = at
    assert left < x < right
    assert math.isclose(x, (left + right) / 2, abs_tol=0.11)
    assert low > y > high, "downwards is less"
    assert math.isclose(y, (low + high) / 2, abs_tol=0.11)


def test_intervals_are_bands_of_few_lines_and_whiskers_of_more():
    bands = [plot_svg(plot(*(line(f"n{k}") for k in range(count)))).count("fill-opacity") for count in (1, 2, 3)]
    assert bands == [1, 2, 0]
    assert "h6" in plot_svg(plot(*(line(f"n{k}") for k in range(3))))


def test_whiskers_of_equal_costs_stand_beside_each_other():
    svg = tree(plot_svg(plot(*(line(f"n{k}", (0.5,), (100,)) for k in range(4)))))
    places = [one.attrib["transform"] for one in svg.iter("path") if "transform" in one.attrib]
    assert len(set(places)) == 4


def test_a_point_without_an_interval_is_drawn():
    svg = plot_svg(plot(Line("a", (Point(1, 0.5), Point(2, 0.6)))))
    assert "nan" not in svg
    assert svg.count("translate") == 2


def test_many_lines_are_small_multiples():
    few = plot_figures([plot(*(line(f"n{k}") for k in range(8)))])
    assert few.count("<svg class=\"chart\"") == 1
    many = plot_figures([plot(*(line(f"n{k}") for k in range(9)))])
    assert many.count("<svg class=\"chart\"") == 9
    most = plot_figures([plot(*(line(f"n{k}") for k in range(MOST_PANELS + 5)))])
    assert most.count("<svg class=\"chart\"") == MOST_PANELS
    assert "5 more of these are left out" in most
    with pytest.raises(ValueError, match="expected at most 8 lines in a plot, got 9"):
        plot_svg(plot(*(line(f"n{k}") for k in range(9))))


def test_nothing_is_drawn_of_nothing():
    assert plot_figures([plot(Line("a", ()))]) == ""


def test_names_are_texts():
    evil = "</svg><script>alert(1)</script>"
    found = plot_figures([plot(line(evil), title=evil, x_name=evil, y_name=evil, level=(evil, 0.3))])
    assert "<script" not in found
    assert "</svg><" in found, "of our own"
    tree(plot_svg(plot(line(evil), title=evil, x_name=evil, y_name=evil)))


def test_parts_of_the_time_are_what_is_left_of_the_total_too():
    parts = parts_of({"encode": 1.0, "denoise": 5.0, "decode": 1.0, "verify": 2.0, "total": 10.0})
    assert parts == {"encode": 1.0, "denoise": 5.0, "decode": 1.0, "verify": 2.0, "other": 1.0}
    assert parts_of({"denoise": 5.0, "total": 4.9})["other"] == 0.0


def test_bars_of_the_time_are_on_one_scale():
    table = time_table([("a", {"denoise": 4.0, "total": 4.0}), ("<b>", {"denoise": 1.0, "verify": 1.0, "total": 2.0})])
    widths = [float(one) for one in re.findall(r'<rect x="[\d.]+%" width="([\d.]+)%"', table)]
    assert widths == [100.0, 25.0, 25.0]
    assert "&lt;b&gt;" in table
    assert "encode" not in re.sub(r"<svg.*?</svg>", "", table), "a phase that took no time has no column"
    assert time_table([]) == ""


def test_an_interval_is_on_the_scale_of_its_column():
    scale = interval_scale([0.0, 1.0, None, math.nan])
    at = [float(re.search(r'cx="([\d.]+)"', interval_bar(scale, one, one, one))[1]) for one in (0.0, 0.5, 1.0)]
    assert at[0] < at[1] < at[2]
    assert 'class="zero"' in interval_bar(scale, 0.5, 0.4, 0.6, zero=0.0)
    assert interval_bar(scale, None, None, None) == ""
