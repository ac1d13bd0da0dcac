"""What a plan makes of a verdict: warnings, refusals, and samplers that obey it."""

import json

import pytest
import torch
from diffusers import DDIMScheduler
from torch.nn.modules.module import register_module_forward_hook

import misbehaving
import noisewright as nw
import tiny
from noisewright.errors import UnsupportedPipeline
from noisewright.run.reading import read_run
from noisewright.samplers import verdicts
from noisewright.samplers.optional import can_split

PROMPT = "two red circles"
GIVEN = {"verifier": "brightness", "num_inference_steps": 4, "budget": "3 images", "progress": False,
         "pictures": False}  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    verdicts.CACHE.forget()
    yield
    verdicts.CACHE.forget()


HOOKS = []


@pytest.fixture(autouse=True)
def _no_hooks_left():
    yield
    while HOOKS:
        HOOKS.pop().remove()


def passes(pipe):
    """The rows of each pass of the network from now on; no hook of its own, which would make it another pipeline."""
    counted = []

    def count(module, given, output):
        if module is pipe.unet:
            counted.append(len(output[0]))

    HOOKS.append(register_module_forward_hook(count))
    return counted


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def search(pipe, **more):
    return nw.search(pipe, PROMPT, **{**GIVEN, **more})


def test_a_pipeline_is_checked_once_and_not_on_its_bill(tmp_path):
    pipe = quiet(tiny.sd())
    counted = passes(pipe)
    first = search(pipe, out=tmp_path / "run")
    assert first.forwards == 24
    assert sum(counted) == 24 + 24  # the check, and the run
    assert first.warnings == ()
    counted.clear()
    assert search(pipe).forwards == sum(counted) == 24
    held = read_run(tmp_path / "run")
    assert held["checked"]["verdict"]["split"]
    assert not held["request"]["no_check"]


def test_no_check_is_recorded_and_said(tmp_path):
    pipe = quiet(tiny.sd())
    counted = passes(pipe)
    found = search(pipe, no_check=True, out=tmp_path / "run")
    assert sum(counted) == 24
    assert any("no_check" in text for text in found.warnings)
    held = read_run(tmp_path / "run")
    assert held["request"]["no_check"]
    assert "checked" not in held


def test_resume_believes_what_the_run_has_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(DDIMScheduler, "step", misbehaving.other_step)
    pipe = quiet(tiny.sd())
    search(pipe, out=tmp_path / "run")
    verdicts.CACHE.forget()
    for file in (tmp_path / "cache" / "noisewright" / "verdicts").iterdir():
        file.unlink()
    counted = passes(pipe)
    again = nw.resume(tmp_path / "run", pipe, budget="4 images", progress=False, pictures=False)
    assert again.images == 4
    assert sum(counted) == 8
    assert not list((tmp_path / "cache" / "noisewright" / "verdicts").iterdir())  # a run is no proof for others


@pytest.mark.parametrize("kind", [misbehaving.DrawsGlobally, misbehaving.Forgets])
def test_what_is_refused_leaves_nothing_behind(kind, tmp_path):
    with pytest.raises(UnsupportedPipeline, match=r"one seed|whole process") as found:
        search(misbehaving.made(kind), out=tmp_path / "run")
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_pipeline_that_is_not_split_takes_searches_that_leave_states_alone():
    pipe = misbehaving.made(misbehaving.Remembers)
    found = search(pipe)
    assert any("start to end only" in text for text in found.warnings)
    for name in ("paths", "evolution", "fk", "halving"):
        with pytest.raises(UnsupportedPipeline, match="random, zero-order, refine, gradient") as refused:
            search(pipe, search=name, num_inference_steps=8)
        assert name in str(refused.value)


def plan(pipe, **more):
    given = {name: value for name, value in GIVEN.items() if name not in ("progress", "pictures")}
    return nw.plan(nw.Request(prompt=PROMPT, **{**given, **more}), pipe=pipe)


def test_a_pipeline_that_leaks_in_the_batch_makes_one_image_at_a_time():
    pipe = misbehaving.made(misbehaving.LeaksInTheBatch)
    made = plan(pipe, batch_size=8)
    assert made.batch_size == made.spec["batch_size"] == 1
    assert any("one image at a time" in text for text in made.warnings)
    found = search(pipe)
    generator = torch.Generator("cpu").manual_seed(0)
    alone = pipe(PROMPT, num_inference_steps=4, generator=generator).images[0]
    assert list(found.baseline.image.getdata()) == list(alone.getdata())


def test_a_scheduler_that_our_solver_does_not_equal_takes_its_own_steps(monkeypatch):
    monkeypatch.setattr(DDIMScheduler, "step", misbehaving.other_step)
    pipe = quiet(tiny.sd())
    made = plan(pipe)
    assert made.sampler.solver is None
    assert made.spec["sampler"]["solver"] == "DDIMScheduler"
    assert any("run with its own DDIMScheduler" in text for text in made.warnings)
    found = search(pipe)
    generator = torch.Generator("cpu").manual_seed(0)
    alone = pipe(PROMPT, num_inference_steps=4, generator=generator).images[0]
    assert list(found.baseline.image.getdata()) == list(alone.getdata())
    assert plan(pipe, search_steps=2).sampler.solver is None
    assert plan(pipe, solver="ddim").sampler.solver is not None


def test_a_dry_run_says_what_is_not_known(tmp_path):
    pipe = quiet(tiny.sd())
    counted = passes(pipe)
    request = nw.Request(prompt=PROMPT, verifier="brightness", num_inference_steps=4)
    assert any("was not compared" in text for text in nw.plan(request, pipe=pipe, proving=False).warnings)
    assert counted == []
    nw.plan(request, pipe=pipe)
    assert counted
    assert nw.plan(request, pipe=pipe, proving=False).warnings == []


def test_samplers_split_where_nothing_says_otherwise():
    assert can_split(object())
    assert can_split(plan(tiny.sd()).sampler)
    assert not can_split(plan(misbehaving.made(misbehaving.Remembers)).sampler)
    assert not can_split(plan(misbehaving.made(misbehaving.Remembers), search_steps=2).sampler)


def test_a_plain_call_that_fails_is_the_persons():
    with pytest.raises(ValueError, match="LookupError: the moon"):
        search(misbehaving.made(misbehaving.Fails))


def test_the_verdict_of_a_run_is_json(tmp_path):
    search(misbehaving.made(misbehaving.LeaksInTheBatch), out=tmp_path / "run")
    held = json.loads((tmp_path / "run" / "run.json").read_text())
    assert held["checked"]["verdict"]["batch"] is False
    assert len(held["checked"]["key"]) == 32
