"""Schedules from Python: measured, fitted, compared, on a tiny pipeline and on the exact mixture."""

import inspect
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import noisewright as nw
import tiny
from noisewright.samplers.mixture import SHAPE, MixtureSampler
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, read_schedule_file
from noisewright.trajectory.fit import METHODS, OF_METHODS, FitInterrupted
from noisewright.verifiers.pixels import Brightness

FEW = {"samples": 2, "evaluations": 3, "teacher_steps": 4}


@pytest.fixture
def sampler():
    return MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([0.5]))


@pytest.fixture(scope="module")
def pipe():
    return tiny.sd()


@pytest.fixture(scope="module")
def errors(pipe):
    return nw.measure_schedule_errors(pipe, levels=5, count=4, prompts="a cat")


@pytest.fixture
def unloaded(monkeypatch):
    """What is refused is refused before a model is loaded."""
    monkeypatch.setattr("noisewright.trajectory.model.load", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_each_method_fits_a_schedule_that_a_search_takes(method, pipe, errors, tmp_path):
    more = {
        "vrg": {"errors": errors, "start": "uniform"}, "gits": {"nodes": 6, "samples": 2, "prompts": ["a cat"]},
        "dmn": {}, "search": {**FEW, "start": "uniform", "prompts": ("a cat", "a dog")},
    }[method]  # fmt: skip
    made = nw.fit_schedule(pipe, steps=3, method=method, **more)
    assert isinstance(made, FittedSchedule)
    assert len(made.levels) == 3
    assert made.made["method"] == method
    assert made.figures
    file = made.save(tmp_path / "three.json")
    assert read_schedule_file(file).to_json() == json.loads(json.dumps(made.to_json()))
    assert f"{made.levels[1][1]:.5f}" in str(made)
    found = nw.search(pipe, "a cat", schedule=str(file), verifier="brightness", budget="1 images", pictures=False)
    assert found.nfe == 3


@pytest.mark.slow
def test_a_fitted_schedule_is_a_start_and_can_be_compared(pipe, errors):
    first = nw.fit_schedule(pipe, steps=3, method="dmn")
    second = nw.fit_schedule(pipe, steps=3, method="vrg", errors=errors, start=first)
    assert second.made["from"] == "a fitted schedule"
    found = nw.compare_schedules(
        pipe, ["uniform", first, second], metric=["teacher", Brightness()], samples=4, teacher_steps=5,
        prompts=["a cat"],
    )  # fmt: skip
    assert [row.name for row in found.rows] == ["uniform", "dmn", "vrg from a fitted schedule"]
    assert found.rows[0].metrics["teacher"].change is None
    held = found.rows[1].metrics["teacher"]
    assert held.interval[0] <= held.value <= held.interval[1]
    assert held.change == pytest.approx(held.value - found.rows[0].metrics["teacher"].value)
    rows = json.loads(json.dumps(found.to_json()))["schedules"]
    assert rows[1]["metrics"]["brightness"]["value"] == found.rows[1].metrics["brightness"].value
    assert "teacher (lower is better)" in str(found)
    named = nw.compare_schedules(pipe, {"mine": first, "plain": "uniform"}, samples=2, teacher_steps=5, prompts="a cat")
    assert [row.name for row in named.rows] == ["mine", "plain"]


@pytest.mark.slow
def test_the_picture_of_a_comparison_holds_every_point_and_name(pipe, tmp_path):
    names = ["uniform", "karras", "logsnr", "quadratic", "beta", "exponential"]
    found = nw.compare_schedules(
        pipe, names, metric=["teacher", "brightness"], steps=3, samples=2, teacher_steps=4, prompts="a cat"
    )
    figure = found.plot(tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    figure.canvas.draw()
    first, second = figure.axes
    assert [one.get_text() for one in first.get_yticklabels()] == names
    for axes, metric in ((first, "teacher"), (second, "brightness")):
        low, high = axes.get_xlim()
        for n, row in enumerate(found.rows):
            assert low < row.metrics[metric].interval[0] <= row.metrics[metric].interval[1] < high
            assert axes.get_ylim()[1] < n < axes.get_ylim()[0]
    boxes = [one.get_window_extent() for one in first.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    assert all(box.x0 >= 0 for box in boxes)


def test_a_function_is_a_metric_and_numbers_may_be_numpys(sampler):
    def red(images, prompt):
        return images[:, 0].mean((1, 2))

    made = nw.fit_schedule(
        sampler, steps=np.int64(3), method="search", metric=red, start="uniform", samples=np.int32(2),
        evaluations=3, seed=np.uint8(7), fixed_start=np.bool_(True),
    )  # fmt: skip
    assert made.figures["metric"] == "red"
    assert made.made["seed"] == 7
    assert type(made.made["samples"]) is int
    json.dumps(made.to_json())


@pytest.mark.slow
def test_own_samples_are_measured_and_written_down(pipe, tmp_path):
    table = nw.measure_schedule_errors(pipe, levels=5, count=4, prompts=["a cat", "a dog"], out=tmp_path / "e.json")
    assert table.images == 4
    assert table.source == "self"
    assert ErrorTable.load(tmp_path / "e.json") == table


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"method": "vgr"}, ValueError, "did you mean vrg"),
        ({"method": 3}, TypeError, "a method as a name, got 3"),
        ({"method": "vrg"}, ValueError, "expected errors with method vrg"),
        ({"method": "vrg", "errors": 3}, TypeError, "errors as a table or its file, got 3"),
        ({"method": "dmn", "start": "uniform"}, ValueError, "expected start with method vrg or search only"),
        ({"method": "gits", "gamma": 0.1}, ValueError, "expected gamma with method vrg only, got it with method gits"),
        ({"method": "search", "gamma": math.nan}, ValueError, "gamma in"),
        ({"method": "search", "steps": 2.5}, ValueError, "steps of at least 1, got 2.5"),
        ({"method": "search", "steps": "4"}, TypeError, "steps of at least 1, got '4'"),
        ({"method": "search", "steps": True}, ValueError, "steps of at least 1, got True"),
        ({"method": "search", "steps": 1}, ValueError, "at least 2 steps for search"),
        ({"method": "dmn", "steps": 201}, ValueError, "steps of at most 200 for dmn"),
        ({"method": "gits", "nodes": 4}, ValueError, "1 to 3 steps on a teacher of 4 nodes"),
        ({"method": "gits", "nodes": 10**9}, ValueError, "nodes of at most 1001"),
        ({"method": "gits", "prompts": ["x", 3.5]}, TypeError, "prompts as text"),
        ({"method": "gits", "prompts": {"x": 1}}, TypeError, "prompts as text"),
        ({"method": "gits", "prompts": "x" * 6000}, ValueError, "prompts of at most 5000 characters"),
        ({"method": "gits", "prompts": Path("none.txt")}, ValueError, "a file with a prompt a line"),
        ({"method": "search", "metric": "techer"}, ValueError, "did you mean teacher"),
        ({"method": "search", "metric": 3}, TypeError, "a verifier name"),
        ({"method": "search", "metric": ["teacher", "brightness"]}, ValueError, "expected one metric"),
        ({"method": "search", "metric": "fid"}, ValueError, "needs features and reference"),
        ({"method": "search", "start": "unifrom"}, ValueError, "did you mean uniform"),
        ({"method": "search", "start": 3}, TypeError, "a schedule as a name, a file"),
        ({"method": "search", "solver": "pipeline"}, ValueError, "custom levels"),
        ({"method": "search", "seed": -1}, ValueError, "a seed in"),
        ({"method": "search", "keep": 3}, TypeError, "keep as a directory"),
        ({"method": "search", "progress": 3}, TypeError, "progress as True, False, or a function"),
        ({"method": "search", "dtype": "int8"}, ValueError, "a dtype of float32"),
    ],
)
def test_wrong_arguments_of_fit_are_one_line(given, kind, words, unloaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words.replace("(", r"\(")) as caught:
        nw.fit_schedule(**{"steps": 4, **given})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({}, ValueError, "expected schedules to compare, got none"),
        ({"schedules": ["uniform"]}, ValueError, "expected steps with names of schedules alone"),
        ({"schedules": 3, "steps": 4}, TypeError, "schedules as a list"),
        ({"schedules": [3], "steps": 4}, TypeError, "a schedule as a name, a file"),
        ({"schedules": "uniform", "steps": 4, "metric": []}, ValueError, "expected a metric"),
        ({"schedules": "uniform", "steps": 4, "samples": 1}, ValueError, "samples of at least 2"),
        ({"schedules": "uniform", "steps": 4, "solver": "euler-a"}, ValueError, "unknown solver"),
        ({"schedules": "uniform", "steps": 4, "keep_ends": "yes"}, TypeError, "keep_ends as True or False"),
    ],
)
def test_wrong_arguments_of_compare_are_one_line(given, kind, words, unloaded):
    with pytest.raises(kind, match=words):
        nw.compare_schedules(**given)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"levels": 4}, ValueError, "levels of at least 5"),
        ({"count": 3}, ValueError, "at least 4 images at stride 2"),
        ({"images": "nowhere"}, ValueError, "got nowhere, which is not there"),
        ({"images": ["self", "x"]}, ValueError, "images self alone"),
        ({"images": 3}, TypeError, "images as a path"),
        ({"count": 10**9}, ValueError, "count of at most"),
        ({"stride": 0}, ValueError, "stride of at least 1"),
        ({"guidance_scale": math.inf}, ValueError, "a finite number as guidance_scale"),
    ],
)
def test_wrong_arguments_of_measure_are_one_line(given, kind, words, unloaded):
    with pytest.raises(kind, match=words):
        nw.measure_schedule_errors(**given)


def test_a_device_beside_a_pipeline_is_refused(pipe):
    with pytest.raises(ValueError, match="expected no device beside a pipeline that is loaded already"):
        nw.fit_schedule(pipe, steps=3, method="dmn", device="cpu")
    with pytest.raises(ValueError, match="expected a device that torch has here"):
        nw.fit_schedule(steps=3, method="dmn", device="cpuu")
    with pytest.raises(ValueError, match="expected prompts"):
        nw.compare_schedules(pipe, ["uniform"], steps=3)


def test_an_interrupted_search_has_its_best(sampler):
    def stop(progress):
        if progress.doing == "searching" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted, match="interrupted after 2 of 9 schedules") as caught:
        nw.fit_schedule(sampler, steps=3, method="search", start="uniform", **{**FEW, "evaluations": 9}, progress=stop)
    assert caught.value.best.figures["interrupted"] is True
    assert caught.value.best.schedule.steps == 3


def reports_of(call, *given, **more):
    seen = []
    call(*given, progress=seen.append, **more)
    return seen


@pytest.mark.slow
def test_every_method_counts_and_says_the_time_that_is_left(sampler, pipe, errors):
    fits = {
        "vrg": {"errors": errors, "start": "uniform"}, "gits": {"nodes": 6, "samples": 4, "prompts": "a cat"},
        "dmn": {}, "search": {**FEW, "samples": 4, "batch_size": 2, "start": "uniform", "prompts": "a cat"},
    }  # fmt: skip
    for method, more in fits.items():
        seen = reports_of(nw.fit_schedule, pipe, steps=5, method=method, **more)
        assert [one.seconds_left for one in seen[:1]] == [None], method
        assert all(one.seconds_left >= 0 for one in seen[2:]), method
        assert seen[-1].done == seen[-1].total or method == "dmn", method
        assert 0 <= seen[0].share <= seen[-1].share <= 1, method
    assert {one.doing for one in seen} == {"making many-step images", "searching", "reporting"}
    assert "best" in next(one.note for one in seen if one.doing == "searching" and one.done == 1)
    left = [one.seconds_left for one in seen]
    assert left[-1] == pytest.approx(0, abs=1e-6)
    seen = reports_of(nw.measure_schedule_errors, pipe, levels=5, count=6, batch_size=2, prompts="a cat")
    assert [one.done for one in seen][-1] == 6
    assert seen[-1].seconds_left == pytest.approx(0, abs=1e-6)
    few = {"steps": 3, "samples": 2, "teacher_steps": 4}
    seen = reports_of(nw.compare_schedules, pipe, ["uniform", "karras"], **few, prompts="x")
    assert (seen[-1].done, seen[-1].total, seen[-1].note) == (2, 2, "karras")


def test_what_was_kept_says_nothing_of_the_pace(sampler, tmp_path):
    given = {**FEW, "steps": 3, "method": "search", "start": "uniform", "keep": tmp_path}
    first = nw.fit_schedule(sampler, **given)
    seen = []
    again = nw.fit_schedule(sampler, **given, progress=seen.append)
    assert again.figures == first.figures
    assert all(one.seconds_left is None for one in seen)


def test_the_command_line_has_the_arguments_and_the_defaults_of_python():
    from noisewright.cli.schedule.compare import compare
    from noisewright.cli.schedule.fit import fit
    from noisewright.cli.schedule.measure import measure

    pairs = ((fit, nw.fit_schedule), (compare, nw.compare_schedules), (measure, nw.measure_schedule_errors))
    for command, function in pairs:
        typed = inspect.signature(command).parameters
        called = inspect.signature(function).parameters
        assert set(typed) - {"ctx", "prompt", "json", "plot", "out"} == set(called) - {"progress", "out"}
        for name, one in called.items():
            default = OF_METHODS[name][1] if function is nw.fit_schedule and name in OF_METHODS else one.default
            if name not in ("keep", "out", "progress", "images", "schedules", "model", "steps", "method"):
                assert typed[name].default == default, (command.__name__, name)
