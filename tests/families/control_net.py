"""ControlNet of Stable Diffusion and SDXL, in effect for a part of the steps."""

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline

import tiny
from families.family import Family
from families.parts import awakened, edges


def control(unet):
    """A control network of a network's sizes, whose control has an effect."""
    torch.manual_seed(1)
    net = awakened(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16)))
    with torch.no_grad():
        net.controlnet_cond_embedding.conv_out.weight.mul_(20)
    return net


def of_sd():
    pipe = tiny.sd()
    return StableDiffusionControlNetPipeline(
        **pipe.components, controlnet=control(pipe.unet), requires_safety_checker=False
    )


def of_sdxl():
    pipe = tiny.sdxl()
    return StableDiffusionXLControlNetPipeline(**pipe.components, controlnet=control(pipe.unet), add_watermarker=False)


FAMILIES = (
    Family(
        name="sd-controlnet",
        title="ControlNet for Stable Diffusion",
        classes=("StableDiffusionControlNetPipeline",),
        make=of_sd,
        call=lambda: {"image": edges(32), "control_guidance_start": 0.25, "control_guidance_end": 0.75},
        models=("lllyasviel/control_v11p_sd15_canny",),
    ),
    Family(
        name="sdxl-controlnet",
        title="ControlNet for SDXL",
        classes=("StableDiffusionXLControlNetPipeline",),
        make=of_sdxl,
        call=lambda: {"image": edges(64), "control_guidance_start": 0.25, "control_guidance_end": 0.75},
        models=("diffusers/controlnet-canny-sdxl-1.0", "xinsir/controlnet-union-sdxl-1.0"),
    ),
)
