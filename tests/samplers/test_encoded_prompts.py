"""A prompt is encoded once a run, whatever the micro-batches, and the pixels are those of encoding it each time."""

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextModel, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

import tiny
from noisewright.samplers import seam
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.prompts import remembering

PROMPT = "a cat"


def vae(channels):
    return AutoencoderKL(
        block_out_channels=(16, 32), latent_channels=channels, norm_num_groups=8, sample_size=32, shift_factor=0.06,
        scaling_factor=1.5, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def flux():
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=False,
    ).eval()  # fmt: skip
    t5 = T5Config(vocab_size=190, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), vae(4), CLIPTextModel(tiny.text_config()).eval(), tiny.tokenizer(),
        T5EncoderModel(t5).eval(), tiny.tokenizer(), transformer,
    )  # fmt: skip


def z_image():
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[4, 4, 8], axes_lens=[256, 32, 32],
    ).eval()  # fmt: skip
    with torch.no_grad():
        for one in transformer.parameters():
            one.copy_(torch.randn_like(one) * 0.1)
    config = Qwen3Config(
        vocab_size=190, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    return ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(), vae(4), Qwen3Model(config).eval(), tokenizer, transformer
    )


PIPES = {
    "sd": (tiny.sd, {"guidance_scale": 4.0}, 2),
    "sd plain": (tiny.sd, {"guidance_scale": 1.0}, 1),
    "sdxl": (tiny.sdxl, {"guidance_scale": 4.0, "negative_prompt": "a dog"}, 4),
    "sd3": (tiny.sd3, {"guidance_scale": 4.0}, 4),
    "flux": (flux, {"pipe_kwargs": {"max_sequence_length": 24}, "height": 32, "width": 32}, 2),
    "z_image": (z_image, {"guidance_scale": 4.0, "negative_prompt": ["b"], "height": 32, "width": 32,
                          "pipe_kwargs": {"max_sequence_length": 24}}, 2),
}  # fmt: skip


def encoders(pipe):
    return [one for name, one in sorted(pipe.components.items()) if name.startswith("text_encoder") and one is not None]


def images(sampler, *sizes):
    """Of micro-batches of several sizes, one after the other."""
    made, seed = [], 0
    for size in sizes:
        x = sampler.noise(range(seed, seed + size))
        x, _ = sampler.denoise(x, 0, sampler.schedule.steps)
        made.append(sampler.decode(x))
        seed += size
    return torch.cat(made)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPES)
def test_text_encoders_run_once_a_run(name, monkeypatch):
    make, settings, once = PIPES[name]
    pipe, calls = make(), []
    classes = [type(one) for one in encoders(pipe)]
    for one in encoders(pipe):
        one.register_forward_hook(lambda *args: calls.append(1))
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, **settings)
    found = images(sampler, 1, 3, 2, 4)
    assert len(calls) == once
    assert [type(one) for one in encoders(pipe)] == classes
    images(sampler.with_steps(3), 5)
    assert len(calls) == once

    monkeypatch.setattr(seam, "remembering", lambda pipe, encode, encoded, meter: encode)  # as plain diffusers does
    calls.clear()
    assert torch.equal(images(PipelineSampler(make(), PROMPT, num_inference_steps=2, **settings), 1, 3, 2, 4), found)
    assert settings.get("negative_prompt") in (None, "a dog", ["b"])  # a list, which Z-Image writes into


def test_embeddings_that_are_given_are_told_apart():
    pipe = tiny.sd()
    one, other = torch.zeros(1, 24, 320), torch.zeros(1, 24, 320)
    other[0, 12, 160] = 1e-3
    assert repr(one) == repr(other)
    encoded, asked = {}, []

    def encode(*args, **kwargs):
        asked.append(1)
        return (kwargs["prompt_embeds"] * 2,)

    remembered = remembering(pipe, encode, encoded, PipelineSampler(pipe, PROMPT, num_inference_steps=1).meter)
    for given in (one, other, one.clone(), other):
        assert torch.equal(remembered(prompt_embeds=given)[0], given * 2)
    assert len(asked) == 2


def test_what_a_pipeline_does_to_its_embeddings_is_not_remembered():
    pipe = tiny.sd()
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=1)
    encoded = {}
    remembered = remembering(pipe, pipe.encode_prompt, encoded, sampler.meter)
    given = ("a cat", torch.device("cpu"), 1, True)
    first = remembered(*given)
    kept = [one.clone() for one in first]
    for one in first:
        one.mul_(0)
    for count in (1, 2):
        again = remembered(*given[:2], count, True)
        for one, before in zip(again, kept, strict=True):
            assert torch.equal(one, before.repeat(count, 1, 1))


def test_what_cannot_be_named_is_encoded_each_time():
    pipe, asked = tiny.sd(), []
    meter = PipelineSampler(pipe, PROMPT, num_inference_steps=1).meter
    remembered = remembering(pipe, lambda what: asked.append(what), {}, meter)
    remembered(object())
    remembered(object())
    assert len(asked) == 2


def test_an_encoder_in_training_is_asked_each_time():
    pipe, calls = tiny.sd(), []
    pipe.text_encoder.train()
    pipe.text_encoder.register_forward_hook(lambda *args: calls.append(1))
    images(PipelineSampler(pipe, PROMPT, num_inference_steps=1, guidance_scale=1.0), 1, 2, 3)
    assert len(calls) == 3
    pipe.text_encoder.eval()


@pytest.mark.slow
def test_a_gradient_finds_the_prompt_encoded():
    pipe = tiny.sd()
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=2, guidance_scale=1.0)
    for size in (2, 3, 2):
        x = sampler.noise(range(size)).requires_grad_(True)
        sampler.trace(x).sum().backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.slow
def test_under_inference_mode():
    pipe = tiny.sd()
    with torch.inference_mode():
        made = images(PipelineSampler(pipe, PROMPT, num_inference_steps=2), 1, 2, 1)
    assert torch.equal(made, images(PipelineSampler(pipe, PROMPT, num_inference_steps=2), 1, 2, 1))
