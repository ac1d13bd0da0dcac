"""What a pipeline's call needs: what is missing is named in one line before anything is spent."""

import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    FluxControlNetPipeline,
    FluxFillPipeline,
    FluxKontextPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
)

import noisewright as nw
import tiny
from noisewright.samplers.requirements import check_dtype, check_size, images_needed


def search(pipe, **more):
    given = {"verifier": "sharpness", "budget": "1 images", "num_inference_steps": 1, **more}
    return nw.search(pipe, given.pop("prompt", "a cat"), **given)


def without(pipe, name):
    setattr(pipe, name, None)
    return pipe


@pytest.mark.parametrize("name", ["vae", "unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(name):
    with pytest.raises(ValueError, match=f"got one whose {name} is None") as caught:
        search(without(tiny.sd(), name))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_a_pipeline_does_without_is_not_missed():
    assert search(tiny.sd3()).images == 1  # without its third text encoder
    pipe = tiny.sd()
    embeds = pipe.encode_prompt("a cat", "cpu", 1, True)
    pipe.text_encoder = pipe.tokenizer = None
    found = search(pipe, prompt_embeds=embeds[0].detach(), negative_prompt_embeds=embeds[1].detach())
    assert found.images == 1


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        (StableDiffusionPipeline, []),
        (StableDiffusionXLImg2ImgPipeline, ["image"]),
        (StableDiffusionInpaintPipeline, ["image", "mask_image"]),
        (FluxFillPipeline, ["image", "mask_image"]),
        (FluxControlNetPipeline, ["control_image"]),
        (FluxKontextPipeline, []),
    ],
)
def test_which_images_are_needed(kind, images):
    assert images_needed(object.__new__(kind)) == images


def test_a_missing_image_is_named():
    for pipe, name in (
        (AutoPipelineForImage2Image.from_pipe(tiny.sd()), "image"),
        (AutoPipelineForInpainting.from_pipe(tiny.sd()), "image"),
    ):
        with pytest.raises(ValueError, match=f"expected an image as {name} for .*--pipeline-arg {name}=FILE"):
            search(pipe)


@pytest.mark.parametrize(("name", "maker"), [("image", "Image2Image"), ("mask_image", "Inpainting")])
def test_an_image_where_none_is_taken_has_the_pipeline_that_takes_it_beside_it(name, maker):
    with pytest.raises(ValueError, match=rf"takes no {name}: diffusers.AutoPipelineFor{maker}.from_pipe\(pipe\)"):
        search(tiny.sd(), **{name: torch.zeros(1, 3, 32, 32)})


@pytest.mark.parametrize(
    ("make", "size", "says"),
    [
        (tiny.sd, (36, 32), "divisible by 8 for StableDiffusionPipeline (nearest: height 32 or 40), got 36 x 32"),
        (tiny.sd, (33, 31), "divisible by 8 for StableDiffusionPipeline (nearest: height 32 or 40, width 24 or 32)"),
        (tiny.sd3, (65, 64), "divisible by 2 for StableDiffusion3Pipeline (nearest: height 64 or 66), got 65 x 64"),
        (tiny.sdxl, (64, 60), "divisible by 8 for StableDiffusionXLPipeline (nearest: width 56 or 64)"),
    ],
)
def test_a_size_that_is_not_made_has_the_nearest_beside_it(make, size, says):
    with pytest.raises(ValueError, match="expected a height and a width") as caught:
        search(make(), height=size[0], width=size[1])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pipeline_that_resizes_by_itself_takes_every_size():
    class Binned:
        image_processor = tiny.sd().image_processor

        def __call__(self, prompt=None, use_resolution_binning=True):
            raise AssertionError("never called")

    check_size(Binned(), "Binned", {"height": 33, "width": 31})
    with pytest.raises(ValueError, match="divisible by 2"):
        check_size(Binned(), "Binned", {"height": 33, "width": 31, "use_resolution_binning": False})


def test_a_number_type_that_the_cpu_has_not_is_refused(monkeypatch):
    pipe = tiny.sd().to(torch.float16)
    check_dtype(tiny.sd(), "StableDiffusionPipeline")

    def conv2d(x, *args, **kwargs):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    with pytest.raises(ValueError, match="in float32 on a CPU, got float16"):
        check_dtype(pipe, "StableDiffusionPipeline")


@pytest.mark.parametrize(
    ("make", "given", "says"),
    [
        (tiny.sd, {"true_cfg_scale": 2.0}, "takes no true_cfg_scale; did you mean guidance_scale?"),
        (tiny.sd3, {"eta": 0.5, "solver": "nope"}, "unknown solver 'nope'"),
        (tiny.dit, {"class_label": 1, "prompt": None, "negative_prompt": "x"}, "DiTPipeline takes no negative_prompt"),
        (tiny.sd3, {"guidance_rescale": 0.5}, "StableDiffusion3Pipeline takes no guidance_rescale"),
        (tiny.sdxl, {"orignal_size": (64, 64)}, "did you mean original_size?"),
    ],
)
def test_a_wrong_argument_of_a_family(make, given, says):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        search(make(), **given)
    assert says in str(caught.value)
