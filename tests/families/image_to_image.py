"""Image-to-image and inpainting of Stable Diffusion and SDXL: a picture with noise is where they begin."""

from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)

import tiny
from families.family import Family
from families.parts import altered, mask, picture


def of_sd(pipeline):
    return pipeline(**tiny.sd().components, requires_safety_checker=False)


def of_sdxl(pipeline):
    return pipeline(**tiny.sdxl().components, add_watermarker=False)


def inpainting_unet():
    """Stable Diffusion whose network reads mask and masked picture as well: nine channels."""
    pipe = tiny.sd()
    parts = {**pipe.components, "unet": altered(pipe.unet, in_channels=9)}
    return StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)


FAMILIES = (
    Family(
        name="sd-img2img",
        title="Stable Diffusion image-to-image",
        classes=("StableDiffusionImg2ImgPipeline",),
        make=lambda: of_sd(StableDiffusionImg2ImgPipeline),
        call=lambda: {"image": picture(32), "strength": 0.7},
        steps=6,
        models=("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    ),
    Family(
        name="sd-inpaint",
        title="Stable Diffusion inpainting (a network of nine channels)",
        classes=("StableDiffusionInpaintPipeline",),
        make=inpainting_unet,
        call=lambda: {"image": picture(32), "mask_image": mask(32), "height": 32, "width": 32},
        models=("stable-diffusion-v1-5/stable-diffusion-inpainting",),
    ),
    Family(
        name="sd-inpaint-blended",
        title="Stable Diffusion inpainting with an ordinary network (blended after each step)",
        classes=("StableDiffusionInpaintPipeline",),
        make=lambda: of_sd(StableDiffusionInpaintPipeline),
        call=lambda: {"image": picture(32), "mask_image": mask(32), "height": 32, "width": 32, "strength": 0.8},
        steps=6,
        models=("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    ),
    Family(
        name="sdxl-img2img",
        title="SDXL image-to-image, and its refiner",
        classes=("StableDiffusionXLImg2ImgPipeline",),
        make=lambda: of_sdxl(StableDiffusionXLImg2ImgPipeline),
        call=lambda: {"image": picture(64), "strength": 0.7},
        steps=6,
        models=("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-refiner-1.0"),
    ),
    Family(
        name="sdxl-inpaint",
        title="SDXL inpainting",
        classes=("StableDiffusionXLInpaintPipeline",),
        make=lambda: of_sdxl(StableDiffusionXLInpaintPipeline),
        call=lambda: {"image": picture(64), "mask_image": mask(64), "height": 64, "width": 64, "strength": 0.8},
        steps=6,
        models=("diffusers/stable-diffusion-xl-1.0-inpainting-0.1",),
    ),
)
