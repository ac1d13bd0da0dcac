"""``noisewright check`` and ``nw.check``: the table of what holds, and what it must not hold."""

import json

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from torch.nn.modules.module import register_module_forward_hook

import misbehaving
import noisewright as nw
import tiny
from commands import done, refused, run
from noisewright.checking import OWN_MODEL
from noisewright.samplers import verdicts

MEASURED = {"steps", "parity", "split", "batch", "previews", "gradients", "speed", "memory"}


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    verdicts.CACHE.forget()
    yield
    verdicts.CACHE.forget()


def checked(pipe, *given, **more):
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(disable=True)
    return nw.check(pipe, *given, **{"num_inference_steps": 8, "seconds": 0, **more})


def test_json_is_complete(model, capsys):
    found = json.loads(done(capsys, ["check", model, "a cat", "--steps", 6, "--seconds", 0.2, "--json"]))
    assert found["can_be_searched"]
    assert found["refused"] is None
    assert set(found["measured"]) == MEASURED
    assert found["measured"]["steps"] == 6
    for name in ("parity", "split", "batch", "previews", "gradients"):
        assert found["measured"][name]["holds"] is True, name
    speed = found["measured"]["speed"]
    assert str(speed["fastest_batch"]) in speed["seconds_per_step_and_image"]
    assert found["measured"]["memory"]["host_bytes"] > 2**20
    assert {"noisewright", "torch", "diffusers", "transformers", "python"} <= set(found["versions"])
    assert found["about"]["components"]["scheduler"]["class"]["name"] == "DDIMScheduler"
    assert found["verdict"]["ran"]["steps"] == 4
    assert (found["pipeline"], found["model"]) == ("StableDiffusionPipeline", OWN_MODEL)


def test_it_holds_no_texts_directories_or_keys(model, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
    given = ["check", "--model", model, "a private prompt", "--negative-prompt", "private", "--steps", 2]
    for more in ([], ["--json"]):
        out = done(capsys, [*given, "--seconds", 0, *more])
        for secret in ("private", str(model), str(model.parent), "hf_abc"):
            assert secret not in out


def test_a_text_that_is_too_long_is_not_told():
    found = checked(tiny.sd(), "a cat " * 20 + "privately", num_inference_steps=2)
    assert any("text's end" in one for one in found.warnings)
    assert "privately" not in str(found.to_json())


def test_the_table(model, capsys):
    out = done(capsys, ["check", model, "--steps", 4, "--seconds", 0])
    for part in ("parity", "split", "batch", "previews", "gradients", "stochastic", "repeatable", "step", "memory",
                 "noisewright ", "diffusers ", "StableDiffusionPipeline", "DDIMScheduler"):  # fmt: skip
        assert part in out


def test_wrong_use(model, here, capsys):
    refused(capsys, ["check"], "expected a MODEL")
    refused(capsys, ["check", "a", "b", "--model", model], "expected one model")
    refused(capsys, ["check", "nowhere"], "nowhere")
    refused(capsys, ["check", model, "--dtype", "float8"], "did you mean float")
    refused(capsys, ["check", model, "--pipeline-arg", "stpes=3"], "stpes")
    with pytest.raises(ValueError, match="which is a search's"):
        nw.check(tiny.sd(), budget="3 images")
    with pytest.raises(ValueError, match="seconds of at least 0"):
        nw.check(tiny.sd(), seconds=-1)


def test_what_is_refused_has_exit_code_1(model, capsys, monkeypatch):
    import noisewright.checking as checking

    broken = misbehaving.made(misbehaving.Forgets)
    monkeypatch.setattr(checking, "load_requested", lambda request: broken)
    found = run(capsys, ["check", model, "--json"])
    assert found.code == 1
    told = json.loads(found.out)
    assert not told["can_be_searched"]
    assert "two images for one seed" in told["refused"]
    assert told["measured"] is None
    assert told["versions"]["diffusers"]
    found = run(capsys, ["check", model])
    assert found.code == 1
    assert "refused: " in found.out


def test_what_does_not_hold_is_said():
    found = checked(misbehaving.made(misbehaving.LeaksInTheBatch))
    assert found.measured["batch"] == {"holds": False}
    assert found.measured["parity"]["holds"]
    assert found.measured["speed"]["ended"] == "one at a time"
    assert found.can_be_searched
    rows = {name: (holds, more) for name, holds, more in found.rows()}
    assert rows["batch"] == ("no", "one image at a time")


def test_a_loop_that_remembers_has_no_previews():
    found = checked(misbehaving.made(misbehaving.Remembers))
    assert found.measured["parity"]["holds"]
    if not found.verdict["split"]:
        assert found.measured["split"] == {"holds": False}
        assert not found.measured["previews"]["holds"]


@pytest.mark.parametrize("kind", [EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler])
def test_schedulers_that_have_no_equal(kind):
    pipe = tiny.sd()
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    found = checked(pipe)
    assert found.measured["parity"]["holds"]
    assert found.measured["parity"]["by"] == kind.__name__
    assert found.measured["previews"]["holds"]
    assert not found.measured["gradients"]["holds"]
    assert "--solver ddim" in found.measured["gradients"]["why"]
    assert found.verdict["stochastic"] == (kind is EulerAncestralDiscreteScheduler)


def test_classes_and_flows():
    found = checked(tiny.class_flow())
    assert found.measured["parity"]["holds"]
    assert found.measured["gradients"]["holds"]
    assert checked(tiny.dit(), class_label="goldfish", num_inference_steps=2).can_be_searched
    assert found.model == "(made in Python)"


def test_the_pipeline_is_left_as_it_was_and_the_proof_is_kept():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)
    scheduler, state = pipe.scheduler, torch.get_rng_state()
    before = str(vars(scheduler))
    checked(pipe)
    assert pipe.scheduler is scheduler
    assert str(vars(scheduler)) == before
    assert torch.equal(state, torch.get_rng_state())
    assert not pipe.unet._forward_hooks
    counted = []
    hook = register_module_forward_hook(lambda module, *given: counted.append(module is pipe.unet))
    try:
        nw.plan(nw.Request(prompt="a cat", verifier="brightness"), pipe=pipe)
    finally:
        hook.remove()
    assert not any(counted)


def test_a_plain_call_that_fails_is_the_persons():
    with pytest.raises(ValueError, match="LookupError: the moon"):
        checked(misbehaving.made(misbehaving.Fails))
