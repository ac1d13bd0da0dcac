"""Parity of the scheduler seam with the plain pipeline, on real pipelines."""

import copy
import io
from functools import cache
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import tiny
from noisewright import registry
from noisewright.diffusion.noise import gaussian
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import UnsupportedPipeline
from noisewright.executors.steps import carry
from noisewright.images.metadata import pixels_of
from noisewright.run.particle import Particle, noise_particle
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.pipeline import PipelineSampler, load_pipeline
from noisewright.samplers.protocol import Sampler

# Relative to the latents' deviation (0.7 to 17 here): a few float32 roundings (6e-8) in each of up to 11 steps, made
# larger by guidance, where a batch is summed in another order or Euler works in other coordinates (EDM, not VP).
ROUNDING = 5e-5
STEPS = 5
PROMPT = "two red circles"


def other_scheduler(name, **config):
    """Stable Diffusion's noise levels, under another of diffusers' schedulers."""
    kind = getattr(diffusers, name)
    return lambda: tiny.sd(kind.from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config, **config))


def shapes():
    path = registry.bundled("noisewright/shapes")
    if path is None or not (path / "model_index.json").is_file():
        pytest.skip("the bundled model noisewright/shapes is not in this copy")
    return load_pipeline(path, device="cpu")


NATIVE = [
    "DPMSolverMultistepScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "HeunDiscreteScheduler",
    "DEISMultistepScheduler", "EulerAncestralDiscreteScheduler", "DDPMScheduler",
]  # fmt: skip
STOCHASTIC = {"EulerAncestralDiscreteScheduler", "DDPMScheduler"}
MAKE = {
    "sd": tiny.sd,
    "sdxl": tiny.sdxl,
    "sd3": tiny.sd3,
    "shapes": shapes,
    "v_prediction": lambda: tiny.sd(prediction_type="v_prediction"),
    "sample": lambda: tiny.sd(prediction_type="sample"),
    "zero_snr": lambda: tiny.sd(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "ddim_linspace": lambda: tiny.sd(timestep_spacing="linspace"),
    "ddim_threshold": lambda: tiny.sd(thresholding=True),
    "karras": other_scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True),
    "plms": other_scheduler("PNDMScheduler", skip_prk_steps=True),
    "EulerDiscreteScheduler": other_scheduler("EulerDiscreteScheduler"),
    **{name: other_scheduler(name) for name in NATIVE},
}
OURS = {"sd": "ddim", "shapes": "ddim", "v_prediction": "ddim", "sample": "ddim", "sdxl": "euler", "sd3": "euler"}
OURS.update(zero_snr="ddim", EulerDiscreteScheduler="euler")
ALL = sorted(MAKE)


@cache
def pipe_of(name):
    pipe = MAKE[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


@cache
def plain(name, seed, output_type="latent", **more):
    """What the pipeline gives by itself."""
    given = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": output_type, **more}
    return pipe_of(name)(PROMPT, generator=generator(seed), **given).images


def sampler_of(name, **more):
    return PipelineSampler(pipe_of(name), PROMPT, num_inference_steps=STEPS, guidance_scale=4.0, **more)


def noise_for(x, *keys):
    return lambda index: torch.stack([gaussian(x.shape[1:], key, index) for key in keys])


def whole(sampler, *seeds):
    x = sampler.noise(seeds)
    return sampler.denoise(x, 0, sampler.schedule.steps, None, noise_for(x, *seeds), seeds)[0]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.std()))


@pytest.mark.sampled(10)
@pytest.mark.parametrize("name", ALL)
def test_candidate_is_what_plain_diffusers_gives(name):
    sampler = sampler_of(name)
    assert isinstance(sampler, Sampler)
    assert (sampler.solver.name if sampler.solver else None) == OURS.get(name)
    assert sampler.stochastic == (name in STOCHASTIC)
    latents = whole(sampler, 3)
    if OURS.get(name) == "euler":
        close(latents, plain(name, 3))
    else:
        assert torch.equal(latents, plain(name, 3))
    assert float((latents - plain(name, 4)).abs().max()) > 0.1  # the seed matters


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "shapes", "ddim_linspace", "karras", *NATIVE])
def test_parts_equal_the_whole_exactly(name):
    sampler = sampler_of(name)
    x, last = sampler.noise([3, 4]), sampler.schedule.steps
    drawn = noise_for(x, 3, 4)
    expected, _ = sampler.denoise(x, 0, last, None, drawn, [3, 4])
    for cut in {1, last // 2, last - 1}:
        part, state = sampler.denoise(x, 0, cut, None, drawn, [3, 4])
        file = io.BytesIO()
        torch.save((part, state), file)  # as a run keeps it
        file.seek(0)
        part, state = torch.load(file, weights_only=True)
        found, _ = sampler.denoise(part, cut, last, state, drawn, [None, None])
        assert torch.equal(found, expected), f"cut at {cut} of {last}"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "shapes", *sorted(STOCHASTIC), "DPMSolverMultistepScheduler"])
def test_batch_mates_do_not_matter(name):
    sampler = sampler_of(name)
    alone = whole(sampler, 4)
    close(whole(sampler, 3, 4, 9)[1:2], alone)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "shapes"])
def test_decode_is_the_pipelines_image(name):
    sampler = sampler_of(name)
    found = pixels_of(sampler.decode(plain(name, 3))[0])
    assert np.array_equal(found, np.asarray(plain(name, 3, "pil")[0]))
    assert found.std() > 1  # a picture, not a constant


@pytest.mark.parametrize("name", ["sd", "shapes"])
def test_candidate_zero_is_the_plain_image_bit_for_bit(name):
    sampler = sampler_of(name)
    found = sampler.decode(whole(sampler, 3))[0]
    assert np.array_equal(pixels_of(found), np.asarray(plain(name, 3, "pil")[0]))
    assert torch.equal((found * 255).round() / 255, found)


def test_starting_noise_is_diffusers_own_for_each_seed():
    for name in ("sd", "sdxl", "sd3"):
        sampler = sampler_of(name)
        x = sampler.noise([5, 6])
        start = torch.randn(1, *x.shape[1:], generator=generator(6)) * sampler.schedule.start
        assert torch.equal(x[1:], start)
        assert x.dtype == torch.float32


@pytest.mark.parametrize(
    "more",
    [
        {"negative_prompt": "blurred"},
        {"height": 48, "width": 24},
        {"pipe_kwargs": {"guidance_rescale": 0.7}},
    ],
)
def test_settings_reach_the_pipeline(more):
    pipe = pipe_of("sd")
    given = {**more, **more.get("pipe_kwargs", {})}
    given.pop("pipe_kwargs", None)
    expected = pipe(
        PROMPT, generator=generator(3), num_inference_steps=STEPS, guidance_scale=4.0, output_type="latent", **given
    ).images
    found = whole(sampler_of("sd", **more), 3)
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain("sd", 3)) or found.shape != plain("sd", 3).shape


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny.sd(set_alpha_to_one=True),
        tiny.sdxl,
        tiny.sd3,
        MAKE["EulerAncestralDiscreteScheduler"],
        lambda: tiny.sd(prediction_type="v_prediction", set_alpha_to_one=True),
        other_scheduler("EulerAncestralDiscreteScheduler", prediction_type="v_prediction"),
    ],
)
def test_preview_before_the_last_step_is_the_clean_state(make):
    """Where the last level has no noise, the last step goes to the clean estimate itself."""
    sampler = PipelineSampler(make(), PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)
    x, last = sampler.noise([3, 4]), sampler.schedule.steps
    drawn = noise_for(x, 3, 4)
    before, state = sampler.denoise(x, 0, last - 1, None, drawn, [3, 4])
    nfe = sampler.meter.nfe
    preview = sampler.predict(before, last - 1)
    assert sampler.meter.nfe == nfe + 2
    after, _ = sampler.denoise(before, last - 1, last, state, drawn, [None, None])
    close(preview, after)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("name", "passes"), [("sd", 1), ("HeunDiscreteScheduler", 1), ("sdxl", 1), ("sd3", 1)])
@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_nfe_and_forwards_are_counted_where_the_network_runs(name, passes, guidance):
    pipe = pipe_of(name)
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=guidance)
    evaluations = 2 * STEPS - 1 if name == "HeunDiscreteScheduler" else STEPS
    assert sampler.schedule.steps == evaluations
    assert (sampler.meter.nfe, sampler.meter.forwards) == (0, 0)
    network = getattr(pipe, "unet", None) or pipe.transformer
    rows = []
    counter = network.register_forward_hook(lambda module, args, output: rows.append(len(output[0])))
    x = whole(sampler, 1, 2, 3)
    sampler.decode(x)
    counter.remove()
    assert sampler.meter.nfe == 3 * evaluations
    assert sampler.meter.forwards == 3 * evaluations * (2 if guidance > 1 else 1) == sum(rows)
    assert sampler.meter.decodes == 3
    took = sampler.meter.seconds
    assert took["denoise"] > 0
    assert took["decode"] > 0
    assert took["encode"] > 0
    assert took["verify"] == 0


def test_the_prompt_is_encoded_once():
    pipe = tiny.sd()
    calls = []
    pipe.text_encoder.register_forward_hook(lambda *args: calls.append(1))
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, guidance_scale=4.0)
    for _ in range(3):
        sampler.decode(whole(sampler, 1))
    first = len(calls)
    assert first <= 4  # prompt and negative prompt, for one image and none more for the same batch size
    sampler.with_steps(4).decode(whole(sampler, 2))
    assert len(calls) == first


def photograph(pipe):
    """All of a pipeline that a caller could see changed."""
    return SimpleNamespace(
        scheduler=pipe.scheduler,
        scheduler_state={key: copy.deepcopy(value) for key, value in pipe.scheduler.__dict__.items()},
        config=dict(pipe.config),
        keys={key for key in pipe.__dict__ if key not in CALLS_SET},
        bar=copy.deepcopy(pipe.__dict__.get("_progress_bar_config")),
        encode=pipe.__dict__.get("encode_prompt"),
        components={name: id(one) for name, one in pipe.components.items()},
        hooks=[
            (len(module._forward_pre_hooks), len(module._forward_hooks))
            for one in pipe.components.values() if isinstance(one, torch.nn.Module) for module in one.modules()
        ],
        training=[one.training for one in pipe.components.values() if isinstance(one, torch.nn.Module)],
    )  # fmt: skip


CALLS_SET = {
    "_guidance_scale", "_guidance_rescale", "_clip_skip", "_cross_attention_kwargs", "_interrupt", "_num_timesteps",
    "_denoising_end", "_joint_attention_kwargs", "_skip_layer_guidance_scale",
}  # fmt: skip
"""What any plain call of a pipeline sets."""


def same(a, b):
    state = {key: repr(value) for key, value in a.scheduler_state.items()}
    assert {key: repr(value) for key, value in b.scheduler_state.items()} == state
    assert a.scheduler is b.scheduler
    for key in ("config", "keys", "bar", "encode", "components", "hooks", "training"):
        assert getattr(a, key) == getattr(b, key), key


def use(pipe):
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=4, guidance_scale=4.0)
    x = sampler.noise([1])
    x, state = sampler.denoise(x, 0, 1, None, noise_for(x, 1), [1])
    sampler.predict(x, 1)
    sampler.denoise(x, 1, sampler.schedule.steps, state, noise_for(x, 1), [None])
    sampler.decode(x)
    assert sampler.description["fingerprint"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", [tiny.sd, tiny.sdxl, tiny.sd3, MAKE["PNDMScheduler"]])
@pytest.mark.parametrize("dressed", [False, True])
def test_the_pipe_is_left_as_it_was_found(make, dressed):
    pipe = make()
    pipe(PROMPT, num_inference_steps=4)  # the first plain call makes transformers install its own hooks
    if dressed:
        pipe.set_progress_bar_config(disable=True, desc="mine")
        own = pipe.encode_prompt
        pipe.encode_prompt = lambda *args, **kwargs: own(*args, **kwargs)
        network = getattr(pipe, "unet", None) or pipe.transformer
        network.register_forward_pre_hook(lambda module, args: None)
        pipe.scheduler.set_timesteps(7)
    before = photograph(pipe)
    use(pipe)
    same(before, photograph(pipe))


@pytest.mark.slow
def test_the_pipe_is_left_as_it_was_found_after_an_exception():
    class Boom(Exception):
        pass

    def boom(*args):
        raise Boom

    for part in ("unet", "vae.decoder", "text_encoder"):
        pipe = tiny.sd()
        use(pipe)
        before = photograph(pipe)
        hook = pipe
        for name in part.split("."):
            hook = getattr(hook, name)
        hook = hook.register_forward_pre_hook(boom)
        with pytest.raises(Boom):
            use(pipe)
        hook.remove()
        same(before, photograph(pipe))
        use(pipe)


def test_an_interrupt_leaves_the_pipe_as_it_was_found():
    pipe = tiny.sd()
    before = photograph(pipe)

    def stop(*args):
        raise KeyboardInterrupt

    hook = pipe.unet.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        use(pipe)
    hook.remove()
    same(before, photograph(pipe))


def test_plain_calls_are_the_same_after_a_search():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 3, "output_type": "latent"}
    before = pipe(PROMPT, generator=generator(1), **given).images
    use(pipe)
    assert torch.equal(pipe(PROMPT, generator=generator(1), **given).images, before)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("states", ["model", "float32"])
def test_half_precision_rounds_its_states_as_the_pipeline_does_or_not_at_all(dtype, states):
    pipe = tiny.sd().to(dtype)
    given = {"num_inference_steps": 3, "guidance_scale": 4.0}
    sampler = PipelineSampler(pipe, PROMPT, **given, states=states, solver=Ddim())
    x = sampler.noise([3])
    assert x.dtype == torch.float32
    # the pipeline draws in its own dtype: rounded once
    assert torch.equal(x.to(dtype).float(), x)
    half, state = sampler.denoise(x, 0, 2)
    assert half.dtype == torch.float32
    assert torch.equal(half.to(dtype).float(), half) == (states == "model")
    y, _ = sampler.denoise(half, 2, 3, state)
    assert torch.equal(y, sampler.denoise(x, 0, 3)[0])
    images = sampler.decode(y)
    assert bool(torch.isfinite(images).all())
    assert images.dtype == torch.float32
    assert sampler.description["dtype"] == str(dtype).removeprefix("torch.")
    assert sampler.description.get("states") == ("model" if states == "model" else None)
    clean = sampler.predict(x, 0)
    assert torch.allclose(sampler.advance(x, 0, clean)[0], sampler.denoise(x, 0, 1)[0], atol=0.1, rtol=0.02)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [tiny.sd, tiny.sdxl, tiny.sd3])
def test_half_precision_gives_the_plain_image(dtype, make):
    pipe = make().to(dtype)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 4, "guidance_scale": 4.0}
    wanted = pipe(PROMPT, generator=generator(3), output_type="pt", **given).images[0].float()
    sampler = PipelineSampler(pipe, PROMPT, **given)
    x, state = sampler.noise([3]), None
    for start, stop in [(0, 1), (1, 3), (3, 4)]:
        x, state = sampler.denoise(x, start, stop, state)
    assert float((sampler.decode(x)[0] - wanted).abs().max()) <= 0.51 / 255
    assert PipelineSampler(pipe, PROMPT, **given, states="float32").solver is not None


def test_states_of_an_unknown_precision_are_refused():
    with pytest.raises(ValueError, match="expected states model or float32, got 'half'"):
        sampler_of("sd", states="half")


def test_with_steps_shares_the_meter_and_keeps_the_settings():
    sampler = sampler_of("sd", negative_prompt="blurred")
    short = sampler.with_steps(2)
    whole(short, 1)
    assert sampler.meter.nfe == 2
    assert (short.schedule.steps, sampler.schedule.steps) == (2, STEPS)
    assert short.description["negative_prompt"] == "blurred"
    with pytest.raises(ValueError, match="at least 1"):
        sampler.with_steps(0)


def test_a_schedule_of_ones_own():
    sampler = sampler_of("sd")
    own = sampler_of("sd", schedule=sampler.schedule)
    assert torch.equal(whole(own, 3), plain("sd", 3))
    s = sampler.schedule
    skipped = Schedule((*s.t[:1], *s.t[2:]), (*s.alpha[:1], *s.alpha[2:]), (*s.sigma[:1], *s.sigma[2:]), s.start)
    other = sampler_of("sd", schedule=skipped)
    assert other.schedule.steps == STEPS - 1
    assert not torch.equal(whole(other, 3), plain("sd", 3))
    assert other.description["schedule"] != sampler.description["schedule"]
    with pytest.raises(ValueError, match="custom schedule needs a solver"):
        sampler_of("PNDMScheduler", schedule=sampler.schedule)


def test_our_solver_on_any_scheduler():
    """PLMS names a level twice; with a solver of ours it is the DDIM pipeline with the same levels."""
    assert sampler_of("plms").schedule.steps == STEPS + 1
    found = sampler_of("plms", solver=Ddim())
    assert found.schedule.steps == STEPS
    assert torch.equal(whole(found, 3), plain("sd", 3))


def test_eta_draws_its_noise_from_what_is_given():
    sampler = sampler_of("sd", solver=Ddim(0.8))
    x = sampler.noise([3])
    assert sampler.stochastic
    a, b, c = (sampler.denoise(x, 0, STEPS, None, noise_for(x, key), [3])[0] for key in ("a", "a", "b"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    with pytest.raises(ValueError, match="step noise"):
        sampler.denoise(x, 0, STEPS)


def test_a_seed_with_eta_is_what_plain_diffusers_gives_and_segments_change_nothing():
    sampler = sampler_of("sd", solver=Ddim(0.8))
    start = noise_particle(3, STEPS)
    found, _ = carry([start], sampler, sampler.noise([3]), None, STEPS)
    close(found, plain("sd", 3, eta=0.8))
    half, _ = carry([start], sampler, sampler.noise([3]), None, 2)
    there = Particle("denoise", (start,), {"to": 2}, 2, STEPS)
    assert torch.equal(carry([there], sampler, half, None, STEPS)[0], found)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_step_from_a_known_estimate_is_the_step(name):
    sampler = sampler_of(name)
    x = sampler.noise([1, 2])
    assert sampler.can_advance
    half, state = sampler.denoise(x, 0, 2)
    before = sampler.meter.nfe
    clean = sampler.predict(half, 2)
    found, _ = sampler.advance(half, 2, clean, state)
    assert sampler.meter.nfe == before + 2
    close(found, sampler.denoise(half, 2, 3, state)[0])


def test_the_gradient_of_a_pipeline_is_that_of_central_differences():
    sampler = sampler_of("sd")
    x = sampler.noise([4]).requires_grad_()
    (slope,) = torch.autograd.grad(sampler.trace(x).double().mean(), x)
    step = 0.03  # float32: wide enough that rounding does not show
    ahead, behind = (sampler.trace(x.detach() + side * step * slope / slope.norm()).double().mean() for side in (1, -1))
    found = float((ahead.detach() - behind.detach()) / (2 * step))
    assert float(slope.norm()) > 0
    assert float(slope.norm()) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("name", NATIVE)
def test_a_branch_inside_a_native_schedule_goes_on(name):
    """From the middle without a history, as after renoise: multistep rules start again there."""
    sampler = sampler_of(name)
    last = sampler.schedule.steps
    x = sampler.noise([1, 2])
    middle = last - 2 if name != "PNDMScheduler" else 2
    y, _ = sampler.denoise(x, middle, last, None, noise_for(x, "branch", "other"), [None, None])
    assert bool(torch.isfinite(y).all())
    again, _ = sampler.denoise(x[:1], middle, last, None, noise_for(x, "branch"), [None])
    close(again, y[:1])


def test_segments_outside_the_schedule_are_refused():
    sampler = sampler_of("sd")
    x = sampler.noise([1])
    for start, stop in ((0, 0), (3, 2), (-1, 2), (0, STEPS + 1)):
        with pytest.raises(ValueError, match="start < stop"):
            sampler.denoise(x, start, stop)


class NoLatents:
    scheduler = DDIMScheduler()

    def __call__(self, prompt, generator=None, num_inference_steps=1, output_type="pil"):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: object(), "got object"),
        (lambda: "a name", "got str"),
        (NoLatents, "latents"),
    ],
)
def test_what_cannot_be_entered_is_refused_in_one_line(make, says):
    with pytest.raises(UnsupportedPipeline, match=says) as caught:
        PipelineSampler(make(), PROMPT, num_inference_steps=2)
    assert "\n" not in str(caught.value)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3"])
def test_where_ctrl_c_met_a_way_it_can_be_gone_on_from(name):
    sampler, pipe = sampler_of(name), pipe_of(name)
    network = getattr(pipe, "unet", None) or pipe.transformer
    passes = []

    def interrupt(*_):
        passes.append(1)
        if len(passes) == 4:  # in the middle of the fourth step
            raise KeyboardInterrupt

    x = sampler.noise([3, 4])
    hook = network.register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            sampler.denoise(x, 0, STEPS)
        index, now, state = sampler.reached
        assert index == 3
        passes[:] = [1, 1, 1]
        with pytest.raises(KeyboardInterrupt):
            sampler.denoise(x, 0, STEPS)
        assert sampler.reached is None
    finally:
        hook.remove()
    assert torch.equal(sampler.denoise(now, index, STEPS, state)[0], sampler.denoise(x, 0, STEPS)[0])


def test_guidance_applied_after_the_seam_is_refused():
    """A pipeline that hands the scheduler both halves would be counted and searched wrongly."""
    pipe = tiny.sd()
    predict = pipe.unet.forward
    pipe.unet.forward = lambda *given, **more: (torch.cat([predict(*given, **more)[0]] * 2),)
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, guidance_scale=4.0)
    with pytest.raises(UnsupportedPipeline, match="guidance is applied elsewhere"):
        sampler.denoise(sampler.noise([1, 2]), 0, 2, seeds=[1, 2])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"pipe_kwargs": {"colour": 3}}, "colour"),
        ({"height": 0, "width": 0}, "height"),
        ({"height": 31, "width": 31}, "divisible by 8"),
        ({"num_inference_steps": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_spent(more, says):
    with pytest.raises(ValueError, match=says):
        PipelineSampler(pipe_of("sd"), PROMPT, **{"num_inference_steps": 2, **more})


@pytest.mark.slow
def test_fingerprint_reads_weights_and_settings(tmp_path):
    pipe = tiny.sd()
    first = fingerprint(pipe)
    assert fingerprint(tiny.sd()) == first
    assert fingerprint(tiny.sd(seed=1)) != first
    assert fingerprint(tiny.sd(prediction_type="v_prediction")) != first
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    assert fingerprint(load_pipeline(tmp_path, device="cpu")) == first
    assert fingerprint(tiny.sd().to(torch.bfloat16)) != first
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] += 1
    assert fingerprint(pipe) != first


def test_load_pipeline_refuses_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="model_index"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="safetensors"):
        load_pipeline(tmp_path)
    (tmp_path / "unet.bin").unlink()
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        load_pipeline(tmp_path)
    assert "\n" not in str(caught.value)


def test_images_that_a_safety_checker_blacked_out_are_known(monkeypatch):
    def checked(images, device, dtype):
        flags = [row % 2 == 1 for row in range(len(images))]
        for row, flag in enumerate(flags):
            if flag:
                images[row] = 0.0
        return images, flags

    pipe = pipe_of("sd")
    monkeypatch.setattr(pipe, "run_safety_checker", checked)
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2)
    assert sampler.flagged == []
    x, _ = sampler.denoise(sampler.noise([0, 1, 2]), 0, 2)
    images = sampler.decode(x)
    assert sampler.flagged == [False, True, False]
    assert images.flatten(1).std(1).tolist()[1] == 0
    sampler.decode(x[:1])
    assert sampler.flagged == [False]
