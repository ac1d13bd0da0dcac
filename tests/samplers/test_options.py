"""Options that do nothing are said or refused, once; Python and the command line judge alike."""

import json

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel, StableDiffusionPipeline

import noisewright as nw
import tiny
from noisewright import cli
from noisewright.api import planned
from noisewright.images.metadata import pixels_of
from noisewright.replay import rebuild
from noisewright.samplers.options import Read, unread_words
from noisewright.samplers.pipeline import PipelineSampler

PROMPT = "two red circles"  # 13 letters, of 22 that the tiny encoder reads
LONG = "two red circles and a blue square"
FAST = {"verifier": "brightness", "budget": "1 images", "num_inference_steps": 2, "guidance_scale": 4.0}


def warned(pipe, prompt=PROMPT, **more):
    return list(planned(pipe, prompt, **{**FAST, **more}).warnings)


def flux(embeds=False):
    parts = tiny.sd3().components
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=embeds,
    ).eval()  # fmt: skip
    return FluxPipeline(
        parts["scheduler"], parts["vae"], parts["text_encoder"], parts["tokenizer"], parts["text_encoder_2"],
        parts["tokenizer_2"], transformer,
    )  # fmt: skip


# What has no effect


@pytest.mark.sampled(3)
@pytest.mark.parametrize("make", [tiny.sd, tiny.sdxl, tiny.sd3])
def test_a_negative_prompt_without_guidance_is_said_once(make):
    pipe = make()
    found = warned(pipe, negative_prompt="blurred", guidance_scale=1.0)
    assert found == ["the negative prompt has no effect: guidance is off (guidance_scale 1)"]
    assert warned(pipe, negative_prompt="blurred") == []
    assert warned(pipe, negative_prompt="", guidance_scale=1.0) == []
    assert warned(pipe, guidance_scale=1.0) == []


def test_a_negative_prompt_beside_a_guidance_embedding_is_said():
    """A latent consistency model reads the scale, but makes no second pass."""
    pipe = tiny.sd()
    pipe.unet.register_to_config(time_cond_proj_dim=32)
    assert "negative prompt has no effect" in PipelineSampler(
        pipe, PROMPT, num_inference_steps=1, guidance_scale=4.0, negative_prompt="blurred"
    ).warnings[0]


class NoText(FluxPipeline):
    """Flux that reads nothing: its T5 is too large for a test."""

    def encode_prompt(self, prompt=None, num_images_per_prompt=1, **more):
        return torch.zeros(num_images_per_prompt, 8, 32), torch.zeros(num_images_per_prompt, 32), torch.zeros(8, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("embeds", "more", "says"),
    [
        (False, {"guidance_scale": 4.0}, "guidance_scale 4 has no effect"),
        (True, {"guidance_scale": 4.0}, None),
        (False, {"guidance_scale": None}, None),
        (True, {"negative_prompt": "blurred"}, "the negative prompt has no effect: guidance is off (true_cfg_scale 1)"),
        (True, {"true_cfg_scale": 3.0}, "true_cfg_scale has no effect without a negative prompt"),
        (True, {"true_cfg_scale": 3.0, "negative_prompt": "blurred"}, None),
    ],
)
def test_a_distilled_model_and_true_guidance(embeds, more, says):
    pipe = flux(embeds)
    pipe.__class__ = NoText
    found = warned(pipe, height=32, width=32, **more)  # its own size is large
    assert len(found) == (0 if says is None else 1)
    assert says is None or found[0].startswith(says)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"guidance_rescale": 0.7, "guidance_scale": 1.0}, "guidance_rescale has no effect"),
        ({"force": True}, "force has no effect without a schedule file"),
        ({"force": True, "schedule": "karras", "solver": "ddim"}, "force has no effect without a schedule file"),
        ({"search_steps": 2}, "search_steps has no effect"),
        ({"ensemble": "zsum"}, "ensemble zsum has no effect with one verifier"),
    ],
)
def test_options_without_effect_are_said_once(more, says):
    found = [one for one in warned(tiny.sd(), **more) if says in one]
    assert len(found) == 1


def test_eta_of_a_scheduler_that_has_none():
    pipe = tiny.sd(EulerDiscreteScheduler.from_config(tiny.sd().scheduler.config))
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, pipe_kwargs={"eta": 0.5})
    assert sampler.warnings == ["eta has no effect: EulerDiscreteScheduler takes none"]


@pytest.mark.slow
def test_steps_beside_levels_one_by_one():
    pipe = tiny.sd(EulerDiscreteScheduler.from_config(tiny.sd().scheduler.config))
    levels = {"sigmas": [14.0, 2.0, 0.5]}
    assert [one for one in warned(pipe, **levels) if one.startswith("num_inference_steps has no effect")]
    said = warned(pipe, num_inference_steps=None, **levels)  # it ends in noise, which the decoder makes much of
    assert [one for one in said if "is run with its own EulerDiscreteScheduler" not in one] == []
    with pytest.raises(ValueError, match="beside sigmas"):
        warned(pipe, num_inference_steps=None, search_steps=2, **levels)


# Words that nobody reads


@pytest.mark.slow
def test_words_past_the_encoders_limit_are_named():
    for make in (tiny.sd, tiny.sdxl, tiny.sd3):
        pipe = make()
        own = {name: one for name, one in pipe.components.items() if "tokenizer" in name}
        (found,) = warned(pipe, LONG)
        assert found == "the text encoder reads 24 tokens; it does not see the text's end: square"
        assert warned(pipe, PROMPT) == []
        for name, one in own.items():
            assert getattr(pipe, name) is one


def test_words_of_the_negative_prompt_are_named_where_it_is_read():
    found = warned(tiny.sd(), negative_prompt=f"a b {'c' * 18} lost words")
    assert found == ["the text encoder reads 24 tokens; it does not see the text's end: lost words"]


def test_many_lost_words_are_counted_and_a_prompt_that_just_fits_is_not_cut():
    pipe = tiny.sd()
    (found,) = warned(pipe, "a " * 22 + "b " * 50)
    assert found.endswith("b b b b b b b b b b b b ... (50 words)")
    assert warned(pipe, "a " * 22) == []
    assert len(warned(pipe, "a " * 23)) == 1


def test_what_one_of_two_encoders_reads_is_read():
    short, whole = Read("a b c", 2, 4), Read("a b c", 3, 8)
    assert unread_words([short]) == ["the text encoder reads 4 tokens; it does not see the text's end: c"]
    assert unread_words([short, whole]) == unread_words([whole, short]) == []


@pytest.mark.slow
def test_warnings_are_in_the_result_and_in_json(tmp_path, capsys):
    tiny.sd().save_pretrained(tmp_path / "model", safe_serialization=True)
    capsys.readouterr()
    given = ["--model", str(tmp_path / "model"), "--verifier", "brightness", "--budget", "1", "--steps", "1", "--json"]
    more = ["--guidance-scale", "1", "--negative-prompt", "blurred", "--out", str(tmp_path / "run")]
    assert cli.main(["generate", LONG, *given, *more]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["warnings"]
    assert len(found) == 2
    assert all(one in err for one in found)
    assert "square" in found[1]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["summary"]["warnings"] == found


# None


class Strict(StableDiffusionPipeline):
    """Its default is not what None means."""

    def __call__(
        self, prompt, guidance_rescale=0.7, num_images_per_prompt=1, num_inference_steps=50, guidance_scale=7.5,
        latents=None, generator=None, output_type="pil",
    ):  # fmt: skip
        return super().__call__(
            prompt, guidance_rescale=0.0 if guidance_rescale is None else guidance_rescale, latents=latents,
            num_images_per_prompt=num_images_per_prompt, num_inference_steps=num_inference_steps, generator=generator,
            guidance_scale=guidance_scale, output_type=output_type,
        )  # fmt: skip


def test_an_explicit_none_is_given_and_a_missing_one_is_not():
    pipe = Strict(**tiny.sd().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    images = {}
    for more in ({}, {"guidance_rescale": None}, {"guidance_rescale": 0.0}):
        expected = pipe(
            PROMPT, generator=torch.Generator("cpu").manual_seed(3), num_inference_steps=2, guidance_scale=4.0, **more
        ).images[0]
        sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, guidance_scale=4.0, pipe_kwargs=more)
        found = pixels_of(sampler.decode(sampler.denoise(sampler.noise([3]), 0, 2)[0]))[0]
        assert np.array_equal(found, np.asarray(expected))
        images[str(more)] = found
        assert sampler.description.get("none") == (["guidance_rescale"] if None in more.values() else None)
    assert not np.array_equal(images["{}"], images["{'guidance_rescale': None}"])
    with pytest.raises(ValueError, match="takes no colour"):
        PipelineSampler(pipe, PROMPT, num_inference_steps=2, pipe_kwargs={"colour": None})


@pytest.mark.slow
def test_a_recorded_none_is_given_again_only_where_it_was_given(tmp_path):
    tiny.sd().save_pretrained(tmp_path, safe_serialization=True)
    pipe = nw.load(str(tmp_path), device="cpu")
    plain = PipelineSampler(pipe, PROMPT, num_inference_steps=2, pipe_kwargs={"clip_skip": None})
    assert "none" not in plain.description  # it means the default, as in runs of version 0.1
    for none in ([], ["guidance_rescale"]):
        made = {**plain.description, "guidance_rescale": None, **({"none": none} if none else {})}
        sampler = rebuild({"sampler": made})
        assert sampler.description.get("none") == (none or None)
        assert ("guidance_rescale" in sampler.description) == bool(none)


# Judges


@pytest.fixture
def carded(tmp_path):
    path = tmp_path / "carded"
    tiny.sd().save_pretrained(path, safe_serialization=True)

    def write(**card):
        (path / "noisewright.json").write_text(json.dumps({"name": "mine", "verifier": "brightness", **card}))
        return str(path)

    return write


JUDGED = {"budget": "1 images", "num_inference_steps": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "more", "judges"),
    [
        ({"judge": "sharpness"}, {}, ["sharpness"]),
        ({"judge": ["brightness", "sharpness"]}, {}, ["sharpness"]),
        ({"judge": "sharpness"}, {"verifier": "sharpness"}, []),
        ({"judge": ["sharpness", "brightness"]}, {"verifier": ["sharpness"]}, ["brightness"]),
        ({"judge": "sharpness"}, {"judge": "compressibility"}, ["compressibility"]),
        ({"judge": "sharpness"}, {"judge": []}, []),
        ({"judge": "sharpness"}, {"judge": "none"}, []),
        ({"judge": "shapes-oracle"}, {}, ["shapes-oracle"]),
        ({}, {}, []),
    ],
)
def test_the_cards_judge_is_asked_by_python_and_by_the_command_line(carded, card, more, judges, capsys):
    path = carded(**card)
    plan = planned(path, PROMPT, **JUDGED, **more)
    assert [one.name for one in plan.judges] == judges
    words = ["generate", PROMPT, "--model", path, "--budget", "1", "--steps", "1", "--json", "--dry-run"]
    for option in ("verifier", "judge"):
        value = more.get(option)
        given = ["none"] if value == [] else [value] if isinstance(value, str) else value or []
        words += [word for one in given for word in (f"--{option}", one)]
    capsys.readouterr()
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["judges"] == judges


@pytest.mark.slow
def test_a_judge_of_the_card_that_cannot_be_asked_is_said(carded):
    foreign = nw.search(carded(judge="shapes-oracle"), "two red zebras", **JUDGED)
    assert foreign.judges == ()
    assert [one for one in foreign.warnings if "shapes-oracle is not asked" in one]
    missing = planned(carded(judge="clip-classifier"), PROMPT, **JUDGED)
    assert missing.judges == []
    assert [one for one in missing.warnings if "is not asked" in one]


@pytest.mark.slow
def test_the_bundled_model_is_judged_by_its_oracle_and_a_run_without_a_judge_goes_on(tmp_path):
    first = nw.search("noisewright/shapes", PROMPT, judge=[], out=tmp_path / "run", **JUDGED)
    again = nw.search("noisewright/shapes", PROMPT, out=tmp_path / "run", **JUDGED)
    assert first.judges == ()
    assert again.judges == ("shapes-oracle",)
    assert "shapes-oracle" in again.best.scores
    assert again.nfe == first.nfe
