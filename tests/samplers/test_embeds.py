"""Embeddings in place of a prompt: the images of plain diffusers, whatever the micro-batch, and what is refused."""

import copy
from functools import cache

import numpy as np
import pytest
import torch

import noisewright as nw
import tiny
from noisewright.errors import RunMismatch
from noisewright.replay import rebuild, replay
from noisewright.samplers.load import load_pipeline
from noisewright.samplers.pipeline import PipelineSampler

PROMPT = "two red circles"
STEPS = 3


@cache
def pipe_of(name):
    pipe = getattr(tiny, name)()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def embeds(name, *, negative=False, seed=0):
    """Weighted words, as compel makes them: the text encoders' output, changed."""
    pipe = pipe_of(name)
    encoded = pipe.encode_prompt(
        PROMPT, **({} if name == "sd" else {"prompt_2": None}), **({"prompt_3": None} if name == "sd3" else {}),
        device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True,
    )  # fmt: skip
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    generator = torch.Generator("cpu").manual_seed(seed)
    found = {}
    for key, value in zip(names, encoded, strict=False):
        if negative or not key.startswith("negative"):
            found[key] = (value * (0.5 + torch.rand(value.shape, generator=generator))).detach()
    return found


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def plain(name, seed, guidance, **more):
    pipe = pipe_of(name)
    given = {"num_inference_steps": STEPS, "guidance_scale": guidance, "output_type": "latent"}
    return pipe(generator=generator(seed), **given, **more).images


def mine(sampler, *seeds):
    return sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps, None, None, seeds)[0]


def sampler_of(name, guidance=4.0, **more):
    return PipelineSampler(pipe_of(name), PROMPT, num_inference_steps=STEPS, guidance_scale=guidance, **more)


# Relative to the latents' deviation, as in test_pipeline.py: for other coordinates and larger batches.
ROUNDING = 5e-5


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.std()))


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3"])
def test_embeddings_give_the_images_of_plain_diffusers(name, negative, guidance):
    given = embeds(name, negative=negative)
    sampler = sampler_of(name, guidance, **given)
    found = mine(sampler, 3)
    expected = plain(name, 3, guidance, **given)
    if name == "sd":
        assert torch.equal(found, expected)
    close(found, expected)
    others = sampler_of(name, guidance)
    assert not torch.allclose(found, mine(others, 3), atol=1e-3)
    batch = mine(sampler, 3, 4, 5)
    for row, seed in enumerate((3, 4, 5)):
        close(batch[row : row + 1], plain(name, seed, guidance, **given))


def test_the_text_encoder_is_not_asked_for_what_is_given(monkeypatch):
    given = embeds("sd", negative=True)
    pipe = copy.copy(pipe_of("sd"))
    asked = []
    hook = pipe.text_encoder.register_forward_pre_hook(lambda *_: asked.append(1))
    try:
        mine(PipelineSampler(pipe, PROMPT, num_inference_steps=2, guidance_scale=4.0, **given), 1, 2)
    finally:
        hook.remove()
    assert not asked


def test_a_negative_prompt_beside_embeddings_is_encoded_once_for_all_images():
    given = embeds("sd")
    sampler = sampler_of("sd", negative_prompt="a cat", **given)
    batch = mine(sampler, 3, 4)
    for row, seed in enumerate((3, 4)):
        close(batch[row : row + 1], plain("sd", seed, 4.0, negative_prompt="a cat", **given))


def test_negative_embeddings_alone_stand_beside_a_prompt():
    given = {"negative_prompt_embeds": embeds("sd", negative=True)["negative_prompt_embeds"]}
    close(mine(sampler_of("sd", **given), 3), plain("sd", 3, 4.0, prompt=PROMPT, **given))


def test_the_older_way_by_further_arguments_is_the_same():
    given = embeds("sd", negative=True)
    assert torch.equal(mine(sampler_of("sd", pipe_kwargs=given), 3), mine(sampler_of("sd", **given), 3))


def test_half_precision_is_read_in_the_pipelines_own():
    given = {key: one.half() for key, one in embeds("sd").items()}
    assert torch.equal(mine(sampler_of("sd", **given), 3), plain("sd", 3, 4.0, **given))


def test_embeddings_are_recorded_by_their_content_and_the_callers_are_left_alone():
    given = embeds("sd")
    changed = {key: one.clone() for key, one in given.items()}
    sampler = sampler_of("sd", **changed)
    before = mine(sampler, 3)
    recorded = sampler.description["prompt_embeds"]
    assert set(recorded) == {"$tensor"}
    changed["prompt_embeds"].zero_()
    assert torch.equal(mine(sampler, 3), before)
    assert sampler.description["prompt_embeds"] == recorded
    assert sampler_of("sd", **embeds("sd", seed=1)).description["prompt_embeds"] != recorded
    assert "prompt_embeds" not in sampler_of("sd").description
    assert sampler.description["prompt"] == PROMPT


def test_a_recipe_says_that_it_takes_the_embeddings_again(tmp_path):
    pipe_of("sd").save_pretrained(tmp_path / "model")
    given = embeds("sd", negative=True)
    made = sampler_of("sd", model=str(tmp_path / "model"), **given)
    recipe = {"sampler": dict(made.description)}
    with pytest.raises(ValueError, match=r"\Aexpected the (negative_)?prompt_embeds that the image") as caught:
        rebuild(recipe)
    assert "\n" not in str(caught.value)
    again = rebuild(recipe, pipe_kwargs=given)
    assert torch.equal(mine(again, 3), mine(made, 3))
    with pytest.raises(RunMismatch, match="expected the prompt_embeds that the image was made with"):
        rebuild(recipe, pipe_kwargs={**given, "prompt_embeds": given["prompt_embeds"] * 2})


@pytest.mark.slow
def test_a_search_with_embeddings_has_plain_diffusers_baseline_and_is_made_again(tmp_path):
    pipe_of("sd").save_pretrained(tmp_path / "model")
    pipe = load_pipeline(tmp_path / "model", "cpu")
    given = embeds("sd", negative=True)
    told = []

    def brightness(images, prompt):
        told.append(prompt)
        return images.mean(dim=(1, 2, 3)).tolist()

    result = nw.search(pipe, PROMPT, verifier=brightness, budget="3 images", seed=3, num_inference_steps=STEPS,
                       guidance_scale=4.0, out=tmp_path / "run", judge="none", **given)  # fmt: skip
    settings = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "pil"}
    plain = pipe_of("sd")(generator=generator(3), **settings, **given).images[0]
    assert np.array_equal(np.asarray(result.baseline.image), np.asarray(plain))
    assert set(told) == {PROMPT}
    best = tmp_path / "run" / "best.png"
    with pytest.raises(ValueError, match=r"replay\(\.\.\., pipe_kwargs=\{'(negative_)?prompt_embeds'"):
        replay(best)
    assert replay(best, pipe_kwargs=given).identical


def test_embeddings_without_effect_are_said():
    said = sampler_of("sd", 1.0, **embeds("sd", negative=True)).warnings
    assert any(one.startswith("negative_prompt_embeds have no effect: guidance is off") for one in said)
    assert not sampler_of("sd", 4.0, **embeds("sd", negative=True)).warnings


def test_a_gradient_goes_through_with_embeddings():
    sampler = sampler_of("sd", 1.0, **embeds("sd"))
    x = sampler.noise([1]).requires_grad_()
    sampler.trace(x).sum().backward()
    assert x.grad.abs().sum() > 0


WRONG = {
    "no tensor": ({"prompt_embeds": [[0.0]]}, TypeError, "expected prompt_embeds as a tensor"),
    "text": ({"prompt_embeds": "a cat"}, TypeError, "expected prompt_embeds as a tensor"),
    "two prompts": ({"prompt_embeds": torch.zeros(2, 24, 32)}, ValueError, "of one prompt"),
    "no batch": ({"prompt_embeds": torch.zeros(24, 32)}, ValueError, "of one prompt"),
    "no tokens": ({"prompt_embeds": torch.zeros(1, 0, 32)}, ValueError, "of one prompt"),
    "another width": ({"prompt_embeds": torch.zeros(1, 24, 64)}, ValueError, "of width 32, as the network reads"),
    "numbers": ({"prompt_embeds": torch.zeros(1, 24, 32, dtype=torch.long)}, TypeError, "floating-point"),
    "not finite": ({"prompt_embeds": torch.full((1, 24, 32), float("nan"))}, ValueError, "expected finite numbers"),
    "meta": ({"prompt_embeds": torch.zeros(1, 24, 32, device="meta")}, ValueError, "expected finite numbers"),
    "not taken": ({"pooled_prompt_embeds": torch.zeros(1, 32)}, ValueError, "takes no pooled_prompt_embeds"),
    "two lengths": ({"prompt_embeds": torch.zeros(1, 24, 32), "negative_prompt_embeds": torch.zeros(1, 12, 32)},
                    ValueError, "of one shape"),
    "text beside": ({"negative_prompt_embeds": torch.zeros(1, 24, 32), "negative_prompt": "x"}, ValueError,
                    "expected no negative_prompt beside negative_prompt_embeds"),
    "a list of two": ({"prompt_embeds": [torch.zeros(24, 32)] * 2}, ValueError, "of one prompt"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_embeddings_are_refused_before_anything_is_spent(name):
    given, kind, said = WRONG[name]
    with pytest.raises(kind, match=said) as caught:
        sampler_of("sd", **given)
    assert "\n" not in str(caught.value)


def test_pooled_embeddings_go_with_the_others():
    given = embeds("sdxl", negative=True)
    for absent in given:
        with pytest.raises(ValueError, match=f"expected {absent} beside"):
            sampler_of("sdxl", **{key: one for key, one in given.items() if key != absent})
    with pytest.raises(ValueError, match="of width 64"):
        sampler_of("sd3", **{**embeds("sd3"), "pooled_prompt_embeds": torch.zeros(1, 8)})


def test_a_prompt_is_needed_beside_embeddings_and_a_class_takes_none():
    with pytest.raises(ValueError, match="expected a prompt"):
        PipelineSampler(pipe_of("sd"), num_inference_steps=2, **embeds("sd"))
    with pytest.raises(ValueError, match="takes no prompt_embeds"):
        PipelineSampler(tiny.class_flow(), class_label=1, num_inference_steps=2, **embeds("sd"))


def test_the_nearest_argument_is_named():
    with pytest.raises(ValueError, match=r"takes no clipskip; did you mean clip_skip\?"):
        sampler_of("sd", pipe_kwargs={"clipskip": 1})
