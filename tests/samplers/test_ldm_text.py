"""Latent diffusion's text-to-image pipeline: parity with the plain one, with guidance and without."""

import pytest
import torch
from diffusers import LDMTextToImagePipeline
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

import noisewright as nw
import tiny
from noisewright import registry

HALF_A_STEP = 0.5 / 255 + 5e-5  # the plain image is float; guided halves are summed in another order
A_STEP = 1.01 / 255
STEPS = 3
PROMPT = "two red circles"
SIDE = 64


def pipe_of():
    parts = tiny.sd()
    config = LDMBertConfig(
        vocab_size=190, max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=37, encoder_attention_heads=4,
        head_dim=8, d_model=32,
    )  # fmt: skip
    pipe = LDMTextToImagePipeline(
        vqvae=parts.vae, bert=LDMBertModel(config).eval(), tokenizer=parts.tokenizer, unet=parts.unet,
        scheduler=parts.scheduler,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def images_of(sampler, seeds):
    x, _ = sampler.denoise(sampler.noise(seeds), 0, STEPS, None, None, seeds)
    return sampler.decode(x)


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_a_candidate_is_the_plain_pipelines_image(scale):
    pipe = pipe_of()
    given = {"num_inference_steps": STEPS, "guidance_scale": scale, "height": SIDE, "width": SIDE}
    sampler = registry.make_sampler(pipe, PROMPT, given)
    plain = [
        pipe([text], generator=torch.Generator("cpu").manual_seed(seed), output_type="pt", **given).images
        for text, seed in ((PROMPT, 7), (PROMPT, 8), ("a dog", 7))
    ]
    found = images_of(sampler, [7])
    torch.testing.assert_close(found, plain[0], rtol=0, atol=HALF_A_STEP)
    assert float((found - plain[1]).abs().max()) > 2 * A_STEP, "the seed matters"
    assert float((found - plain[2]).abs().max()) > (2 * A_STEP if scale > 1 else 0), "the prompt matters"
    torch.testing.assert_close(images_of(sampler, [3, 7])[1:], found, rtol=0, atol=A_STEP)
    part, state = sampler.denoise(sampler.noise([7]), 0, 1, None, None, [7])
    rest, _ = sampler.denoise(part, 1, STEPS, state, None, [7])
    torch.testing.assert_close(sampler.decode(rest), found, rtol=0, atol=A_STEP)
    assert sampler.solver.name == "ddim"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"negative_prompt": "grey"}, "takes no negative_prompt"),
        ({"height": 60, "width": 64}, "nearest: height 56 or 64"),
    ],
)
def test_wrong_use_is_one_line(given, says):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        nw.search(pipe_of(), PROMPT, verifier="sharpness", budget="1 images", num_inference_steps=1, **given)
    assert says in str(caught.value)
