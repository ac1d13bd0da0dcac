import math

import numpy as np
import pytest
from PIL import Image

from noisewright.evaluate import report
from noisewright.run.particle import Candidate, noise_particle
from noisewright.run.ranking import CurvePoint, Ranking

CLIP = Ranking(("clip",))


def candidates(root, count, size=(64, 64), names=("clip",)):
    found = []
    for number in range(count):
        array = np.full((size[1], size[0], 3), number * 3 % 256, np.uint8)
        Image.fromarray(array).save(root / f"{number}.png")
        scores = {name: float(number) for name in names}
        found.append(Candidate(noise_particle(number, 10), number, scores, f"{number}.png", ""))
    return found


def in_order(made):
    """Candidates in the order given, with a value each."""
    return [(one, one.scores["clip"]) for one in made]


def colours(image):
    return {colour for _, colour in image.getcolors(image.width * image.height)}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("count", [1, 2, 9, 70])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (1024, 512), (20, 700)])
def test_contact_sheet_of_any_size(tmp_path, count, size):
    sheet = report.contact_sheet(tmp_path, in_order(candidates(tmp_path, count, size)), CLIP)
    columns = min(report.MOST_COLUMNS, math.ceil(math.sqrt(min(count, report.MOST_TILES))))
    assert sheet.mode == "RGB"
    assert sheet.width <= columns * (report.TILE + report.GAP) + 2 * report.MARGIN
    assert sheet.width >= report.TILE * 2 // 3


def test_contact_sheet_shows_the_tiles_in_order(tmp_path):
    sheet = report.contact_sheet(tmp_path, in_order(candidates(tmp_path, 4)), CLIP)
    middle = report.MARGIN + report.TILE // 2
    assert sheet.getpixel((middle, middle)) == (0, 0, 0)
    assert sheet.getpixel((middle + report.TILE + report.GAP, middle)) == (3, 3, 3)


def test_contact_sheet_survives_a_lost_image_and_a_missing_score(tmp_path):
    made = candidates(tmp_path, 3)
    (tmp_path / "1.png").unlink()
    unscored = Candidate(made[2].particle, 2, {"clip": math.nan}, "2.png", "")
    report.contact_sheet(tmp_path, in_order([*made[:2], unscored]), CLIP)


def test_contact_sheet_without_candidates_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        report.contact_sheet(tmp_path, [], CLIP)


def rgb(text):
    return tuple(int(text[n : n + 2], 16) for n in (1, 3, 5))


@pytest.mark.parametrize("place", [0, 2, 69])
def test_contact_sheet_marks_the_baseline_wherever_it_stands(tmp_path, place):
    made = candidates(tmp_path, 70, (16, 16))
    plain = report.contact_sheet(tmp_path, in_order(made), CLIP)
    marked = report.contact_sheet(tmp_path, in_order(made), CLIP, baseline=made[place].id)
    assert rgb(report.BASE) not in colours(plain)
    assert rgb(report.ACCENT) in colours(marked)
    if place:  # the best keeps its own colour where it is both
        assert rgb(report.BASE) in colours(marked)
    assert marked.height >= plain.height


def test_contact_sheet_shows_judges_and_the_value_of_an_ensemble(tmp_path):
    names = ("clip", "aesthetic")
    made = candidates(tmp_path, 4, names=names)
    plain = report.contact_sheet(tmp_path, in_order(made), CLIP)
    several = report.contact_sheet(tmp_path, in_order(made), Ranking(names))
    assert several.height == plain.height + 2 * 2 * report.LINE  # the value and a verifier more, in two rows
    judged = report.contact_sheet(tmp_path, in_order(made), Ranking(names), judged={made[0].id: {"oracle": 1.0}})
    assert judged.height == several.height + report.LINE  # in its own row alone


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


@pytest.mark.sampled(3)
@pytest.mark.parametrize("values", [[], [1.0], [-math.inf, 0.2, 0.2, 0.9], [-math.inf]])
@pytest.mark.parametrize("names", [("clip",), ("clip", "aesthetic")])
def test_curve_of_anything(tmp_path, values, names):
    figure = report.plot_curve(points(values), names, tmp_path / "curve.png", value_name="mean rank")
    with Image.open(tmp_path / "curve.png") as image:
        assert min(image.size) > 300
    left = figure.axes[0]
    assert left.get_xlabel() == "images"
    assert ("clip" if len(names) == 1 else "mean rank, 0 to 1") in left.get_ylabel()


def test_the_title_of_an_ensemble_stands_above_its_legend(tmp_path):
    names = [f"a-verifier-with-a-long-name:of-an-organisation/and-a-model-{n}" for n in range(3)]
    figure = report.plot_curve(points([0.1, 0.5]), names, tmp_path / "curve.png", value_name="z-sum")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    renderer = figure.canvas.get_renderer()
    box, axes = legend.get_window_extent(renderer), figure.axes[0].get_window_extent(renderer)
    for text in figure.texts:
        assert not text.get_window_extent(renderer).overlaps(box)
        assert text.get_window_extent(renderer).x1 <= figure.bbox.x1
    assert box.y0 >= axes.y1


def in_time(times):
    return [CurvePoint(n + 1, n + 1, seconds, float(n), "x") for n, seconds in enumerate(times)]


def test_seconds_are_drawn_where_they_tell_something():
    assert len(report.plot_curve(in_time([2.0, 2.0, 2.0]), ["clip"]).axes) == 1  # one micro-batch: a vertical line
    assert len(report.plot_curve(in_time([2.0, 2.0, 4.0]), ["clip"]).axes) == 2


def test_the_dashed_line_is_what_it_says():
    def labels(**more):
        return report.plot_curve(points([0.1, 0.5]), ["clip"], **more).axes[0].get_legend_handles_labels()[1]

    assert labels(baseline=0.1) == ["baseline", "best so far"]
    assert labels() == ["first candidate", "best so far"]
    assert labels(baseline=math.nan) == ["first candidate", "best so far"]


def test_curve_leaves_no_global_figure():
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    report.plot_curve(points([1.0, 2.0]), ["clip"])
    assert plt.get_fignums() == before


def test_captions_say_which_score_is_a_judges():
    below = report.captions({"clip": 30.125, "oracle": 0.5}, {"clip": 31.5, "oracle": 1.0}, judges={"oracle"})
    assert below == ("baseline\nclip 30.12\noracle (judge) 0.500", "best\nclip 31.50\noracle (judge) 1.000")


def test_before_after(tmp_path):
    Image.new("RGB", (64, 64), "black").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "b.png")
    made = report.before_after(tmp_path / "a.png", tmp_path / "b.png", prompt="two red circles " * 20, side=256)
    assert {(0, 0, 0), (255, 0, 0), (255, 255, 255)} <= colours(made)
    assert made.width > 2 * 256
