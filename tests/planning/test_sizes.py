"""Which batch size a run has: asked for, kept, found by a trial, or recorded."""

import logging
from dataclasses import replace

import pytest

import noisewright as nw
from noisewright.checking import check
from noisewright.outside import busy
from noisewright.planning import plan_on, recordable, sizes
from noisewright.planning.sizes import default_batch_size, key_of_size, size_of
from noisewright.registry import make_sampler
from noisewright.run.reading import read_journal, read_run
from noisewright.samplers import speeds
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.speeds import Speed, steps_of_trial

PROMPT = "two red circles"
GIVEN = {"verifier": "brightness", "num_inference_steps": 2, "progress": False, "pictures": False}


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(busy, "others", lambda: 0.0)
    speeds.CACHE.forget()
    yield
    speeds.CACHE.forget()


@pytest.fixture
def trials(monkeypatch):
    """Trials made, of which each finds that batches of 4 are fastest."""
    made = []

    def fastest(sampler, first, *, most, seconds):
        made.append((first, seconds))
        return Speed("4", {"4": 0.1, "16": 0.2})

    monkeypatch.setattr(sizes, "fastest_size", fastest)
    return made


def sampler_of(pipe):
    return make_sampler(pipe, PROMPT, {"num_inference_steps": 2})


def batches(run):
    return [len(line["ids"]) for line in read_journal(run) if line["verb"] == "finish"]


def recorded_with(request, pipe):
    return recordable(request, pipe=pipe)[0], pipe


def planned(pipe, budget, **more):
    return nw.plan(nw.Request(prompt=PROMPT, verifier="brightness", num_inference_steps=2, budget=budget, **more),
                   pipe=pipe)  # fmt: skip


def test_a_size_is_asked_for_or_kept_or_guessed(pipe):
    sampler = sampler_of(pipe)
    key = key_of_size(sampler)
    assert size_of(sampler, None, key) == (default_batch_size(sampler), None)
    speeds.CACHE.keep(key, Speed("4", {"4": 0.1, "8": 0.2}))
    size, why = size_of(sampler, None, key)
    assert (size, why.setting, why.choice, why.seconds) == (4, "batch_size", "4", {"4": 0.1, "8": 0.2})
    assert size_of(sampler, 3, key) == (3, None)
    assert size_of(sampler, None, None) == (default_batch_size(sampler), None)
    speeds.CACHE.keep(key, Speed("bfloat16"))  # a damaged file could say so
    assert size_of(sampler, None, key) == (default_batch_size(sampler), None)


def test_what_is_kept_is_of_one_pipeline_precision_and_machine(pipe, monkeypatch):
    sampler = sampler_of(pipe)
    keys = {key_of_size(one) for one in (sampler, sampler, make_sampler(pipe, "x", {"num_inference_steps": 2}))}
    assert len(keys) == 1
    keys.add(key_of_size(make_sampler(pipe, PROMPT, {"num_inference_steps": 2, "height": 16, "width": 16})))
    monkeypatch.setattr(sizes, "machine", lambda device: {"processor": "another"})
    keys.add(key_of_size(sampler))
    assert len(keys) == 3
    assert key_of_size(MixtureSampler()) is None


def test_one_image_at_a_time_leaves_nothing_open(pipe, trials):
    sampler = sampler_of(pipe)
    sampler.most_at_once = 1
    key = key_of_size(sampler)
    speeds.CACHE.keep(key, Speed("4", {"4": 0.1, "8": 0.2}))
    assert size_of(sampler, None, key) == (1, None)
    assert sizes.fastest_for(replace(planned(pipe, "5600 nfe"), sampler=sampler, size_key=key)) is None
    assert trials == []


def test_a_long_run_begins_with_a_trial_which_is_said_recorded_and_kept(pipe, trials, tmp_path, caplog):
    # a trial of 16 takes 168 steps: 3 % of 5600
    caplog.set_level(logging.INFO, "noisewright")
    result = nw.search(pipe, PROMPT, **GIVEN, budget=["5600 nfe", "0.01 s"], out=tmp_path / "run")
    assert len(trials) == 1
    said = "batch_size 4: the fastest by {} (a step for an image: 4 100 ms, 16 200 ms)"
    assert [one.getMessage() for one in caplog.records] == [said.format("a trial")]
    held = read_run(result.run)
    assert held["spec"]["batch_size"] == 4
    assert held["decided"] == {
        "batch_size": {"choice": "4", "why": "the fastest by a trial", "seconds": {"4": 0.1, "16": 0.2}}
    }
    assert planned(pipe, "6 images").batch_size == 4
    caplog.clear()
    again = nw.search(pipe, PROMPT, **GIVEN, budget=["5600 nfe", "0.01 s"])
    assert len(trials) == 1
    assert [one.getMessage() for one in caplog.records] == [said.format("an earlier trial here")]
    assert read_run(again.run)["decided"]["batch_size"]["choice"] == "4"


def test_a_size_that_is_asked_for_or_guessed_is_nothing_that_was_decided(pipe, trials, caplog):
    caplog.set_level(logging.INFO, "noisewright")
    for more in ({}, {"batch_size": 2}):
        assert "decided" not in read_run(nw.search(pipe, PROMPT, **GIVEN, budget="2 images", **more).run)
    assert caplog.records == []


def test_grids_look_at_no_trial(pipe, trials):
    request = nw.Request(prompt=PROMPT, verifier="brightness", num_inference_steps=2, budget="5600 nfe")
    speeds.CACHE.keep(key_of_size(sampler_of(pipe)), Speed("4", {"4": 0.1, "8": 0.2}))
    plan = plan_on(*recorded_with(request, pipe), tuned=False)
    assert (plan.batch_size, plan.decided, sizes.fastest_for(plan)) == (16, (), None)
    assert trials == []


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        ("16 images", None), ("5599 nfe", None), ("59 s", None), (["1000000 nfe", "16 images"], None),
        ("5600 nfe", float("inf")), ("2800 images", float("inf")), ("60 s", 1.8), (["5600 nfe", "20 s"], 0.6),
    ],
)  # fmt: skip
def test_a_trial_costs_little_beside_its_run(pipe, trials, budget, seconds):
    plan = planned(pipe, budget)
    assert steps_of_trial(plan.batch_size) == 168
    found = sizes.fastest_for(plan)
    assert (None if found is None else found.choice) == (None if seconds is None else "4")
    assert trials == ([] if seconds is None else [(16, pytest.approx(seconds))])


def test_beside_other_work_no_trial_is_made(pipe, trials, monkeypatch):
    monkeypatch.setattr(busy, "others", lambda: 64.0)
    assert sizes.fastest_for(planned(pipe, "5600 nfe")) is None
    assert trials == []


def test_a_trial_that_fails_changes_nothing(pipe, monkeypatch):
    def fails(sampler, first, *, most, seconds):
        raise RuntimeError("no")

    monkeypatch.setattr(sizes, "fastest_size", fails)
    assert sizes.fastest_for(planned(pipe, "5600 nfe")) is None


def test_a_run_goes_on_with_the_size_that_it_was_begun_with(pipe, trials, tmp_path):
    key = key_of_size(sampler_of(pipe))
    speeds.CACHE.keep(key, Speed("2", {"2": 0.1, "4": 0.2}))
    run = nw.search(pipe, PROMPT, **GIVEN, budget="4 images", out=tmp_path / "run").run
    speeds.CACHE.keep(key, Speed("8", {"4": 0.2, "8": 0.1}))  # another day something else is found
    nw.resume(run, pipe, budget="8 images", progress=False, pictures=False)
    nw.search(pipe, PROMPT, **GIVEN, budget="12 images", out=run)
    assert batches(run) == [2] * 6
    assert read_run(run)["decided"]["batch_size"]["choice"] == "2"
    assert read_run(run)["request"]["batch_size"] is None
    nw.search(pipe, PROMPT, **GIVEN, budget="16 images", out=run, batch_size=4)  # unless it is asked for
    assert batches(run) == [2] * 6 + [4]
    nw.search(pipe, PROMPT, **GIVEN, budget="20 images", out=run)
    assert (batches(run)[-1], read_run(run)["spec"]["batch_size"]) == (4, 4)
    assert trials == []


def test_a_check_of_a_model_keeps_what_it_measured(pipe):
    found = check(pipe, PROMPT, num_inference_steps=2, seconds=0.5)
    best = found.measured["speed"]["fastest_batch"]
    assert speeds.CACHE.get(key_of_size(sampler_of(pipe))).choice == str(best)
    assert planned(pipe, "16 images").batch_size == best


def test_a_check_beside_other_work_keeps_nothing(pipe, monkeypatch):
    monkeypatch.setattr(busy, "others", lambda: 64.0)
    check(pipe, PROMPT, num_inference_steps=2, seconds=0.5)
    assert speeds.CACHE.get(key_of_size(sampler_of(pipe))) is None
