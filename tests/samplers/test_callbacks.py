"""A person's own callback: called after each step of the pipeline, recorded by its source, and asked for again."""

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback

import noisewright as nw
import tiny
from noisewright import cli, registry
from noisewright.errors import RunMismatch
from noisewright.replay import replay
from noisewright.samplers.identity import canonical

SEARCH = {"verifier": "sharpness", "num_inference_steps": 3, "pictures": False}
called = []


def watch(pipe, step, time, given):
    """Notes what it is told."""
    called.append((type(pipe).__name__, step, int(time), sorted(given), tuple(given["latents"].shape)))
    return {}


def other(pipe, step, time, given):
    return {}


class Stepper:
    """A callback with a setting."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, pipe, step, time, given):
        return given


@pytest.fixture(autouse=True)
def forgotten():
    called.clear()


def test_a_callback_is_called_for_each_step_of_the_loop(tmp_path):
    result = nw.search(
        tiny.sd(), "a cat", budget="1 images", callback_on_step_end=watch, out=tmp_path / "run", no_check=True, **SEARCH
    )
    assert result.images == 1
    assert [one[1] for one in called] == [0, 1, 2]
    times = [one[2] for one in called]
    assert times == sorted(times, reverse=True)
    assert all(one[3:] == (["latents"], (1, 4, 16, 16)) for one in called)


@pytest.mark.slow
def test_the_image_is_the_one_without_a_callback_that_changes_nothing(tmp_path):
    scores = [
        nw.search(tiny.sd(), "a cat", budget="2 images", **SEARCH, **more).best.scores
        for more in ({}, {"callback_on_step_end": watch, "callback_on_step_end_tensor_inputs": ["latents"]})
    ]
    assert scores[0] == scores[1]


def fading(pipe, step, time, given):
    """Changes the states, and more so the later."""
    return {"latents": given["latents"] * (1 - 0.1 * step)}


CUT = pytest.mark.xfail(strict=True, reason="the names of the tensors that a PipelineCallback wants are not passed on")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: fading, id="states"),
        pytest.param(lambda: SDCFGCutoffCallback(cutoff_step_ratio=0.5), id="guidance", marks=CUT),
    ],
)
def test_what_a_callback_changes_is_changed(make):
    pipe, steps = tiny.sd(), 4
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": steps, "guidance_scale": 6.0}
    settings = {**given, "pipe_kwargs": {"callback_on_step_end": make()}}
    sampler = registry.make_sampler(pipe, "a cat", settings)
    plain = [
        pipe("a cat", generator=torch.Generator("cpu").manual_seed(7), output_type="pt", **given, **more).images
        for more in ({"callback_on_step_end": make()}, {})
    ]
    x = sampler.noise([7])
    whole, _ = sampler.denoise(x, 0, steps, None, None, [7])
    torch.testing.assert_close(sampler.decode(whole), plain[0], rtol=0, atol=1.01 / 255)
    assert float((plain[0] - plain[1]).abs().max()) > 2 / 255, "it changes something"
    for cut in range(1, steps):
        part, state = sampler.denoise(x, 0, cut, None, None, [7])
        rest, _ = sampler.denoise(part, cut, steps, state, None, [7])
        torch.testing.assert_close(sampler.decode(rest), plain[0], rtol=0, atol=1.01 / 255)


@pytest.mark.slow
def test_a_run_with_a_callback_goes_on_where_it_is_given_again(tmp_path, capsys):
    pipe, out = tiny.sd(), tmp_path / "run"
    model = tmp_path / "model"
    pipe.save_pretrained(model)
    given = {"budget": "2 images", **SEARCH}
    nw.search(str(model), "a cat", callback_on_step_end=watch, out=out, **given)
    assert nw.resume(out, budget="3 images", callback_on_step_end=watch, pictures=False).images == 3
    with pytest.raises(RunMismatch):
        nw.resume(out, budget="4 images", callback_on_step_end=other, pictures=False)
    capsys.readouterr()
    assert cli.main(["resume", str(out), "--budget", "4"]) == 2
    said = capsys.readouterr().err
    assert f"callback_on_step_end= (the function {watch.__module__}.watch)" in said
    assert "noisewright.resume(" in said
    assert said.count("\n") == 1
    with pytest.raises(ValueError, match=r"replay\(\.\.\., pipe_kwargs=\{'callback_on_step_end'"):
        replay(out / "best.png", model=str(model))
    assert replay(out / "best.png", model=str(model), pipe_kwargs={"callback_on_step_end": watch}).identical


def test_a_callback_is_told_by_its_source_and_its_settings():
    records = [canonical(one, "callback_on_step_end") for one in (watch, other, Stepper(1), Stepper(1), Stepper(2))]
    assert records[2] == records[3]
    assert len({str(one) for one in records}) == 4
    cut = [SDCFGCutoffCallback(cutoff_step_ratio=ratio) for ratio in (0.5, 0.5, 0.7)]
    cuts = [canonical(one, "callback_on_step_end") for one in (*cut, *(MultiPipelineCallbacks([one]) for one in cut))]
    assert cuts[0] == cuts[1] != cuts[2]
    assert cuts[3] == cuts[4] != cuts[5]
    assert records[0]["$function"][0].endswith("test_callbacks.watch")
    with pytest.raises(TypeError, match="got a function"):
        canonical(watch, "prompt_embeds")


def test_a_text_is_no_callback():
    with pytest.raises(ValueError, match=r"callback_on_step_end as a function"):
        nw.search(tiny.sd(), "a cat", budget="1 images", callback_on_step_end="watch", **SEARCH)
