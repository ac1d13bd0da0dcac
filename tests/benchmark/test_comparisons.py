"""Comparisons of results that were made with known effects."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from benchmark.made import Results, failed_row, made_results, made_row, made_spec
from noisewright.benchmark.compared import COSTS, LEVEL, Difference
from noisewright.benchmark.comparisons import compared, differences
from noisewright.benchmark.verdicts import (
    over_optimised_sentence,
    sentence,
    told_apart,
    verdicts,
    warnings_of,
    with_interval,
)
from noisewright.measures.bootstrap import interval
from noisewright.measures.paired import holm, sign_flip

AXES = {"search": ["random", "zero-order"], "budget": ["8 images", "16 images"]}
EFFECTS = {
    "random": {"clip": 0.3, "oracle": 0.1},
    "zero-order": {"clip": 0.6, "oracle": -0.2},
    "16 images": {"clip": 0.2},
}


@pytest.fixture
def results(tmp_path):
    spec = made_spec(
        AXES, prompts=24, seeds=2, categories=["colour", "count", None], reference={"search": "random"}, across="budget"
    )
    return made_results(tmp_path, spec, EFFECTS, images={"16 images": 16})


def columns(results, score, **labels):
    """Best and baseline of a point by hand, and the prompts."""
    rows = [row for row in results.rows if row["coordinates"] == labels]
    best, baseline = ([row[which]["scores"][score] for row in rows] for which in ("best", "baseline"))
    return np.array(best), np.array(baseline), [row["number"] for row in rows]


def same(difference, values, groups, *, abs=1e-12):
    assert difference.mean == pytest.approx(values.mean())
    assert (difference.low, difference.high) == pytest.approx(interval(values, groups=groups), abs=abs)
    assert difference.p == pytest.approx(sign_flip(values[:, None], groups=groups)[0])


def test_a_point_is_what_its_rows_say(results):
    found = compared(results)
    assert [one.label for one in found.points] == [
        "random, 8 images", "random, 16 images", "zero-order, 8 images", "zero-order, 16 images",
    ]  # fmt: skip
    point = found.at(search="zero-order", budget="16 images")
    assert (point.number, point.done, point.compared, point.failed) == (3, 48, 48, 0)
    best, baseline, groups = columns(results, "oracle", search="zero-order", budget="16 images")
    of_random = columns(results, "oracle", search="random", budget="16 images")[0]
    oracle = point.scores["oracle"]
    assert (oracle.role, oracle.n, oracle.prompts, oracle.missing) == ("judge", 48, 24, 0)
    assert point.scores["clip"].role == "verifier"
    for shown, values in ((oracle.best, best), (oracle.baseline, baseline)):
        assert shown.mean == pytest.approx(values.mean())
        assert (shown.low, shown.high) == pytest.approx(interval(values, groups=groups), abs=1e-12)
    same(oracle.gain, best - baseline, groups)
    same(oracle.against, best - of_random, groups)
    assert oracle.gain.higher == np.mean(best > baseline)


def test_effects_are_found_and_stand(results):
    found = compared(results)
    assert found.deciding == "oracle"
    assert (found.scores, found.judges) == (("clip", "oracle"), ("oracle",))
    for point in found.points:
        for score in ("clip", "oracle"):
            effect = sum(EFFECTS.get(label, {}).get(score, 0) for label in point.labels.values())
            gain = point.scores[score].gain
            assert abs(gain.mean - effect) < gain.high - gain.low, "four standard errors"
            assert gain.stands
    assert found.points[0].reference is None
    assert found.points[2].reference == 0
    assert found.points[0].scores["oracle"].against is None


def test_p_are_adjusted_over_the_points_of_a_score(tmp_path):
    spec = made_spec({"search": [f"s{k}" for k in range(8)]}, prompts=15, reference={"search": "s0"})
    effects = {f"s{k}": {"oracle": 0.02 * k} for k in range(8)}
    found = compared(made_results(tmp_path, spec, effects))
    gains = [one.scores["oracle"].gain for one in found.points]
    assert [one.adjusted for one in gains] == pytest.approx(list(holm([one.p for one in gains])))
    assert {one.tests for one in gains} == {8}
    against = [one.scores["oracle"].against for one in found.points[1:]]
    assert [one.adjusted for one in against] == pytest.approx(list(holm([one.p for one in against])))
    assert {one.tests for one in against} == {7}
    assert [one.stands for one in gains] == [one.adjusted < LEVEL for one in gains]
    assert len({one.stands for one in gains}) == 2


def test_costs_and_phases(results):
    point = compared(results).at(search="random", budget="16 images")
    assert set(point.costs) == set(COSTS)
    assert point.costs["nfe"].best.mean == 160
    assert point.costs["seconds"].best.mean == pytest.approx(0.08 + 16 * 0.12)
    assert point.costs["nfe"].baseline is None
    assert point.costs["nfe"].gain is None
    assert point.phases["denoise"] == pytest.approx(1.6)
    assert point.phases["other"] == pytest.approx(0.02)
    assert sum(point.phases.values()) == pytest.approx(2 * point.phases["total"])
    assert point.stopped == {"budget": 48}


def test_only_cells_that_every_point_has_are_compared(results):
    """Of prompt 1 a point has no seed, of prompt 2 one seed failed, of prompt 3 one is not there yet."""
    rows = []
    for row in results.rows:
        last = row["coordinates"] == {"search": "zero-order", "budget": "16 images"}
        prompt = results.spec.prompts[row["number"] - 1]
        if last and (row["number"] == 1 or (row["number"] == 2 and row["repeat"] == 1)):
            rows.append(failed_row(row["coordinates"], prompt, row["repeat"], "out of memory"))
        elif not (last and row["number"] == 3 and row["repeat"] == 0):
            rows.append(row)
    found = compared(Results(results.root, results.spec, tuple(rows)))
    assert (found.prompts, found.prompts_left_out) == (23, 1)
    assert (found.pairs, found.pairs_left_out) == (44, 4)
    assert (found.cells, found.done, found.failed, found.waiting) == (192, 188, 3, 1)
    assert {one.compared for one in found.points} == {44}
    assert [one.failed for one in found.points] == [0, 0, 0, 3]
    assert found.points[0].scores["clip"].n == 44
    failure = found.failures[0]
    assert (failure.error, failure.cells, failure.points, failure.prompt) == ("out of memory", 3, (3,), "prompt 1")
    said = warnings_of(found)
    assert said[0] == "3 cells of 192 failed"
    assert said[1] == "1 cell of 192 not done yet"
    assert said[2].startswith("1 prompt left out")


def test_a_point_that_failed_altogether_leaves_the_others(results):
    rows = [
        failed_row(row["coordinates"], results.spec.prompts[row["number"] - 1], row["repeat"], "no such verifier")
        if row["coordinates"]["search"] == "random" else row
        for row in results.rows
    ]  # fmt: skip
    found = compared(Results(results.root, results.spec, tuple(rows)))
    assert found.pairs == 48
    assert (found.points[0].scores, found.points[0].costs) == ({}, {})
    assert found.points[2].scores["oracle"].n == 48
    assert found.points[2].reference is None, "its reference has no cell"
    assert [one.label for one in found.series("oracle")] == ["zero-order"]


def test_nothing_done_yet(results):
    found = compared(Results(results.root, results.spec, ()))
    assert (found.done, found.waiting, found.pairs, found.deciding) == (0, 192, 0, None)
    assert all(not one.scores for one in found.points)
    assert found.wall == ()
    assert found.over_optimised == ()
    assert verdicts(found) == ()


def test_what_has_no_number_is_left_out_and_counted(tmp_path):
    spec = made_spec({"search": ["random", "zero-order"]}, prompts=10, reference={"search": "random"})
    results = made_results(tmp_path, spec, EFFECTS)
    rows = list(results.rows)
    rows[1]["best"]["scores"]["oracle"] = None  # zero-order on prompt 1
    rows[2]["baseline"]["scores"]["oracle"] = float("nan")  # random on prompt 2
    found = compared(results)
    zero, random = found.points[1].scores["oracle"], found.points[0].scores["oracle"]
    assert (zero.n, zero.missing) == (9, 1)
    assert (zero.gain.n, zero.gain.missing) == (9, 1)
    assert (random.n, random.missing, random.gain.n, random.gain.missing) == (10, 0, 9, 1)
    assert (zero.against.n, zero.against.missing) == (9, 1)
    assert "1 pair without a number left out" in sentence(zero.against, "a", "b", "oracle")


def test_scores_that_only_some_points_have(tmp_path):
    """Two verifiers, each of which judges where the other is optimised, and one that is alone."""
    spec = made_spec({"verifier": ["clip", "reward"]}, prompts=6)
    rows = []
    for prompt in spec.prompts:
        for label, judge in (("clip", "reward"), ("reward", "clip")):
            scores = {"clip": 0.1 * prompt.number, "reward": 0.2, **({"own": 1.0} if label == "clip" else {})}
            rows.append(
                made_row({"verifier": label}, prompt, 0, scores, scores, verifiers=[label], judges=[judge])
            )  # fmt: skip
    found = compared(Results(tmp_path, spec, tuple(rows)))
    assert {name: one.role for name, one in found.points[0].scores.items()} == {
        "clip": "verifier", "reward": "judge", "own": "other",
    }  # fmt: skip
    assert set(found.points[1].scores) == {"clip", "reward"}
    assert found.scores == ("clip", "reward", "own")
    assert found.judges == ("clip", "reward")
    gain = found.points[0].scores["clip"].gain
    assert (gain.mean, gain.p, gain.stands, gain.higher) == (0, 1, False, 0.5)


def test_categories_are_their_own_prompts(results):
    found = compared(results)
    assert found.categories == ("colour", "count")
    point = found.points[2]
    best, baseline, groups = columns(results, "clip", search="zero-order", budget="8 images")
    some = [k for k, number in enumerate(groups) if number % 3 == 1]
    colour = point.categories["colour"]["clip"]
    assert (colour.n, colour.prompts) == (16, 8)
    assert colour.gain.mean == pytest.approx((best - baseline)[some].mean())
    low, high = interval((best - baseline)[some], groups=np.array(groups)[some])
    assert (colour.gain.low, colour.gain.high) == pytest.approx((low, high), abs=1e-12)


def test_one_prompt_is_compared_over_its_seeds(tmp_path):
    results = made_results(tmp_path, made_spec({"search": ["random"]}, prompts=1, seeds=9), EFFECTS)
    found = compared(results)
    gain = found.points[0].scores["clip"].gain
    assert found.over == "seeds"
    values = columns(results, "clip", search="random")
    assert (gain.low, gain.high) == pytest.approx(interval(values[0] - values[1]), abs=1e-12)
    assert gain.p == pytest.approx(2 / 2**9)
    assert "9 seeds of one prompt" in verdicts(found, "clip")[0]
    assert "not of other prompts" in warnings_of(found)[-1]


def test_one_cell_has_no_interval_and_no_test(tmp_path):
    found = compared(made_results(tmp_path, made_spec({"search": ["random"]}, prompts=1), EFFECTS))
    gain = found.points[0].scores["clip"].gain
    assert math.isfinite(gain.mean)
    assert math.isnan(gain.low)
    assert math.isnan(gain.p)
    assert not gain.stands
    assert "too few to say more" in verdicts(found)[0]
    assert warnings_of(found) == ("one prompt and seed only: no intervals and no tests",)
    assert [one.which for one in found.wall] in (["largest gain"], ["smallest gain"], ["smallest loss"])


def test_a_grid_without_axes_is_one_point(tmp_path):
    found = compared(made_results(tmp_path, made_spec({}, prompts=4)))
    assert [(one.label, one.labels, one.compared) for one in found.points] == [("all", {}, 4)]


def test_rows_of_another_grid_are_ignored_and_counted(results):
    other = made_row({"search": "paths", "budget": "8 images"}, results.spec.prompts[0], 0, {"clip": 1}, {"clip": 0})
    found = compared(replace(results, rows=(*results.rows, other)))
    assert found.ignored == 1
    assert found.points == compared(results).points
    assert "1 row of no point" in warnings_of(found)[-1]


def test_curves_are_drawn_along_the_axis(results):
    found = compared(results)
    assert [(one.label, one.points) for one in found.curves] == [("random", (0, 1)), ("zero-order", (2, 3))]
    lines = found.series("clip", x="seconds", gain=True)
    assert [one.label for one in lines] == ["random", "zero-order"]
    assert lines[0].x == pytest.approx((1.04, 2.0))
    gains = [found.points[k].scores["clip"].gain for k in (0, 1)]
    assert lines[0].y == tuple(one.mean for one in gains)
    assert (lines[0].low, lines[0].high) == (tuple(one.low for one in gains), tuple(one.high for one in gains))
    assert found.series("nothing") == ()
    with pytest.raises(ValueError, match="expected one of nfe, seconds"):
        found.series("clip", x="sconds")


def test_over_optimisation_is_marked(results):
    found = compared(results)
    by_curve = {one.curve: one for one in found.over_optimised}
    assert {one.verifier for one in found.over_optimised} == {"clip"}
    assert by_curve["random"].marked == ()
    assert [one.since for one in by_curve["zero-order"].points] == ["baseline", "baseline"]
    assert "clip rises (+" in over_optimised_sentence(by_curve["zero-order"], found)
    assert over_optimised_sentence(by_curve["random"], found) is None
    first = by_curve["zero-order"].points[0]
    baseline = columns(results, "oracle", search="zero-order", budget="8 images")[1]
    gain = found.points[2].scores["oracle"].gain
    assert first.judged.mean == pytest.approx(gain.mean / baseline.std(ddof=1))
    assert first.judged.low == pytest.approx(gain.low / baseline.std(ddof=1))


def test_a_fall_from_the_point_before_is_marked(tmp_path):
    """The judge rises at first and falls then, still above the baseline."""
    spec = made_spec({"budget": ["4 images", "8 images"]}, prompts=30, across="budget")
    effects = {"4 images": {"clip": 0.3, "oracle": 0.5}, "8 images": {"clip": 0.5, "oracle": 0.3}}
    found = compared(made_results(tmp_path, spec, effects))
    assert [one.since for one in found.over_optimised[0].points] == [None, "before"]
    assert "from the point before" in over_optimised_sentence(found.over_optimised[0], found)


def test_the_wall_shows_the_extremes_and_the_median(tmp_path):
    spec = made_spec({"search": ["random"]}, prompts=5)
    gains = [0.4, -0.3, 0.1, 0.0, 0.2]
    rows = [
        made_row({"search": "random"}, prompt, 0, {"clip": 1.0, "oracle": 0.5 + gain}, {"clip": 0.0, "oracle": 0.5})
        for prompt, gain in zip(spec.prompts, gains, strict=True)
    ]
    wall = compared(Results(tmp_path, spec, tuple(rows))).wall
    assert [(one.which, one.number) for one in wall] == [("largest gain", 1), ("median", 3), ("largest loss", 2)]
    assert wall[2].gain == pytest.approx(-0.3)
    assert (wall[0].score, wall[0].best, wall[0].run) == ("oracle", rows[0]["best"]["file"], rows[0]["run"])
    assert wall[0].baseline_scores == {"clip": 0.0, "oracle": 0.5}
    only_up = compared(Results(tmp_path, spec, (rows[0], rows[2]))).wall
    assert [(one.which, one.number) for one in only_up] == [("largest gain", 1), ("smallest gain", 3)]
    only_down = compared(Results(tmp_path, spec, (rows[1],))).wall
    assert [(one.which, one.number) for one in only_down] == [("smallest loss", 2)]
    assert [one.which for one in compared(Results(tmp_path, spec, (rows[3],))).wall] == ["no change"]


def test_the_wall_goes_by_the_verifier_where_there_is_no_judge(tmp_path):
    found = compared(made_results(tmp_path, made_spec({"search": ["random"]}, prompts=5), judges=()))
    assert found.deciding == "clip"
    assert {one.score for one in found.wall} == {"clip"}


def test_any_two_points(results):
    pairs = [
        ({"search": "zero-order", "budget": "8 images"}, {"search": "random", "budget": "16 images"}),
        ({"search": "zero-order", "budget": "16 images"}, {"search": "random", "budget": "16 images"}),
    ]
    found = differences(results, pairs, "clip")
    for one, (first, second) in zip(found, pairs, strict=True):
        best, _, groups = columns(results, "clip", **first)
        same(one, best - columns(results, "clip", **second)[0], groups)
    assert [one.adjusted for one in found] == pytest.approx(list(holm([one.p for one in found])))
    assert differences(results, pairs[:1], "nfe")[0].mean == -80
    assert differences(results, [], "clip") == ()
    with pytest.raises(ValueError, match="which 2 points have"):
        differences(results, [({"search": "random"}, pairs[0][1])], "clip")
    with pytest.raises(ValueError, match=r"unknown score 'clup'.*did you mean clip"):
        differences(results, pairs, "clup")


def difference(mean, low, high, **others):
    given = {"n": 40, "prompts": 40, "missing": 0, "higher": 0.7, "p": 0.004, "adjusted": 0.004, "tests": 1}
    given |= others
    return Difference(mean, low, high, **given, stands=given["adjusted"] < LEVEL)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (
            difference(0.031, 0.012, 0.05),
            "zero-order is better than random on shapes-oracle: +0.031 [+0.012, +0.050] over 40 prompts (p = 0.004)",
        ),
        (
            difference(-0.031, -0.05, -0.012, tests=6, n=80),
            "zero-order is worse than random on shapes-oracle: -0.031 [-0.050, -0.012] over 40 prompts (80 pairs)"
            " (p = 0.004 after Holm's correction over 6 comparisons)",
        ),
        (
            difference(0.031, -0.012, 0.05, p=0.2, adjusted=0.4, tests=2),
            "no difference is seen between zero-order and random on shapes-oracle: +0.031 [-0.012, +0.050] over 40"
            " prompts (p = 0.400 after Holm's correction over 2 comparisons)",
        ),
        (
            difference(0.031, 0.001, 0.05, p=0.03, adjusted=0.12, tests=4),
            "zero-order may be better than random on shapes-oracle, but it does not stand: +0.031 [+0.001, +0.050] over"
            " 40 prompts (p = 0.120 after Holm's correction over 4 comparisons)",
        ),
        (
            difference(0.031, 0.001, 0.05, p=0.06, adjusted=0.06),
            "zero-order may be better than random on shapes-oracle, but the test and the interval disagree: +0.031"
            " [+0.001, +0.050] over 40 prompts (p = 0.060)",
        ),
        (
            difference(math.nan, math.nan, math.nan, n=0, p=math.nan, adjusted=math.nan),
            "nothing can be said of zero-order against random by shapes-oracle: no prompt has a number of both",
        ),
    ],
)  # fmt: skip
def test_sentences(one, says):
    assert sentence(one, "zero-order", "random", "shapes-oracle") == says


def test_sentences_of_costs(results):
    said = verdicts(compared(results), costs=("nfe", "seconds"))
    assert "zero-order (8 images) and random take the same NFE over 24 prompts (48 pairs)" in said
    assert len(said) == 6
    one = sentence(difference(12, 10, 14), "a", "b", "seconds", unit="s")
    assert one == "a takes more seconds than b: +12.0 [+10.0, +14.0] s over 40 prompts (p = 0.004)"


def test_points_are_told_apart_by_what_differs(results):
    found = compared(results)
    assert told_apart(found, found.points[3], found.points[1]) == ("zero-order (16 images)", "random")
    assert told_apart(found, found.points[3], found.points[0]) == ("zero-order, 16 images", "random, 8 images")


def test_numbers_with_intervals():
    assert with_interval(0.5, math.nan, math.nan) == "+0.50"
    assert with_interval(0.5, 0.4, 0.6, signed=False) == "0.50 [0.40, 0.60]"


def test_ten_thousand_cells_take_little_memory(tmp_path):
    axes = {"search": [f"s{k}" for k in range(10)], "budget": [f"{k} images" for k in range(5)]}
    spec = made_spec(axes, prompts=200, reference={"search": "s0"}, across="budget")
    results = made_results(tmp_path, spec, {"s3": {"oracle": 0.2}})
    assert len(results.rows) == 10_000
    tracemalloc.start()
    try:
        found = compared(results)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.pairs == 200
    assert peak < 300 * 2**20
    standing = {one.labels["search"] for one in found.points if one.scores["oracle"].gain.stands}
    assert standing == {"s3"}
