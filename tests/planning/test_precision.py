"""``dtype="auto"``: which type is used, that it is recorded, and that nobody tries again."""

import json

import pytest

import noisewright as nw
from noisewright.planning import precision
from noisewright.planning.precision import loaded_fastest
from noisewright.replay import replay
from noisewright.request import Request
from noisewright.run.reading import read_run
from noisewright.samplers import json_cache, machine, speeds

PROMPT = "two red circles"
GIVEN = {"verifier": "brightness", "num_inference_steps": 2, "budget": "2 images", "progress": False, "pictures": False}


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "flags", lambda: frozenset({"avx512_bf16"}))
    speeds.CACHE.forget()
    yield
    speeds.CACHE.forget()


@pytest.fixture
def trials(monkeypatch):
    """The clock of trials: seconds by type, to be set; and how many trials were made."""
    found = {"float32": 1.0, "bfloat16": 0.5, "made": 0}

    def in_turns(timers, size):
        for timed in timers.values():  # both can be called
            timed()
        found["made"] += 1
        if found["bfloat16"] is None:
            raise RuntimeError("no such thing in bfloat16")
        return {name: found[name] for name in timers}

    monkeypatch.setattr(precision, "in_turns", in_turns)
    return found


def dtype_of(pipe):
    return str(pipe.dtype).removeprefix("torch.")


@pytest.mark.parametrize(("half", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_the_faster_type_is_used_where_it_gains_enough_and_is_found_once(model, trials, half, chosen):
    trials["bfloat16"] = half
    assert dtype_of(nw.load(model, dtype="auto")) == chosen
    speeds.CACHE.forget()  # as another process
    trials["bfloat16"] = 2.5 - half
    assert dtype_of(nw.load(model, dtype="auto")) == chosen
    assert trials["made"] == 1


def test_another_size_or_another_machine_is_another_trial(model, trials, monkeypatch):
    request = Request(model=model, prompt=PROMPT, dtype="auto")
    keys = {json_cache.key_of(precision.depends_on(one)) for one in (
        request, request.changed(height=16, width=16), request.changed(channels_last=True), request.changed(prompt="x"),
    )}  # fmt: skip
    assert len(keys) == 3  # what is shown does not matter
    monkeypatch.setattr(precision, "machine", lambda device: {"processor": "another"})
    assert json_cache.key_of(precision.depends_on(request)) not in keys


def test_a_processor_without_such_instructions_stays_with_float32(model, trials, monkeypatch):
    monkeypatch.setattr(machine, "flags", lambda: frozenset({"avx2"}))
    assert dtype_of(nw.load(model, dtype="auto")) == "float32"
    assert trials["made"] == 0


def test_elsewhere_than_on_a_cpu_it_is_the_type_by_default(trials):
    asked = []
    loaded_fastest(Request(model="a/b", prompt=PROMPT, device="meta", dtype="auto"), asked.append)
    assert asked == [None]


def test_large_networks_are_not_held_in_both_types(model, trials, monkeypatch):
    monkeypatch.setattr(precision, "TOGETHER_BYTES", 0)
    times = iter([1.0, 1.0, 3.0])  # of one image, of as many as are tried, in bfloat16
    monkeypatch.setattr(precision, "seconds_each", lambda sampler, size: next(times))
    asked, load = [], precision.registry.load_model

    def loaded(name, **how):
        asked.append(how["dtype"])
        return load(name, **how)

    monkeypatch.setattr(precision.registry, "load_model", loaded)
    assert dtype_of(nw.load(model, dtype="auto")) == "float32"
    assert asked == ["float32", "bfloat16", "float32"]
    assert trials["made"] == 0


def test_where_no_trial_can_be_made_it_is_float32_and_nothing_is_kept(model, trials, monkeypatch):
    def broken(sampler, size):
        raise RuntimeError("no such thing in bfloat16")

    monkeypatch.setattr(precision, "timer", broken)
    assert dtype_of(nw.load(model, dtype="auto")) == "float32"
    assert not (speeds.CACHE.file("x").parent).exists()


@pytest.fixture
def run(model, trials, tmp_path):
    nw.search(str(model), PROMPT, **GIVEN, dtype="auto", out=tmp_path / "run")
    assert trials["made"] == 1
    return tmp_path / "run"


def test_a_run_records_the_type_and_goes_on_with_it(model, run, trials):
    held = read_run(run)
    assert held["decided"]["dtype"] == {
        "choice": "bfloat16", "why": "faster than float32 with AVX512-BF16, by a trial here",
        "seconds": {"float32": 1.0, "bfloat16": 0.5},
    }  # fmt: skip
    assert (held["request"]["dtype"], held["spec"]["sampler"]["dtype"]) == ("bfloat16", "bfloat16")
    speeds.CACHE.file("x").parent.rename(run.parent / "gone")
    speeds.CACHE.forget()
    trials["bfloat16"] = 2.0  # a trial would choose the other
    for result in (
        nw.resume(run, budget="3 images", progress=False, pictures=False),
        nw.search(str(model), PROMPT, **{**GIVEN, "budget": "4 images"}, dtype="auto", out=run),
    ):
        assert result.run == run
    assert len(result.candidates) == 4
    assert read_run(run)["request"]["dtype"] == "bfloat16"
    assert read_run(run)["decided"] == held["decided"]
    assert trials["made"] == 1


def test_replay_takes_the_recorded_type(run, trials):
    found = replay(run / "best.png")
    assert found.identical
    assert trials["made"] == 1
    with pytest.raises(ValueError, match="a dtype of float32"):
        replay(run / "best.png", dtype="auto")


def test_many_prompts_record_it_and_are_found_again(model, trials, tmp_path):
    made = [list(nw.search_many(str(model), ["a", "b"], out=tmp_path / "many", dtype="auto", **GIVEN)) for _ in "12"]
    assert [[one.status for one in some] for some in made] == [["done", "done"], ["found", "found"]]
    assert json.loads((made[0][0].run / "run.json").read_text())["request"]["dtype"] == "bfloat16"


def test_beside_a_pipeline_that_is_loaded_nothing_is_open(pipe):
    with pytest.raises(ValueError, match="expected no dtype beside a pipeline that is loaded already, got 'auto'"):
        nw.search(pipe, PROMPT, **GIVEN, dtype="auto")


def test_many_prompts_go_on_with_the_type_of_the_first_that_was_begun(model, trials, tmp_path):
    first = list(nw.search_many(str(model), ["a"], out=tmp_path / "many", dtype="auto", **GIVEN))
    assert read_run(first[0].run)["decided"]["dtype"]["choice"] == "bfloat16"
    speeds.CACHE.file("x").parent.rename(tmp_path / "gone")
    speeds.CACHE.forget()
    trials["bfloat16"] = 2.0  # a trial would choose the other
    again = list(nw.search_many(str(model), ["a", "b"], out=tmp_path / "many", dtype="auto", **GIVEN))
    assert [one.status for one in again] == ["found", "done"]
    assert read_run(again[1].run)["request"]["dtype"] == "bfloat16"
    assert trials["made"] == 1


@pytest.mark.parametrize(
    ("flags", "half", "why"),
    [
        ({"avx2"}, 0.5, "no bfloat16 instructions are known of this processor"),
        ({"amx_bf16"}, 1.5, "bfloat16 is not faster, or by little, with AMX, by a trial here"),
        ({"amx_bf16"}, None, "no trial of bfloat16 could be made"),
    ],
)
def test_why_it_is_float32_is_said(model, trials, monkeypatch, caplog, tmp_path, flags, half, why):
    caplog.set_level("INFO", "noisewright")
    monkeypatch.setattr(machine, "flags", lambda: frozenset(flags))
    trials["bfloat16"] = half  # None: the trial fails
    result = nw.search(str(model), PROMPT, **GIVEN, dtype="auto", out=tmp_path / "run")
    decided = read_run(result.run)["decided"]["dtype"]
    assert (decided["choice"], decided["why"]) == ("float32", why)
    assert caplog.records[0].getMessage().startswith(f"dtype float32: {why}")


def test_a_type_that_is_asked_for_is_no_matter_of_trials(model, trials, tmp_path):
    run = nw.search(str(model), PROMPT, **GIVEN, dtype="float32", out=tmp_path / "run").run
    assert "decided" not in read_run(run)
    assert trials["made"] == 0


def test_a_kept_choice_that_is_no_type_is_none(model, trials):
    request = Request(model=model, prompt=PROMPT, dtype="auto").located()
    key = json_cache.key_of(precision.depends_on(request))
    speeds.CACHE.keep(key, speeds.Speed("8", {"8": 0.1}))
    pipe = nw.load(model, dtype="auto")
    assert (dtype_of(pipe), trials["made"]) == ("bfloat16", 1)
