"""Pipelines whose weights are elsewhere while they are not needed: the same images, fingerprint and batches."""

import accelerate
import pytest
import torch
from diffusers.hooks import apply_group_offloading

import tiny
from noisewright import registry
from noisewright.samplers.fingerprint import fingerprint

CPU = torch.device("cpu")
HALF_A_STEP = 0.5 / 255 + 1e-5  # the plain image is float
A_STEP = 1.01 / 255
STEPS = 3


def by_model(pipe, folder):
    pipe.enable_model_cpu_offload(device="cpu")


def by_layer(pipe, folder):
    """As ``enable_sequential_cpu_offload`` does; weights wait on the meta device."""
    for network in (pipe.unet, pipe.vae):
        accelerate.cpu_offload(network, execution_device=CPU)
    assert pipe.unet.conv_in.weight.device.type == "meta"


def on_disk(pipe, folder):
    accelerate.disk_offload(pipe.unet, folder, execution_device=CPU)
    assert pipe.unet.conv_in.weight.device.type == "meta"


def in_groups(pipe, folder):
    apply_group_offloading(pipe.unet, onload_device=CPU, offload_type="leaf_level")


WAYS = {"by model": by_model, "by layer": by_layer, "on disk": on_disk, "in groups": in_groups}


def images_of(sampler, seeds):
    x, _ = sampler.denoise(sampler.noise(seeds), 0, STEPS, None, None, seeds)
    return sampler.decode(x)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("way", WAYS)
def test_weights_that_are_elsewhere_change_nothing(way, tmp_path):
    pipe = tiny.sd()
    before = fingerprint(pipe)
    WAYS[way](pipe, tmp_path)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": STEPS, "output_type": "pt"}
    plain = pipe("a cat", generator=torch.Generator("cpu").manual_seed(7), **given).images
    sampler = registry.make_sampler(pipe, "a cat", {"num_inference_steps": STEPS})
    found = images_of(sampler, [7])
    torch.testing.assert_close(found, plain, rtol=0, atol=HALF_A_STEP)
    torch.testing.assert_close(images_of(sampler, [3, 7])[1:], found, rtol=0, atol=A_STEP)
    x = sampler.noise([7])
    part, state = sampler.denoise(x, 0, 1, None, None, [7])
    rest, _ = sampler.denoise(part, 1, STEPS, state, None, [7])
    torch.testing.assert_close(sampler.decode(rest), found, rtol=0, atol=A_STEP)
    assert sampler.device.type == "cpu"
    assert fingerprint(pipe) == before
    after = pipe("a cat", generator=torch.Generator("cpu").manual_seed(7), **given).images
    assert torch.equal(after, plain)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_weights_that_are_nowhere_are_refused(name):
    pipe = tiny.sd()
    getattr(pipe, name).to("meta")
    with pytest.raises(ValueError, match=f"expected a StableDiffusionPipeline with weights, got a {name} on the meta"):
        registry.make_sampler(pipe, "a cat", {"num_inference_steps": STEPS})
