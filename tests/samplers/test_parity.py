"""What a pipeline is proved to be, and what is said of those that are not what they seem."""

import copy
import random

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
)
from PIL import Image

import misbehaving
import tiny
from noisewright import registry
from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.parity import EQUAL, SEED, few_steps, obeying, prove
from noisewright.samplers.plainly import pictures_of
from noisewright.samplers.trials import distance, through
from noisewright.samplers.verdict import Verdict

PROMPT = "two red circles"


def sampler_of(pipe, prompt=PROMPT, steps=8, **settings):
    pipe.set_progress_bar_config(disable=True)
    return registry.make_sampler(pipe, prompt, {"num_inference_steps": steps, **settings})


def passes_of(network):
    """A list that grows by the rows of each call of a network, by a part of it that does not run where it sleeps."""
    counted, part = [], getattr(network, "conv_in", network)
    part.register_forward_hook(lambda module, given, output: counted.append(len(given[0] if given else output[0])))
    return counted


def with_scheduler(kind):
    pipe = tiny.sd()
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    return pipe


PROVED = {
    "sd": lambda: sampler_of(tiny.sd()),
    "eta": lambda: sampler_of(tiny.sd(), pipe_kwargs={"eta": 1.0}),
    "sd3": lambda: sampler_of(tiny.sd3()),
    "dit": lambda: sampler_of(tiny.dit(), None, class_label=1),
    "class-flow": lambda: sampler_of(tiny.class_flow(), None, class_label=1),
    "dpm": lambda: sampler_of(with_scheduler(DPMSolverMultistepScheduler)),
    "ancestral": lambda: sampler_of(with_scheduler(EulerAncestralDiscreteScheduler)),
    "own loop": lambda: sampler_of(misbehaving.made(misbehaving.OwnLoop)),
    "another solver": lambda: sampler_of(tiny.sd(), solver=registry.make_solver("heun", None), schedule="karras"),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", PROVED)
def test_a_pipeline_of_which_all_holds_costs_three_images_of_four_steps(name):
    sampler = PROVED[name]()
    pipe = sampler.pipe
    network = getattr(pipe, "unet", None) or pipe.transformer
    counted, before = passes_of(network), sampler.meter.snapshot()
    verdict = prove(sampler)
    guided = 2  # passes a step
    walk = 2 * guided if name == "own loop" else 0  # through a loop that nobody knows, two images for one step
    assert sum(counted) <= 3 * 4 * guided + walk
    assert sampler.meter.snapshot() == before
    assert not verdict.restricts
    assert verdict.apart <= EQUAL
    assert (verdict.split, verdict.batch, verdict.native, verdict.repeatable) == (True, True, False, True)
    assert verdict.ran["steps"] == 4
    assert verdict.ran["split_at"] == [1, 2, 3]
    assert verdict.stochastic == (name in ("eta", "ancestral"))


def test_nothing_is_moved_by_a_proof():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True, desc="mine")
    sampler = sampler_of(pipe)
    pipe.set_progress_bar_config(desc="mine")
    scheduler, held = pipe.scheduler, {key: copy.deepcopy(one) for key, one in vars(pipe.scheduler).items()}
    before, attributes = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()), dict(vars(pipe))
    prove(sampler)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert dict(vars(pipe)) == attributes
    assert pipe.scheduler is scheduler
    assert str(vars(scheduler)) == str(held)
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks


def plain(pipe, steps, seed=SEED, **more):
    generator = torch.Generator("cpu").manual_seed(seed)
    return pictures_of(pipe(PROMPT, num_inference_steps=steps, generator=generator, output_type="pt", **more))


@pytest.mark.slow
def test_fewer_steps_than_four_are_as_many_as_the_run_has():
    assert prove(sampler_of(tiny.sd(), steps=1)).ran == {
        "steps": 1, "split_at": [], "images": 3, "compared": True, "scheduler": "DDIMScheduler", "dtype": "float32",
        "device": "cpu",
    }  # fmt: skip
    assert prove(sampler_of(tiny.sd(), steps=3)).ran["split_at"] == [1, 2]
    assert few_steps(sampler_of(tiny.sd(), steps=20), least=9).schedule.steps == 10
    assert prove(sampler_of(with_scheduler(PNDMScheduler))).ran["steps"] == 13


@pytest.mark.parametrize(
    "kind", [misbehaving.UsesThePlace, misbehaving.EditsStates, misbehaving.Remembers, misbehaving.Averages]
)
def test_what_is_allowed_makes_the_plain_image(kind):
    """Whatever the seam can do with such a loop: what the verdict lets a search do is right, or nothing is."""
    pipe = misbehaving.made(kind)
    sampler = sampler_of(pipe)
    verdict = prove(sampler)
    if verdict.refused is not None:
        assert "needs an adapter" in verdict.refused
        assert verdict.refused.count("\n") == 0
        return
    few = few_steps(sampler)
    images = through(obeying(few, verdict), [1, SEED] if verdict.batch else [SEED], [1, 3] if verdict.split else [])
    assert distance(images[-1], plain(pipe, 4)[0]) <= EQUAL


def test_a_loop_that_remembers_is_not_split():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.Remembers)))
    assert not verdict.split
    assert verdict.batch
    assert not verdict.native
    assert verdict.refused is None
    (note,) = verdict.notes
    assert note.startswith("Remembers is run from start to end only: cut on its way its image is ")
    assert "/255 off" in note


def test_a_loop_whose_edits_depend_on_its_past_is_refused():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.Averages)))
    assert "needs an adapter" in verdict.refused
    assert verdict.refused.count("\n") == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: misbehaving.made(misbehaving.PreparesADictionary),
        lambda: misbehaving.made(misbehaving.OwnLoop, misbehaving.CountsOtherwise(**tiny.SD_SCHEDULER)),
    ],
    ids=["a dictionary", "a scheduler"],
)
def test_what_is_written_in_its_own_way_is_entered_all_the_same(make):
    pipe = make()
    sampler = sampler_of(pipe)
    verdict = prove(sampler)
    assert (verdict.refused, verdict.split, verdict.batch, verdict.notes) == (None, True, True, ())
    images = through(obeying(few_steps(sampler), verdict), [1, SEED], [1, 3])
    assert distance(images[-1], plain(pipe, 4)[0]) <= EQUAL


def test_a_scheduler_whose_step_is_called_otherwise_is_refused():
    pipe = misbehaving.made(misbehaving.OwnLoop, misbehaving.StepsOtherwise(**tiny.SD_SCHEDULER))
    with pytest.raises(UnsupportedPipeline, match="of StepsOtherwise, got step"):
        sampler_of(pipe)


def test_a_batch_that_leaks_is_made_one_by_one():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.LeaksInTheBatch)))
    assert (verdict.batch, verdict.split, verdict.native, verdict.refused) == (False, True, False, None)
    assert "makes one image at a time" in verdict.notes[0]


def test_a_scheduler_that_our_solver_does_not_equal_takes_its_own_steps(monkeypatch):
    monkeypatch.setattr(DDIMScheduler, "step", misbehaving.other_step)
    pipe = tiny.sd()
    sampler = sampler_of(pipe)
    assert sampler.solver is not None
    verdict = prove(sampler)
    assert (verdict.native, verdict.split, verdict.batch, verdict.refused) == (True, True, True, None)
    assert verdict.solver == "ddim"
    assert verdict.solver_apart > EQUAL >= verdict.native_apart == verdict.apart
    assert "run with its own DDIMScheduler" in verdict.notes[0]
    held = obeying(sampler, verdict)
    assert held.solver is None
    assert sampler.solver is not None
    assert distance(through(held, [SEED])[0], plain(pipe, 8)[0]) <= EQUAL


def test_a_loop_that_draws_from_the_process_is_refused():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.DrawsGlobally)))
    assert "the random generator of torch that the whole process shares" in verdict.refused
    assert not verdict.repeatable


def test_a_call_that_is_not_repeatable_is_refused():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.Forgets)))
    assert "gives two images for one seed" in verdict.refused
    assert not verdict.repeatable


def test_noise_that_does_not_matter_is_said():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.Blind)))
    if verdict.refused is None:
        assert any("one and the same image" in note for note in verdict.notes)


def test_a_call_that_fails_is_said_in_one_line():
    with pytest.raises(ValueError, match="LookupError: the moon") as found:
        prove(sampler_of(misbehaving.made(misbehaving.Fails)))
    assert "\n" not in str(found.value)


def test_half_precision_is_held_to_its_own_rounding():
    pipe = tiny.sd().to(torch.bfloat16)
    verdict = prove(sampler_of(pipe))
    assert verdict.refused is None
    assert verdict.split
    assert verdict.batch
    assert verdict.apart <= verdict.tolerance <= 8
    if verdict.apart > EQUAL:
        assert any("bfloat16 images are known to" in note for note in verdict.notes)


def test_half_precision_hides_no_wrong_image():
    pipe = misbehaving.made(misbehaving.LeaksInTheBatch).to(torch.bfloat16)
    assert not prove(sampler_of(pipe)).batch


def test_a_verdict_is_json():
    verdict = prove(sampler_of(misbehaving.made(misbehaving.Remembers)))
    assert Verdict.from_json(verdict.to_json()) == verdict


@pytest.mark.parametrize(
    ("given", "steps", "said"),
    [({"strength": 0.0}, 8, "0 of 8 steps"), ({"strength": 0.01}, 8, "0.01 of 8 steps"), ({}, 1, "0.8 of 1 steps")],
)
def test_a_strength_with_no_step_is_named(given, steps, said):
    parts = {**tiny.sd().components, "requires_safety_checker": False}
    pipe, image = StableDiffusionImg2ImgPipeline(**parts), Image.new("RGB", (32, 32))
    with pytest.raises(ValueError, match=f"^expected a strength .* got {said}, which leaves none"):
        sampler_of(pipe, steps=steps, pipe_kwargs={"image": image, **given})
