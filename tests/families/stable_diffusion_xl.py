"""SDXL and what was made of it: the distilled one, Playground's EDM preconditioning, the base of base and refiner."""

from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, EulerAncestralDiscreteScheduler

import tiny
from families.family import Family
from families.parts import sized


def turbo():
    """SDXL with the scheduler of SDXL-Turbo, which is called with one to four steps and without guidance."""
    return tiny.sdxl(
        EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
        )
    )


def playground(scheduler):
    """SDXL in the form of Playground v2.5: EDM's preconditioning, latents with a mean and a deviation."""
    pipe = tiny.sdxl(scheduler)
    pipe.vae.register_to_config(
        latents_mean=[-1.6, 1.1, 0.4, 0.2], latents_std=[8.4, 5.9, 6.0, 3.7], scaling_factor=0.5
    )
    return pipe


FAMILIES = (
    Family(
        name="sdxl",
        title="SDXL",
        classes=("StableDiffusionXLPipeline",),
        make=tiny.sdxl,
        call=sized(64),
        models=("stabilityai/stable-diffusion-xl-base-1.0", "RunDiffusion/Juggernaut-XL-v9"),
    ),
    Family(
        name="sdxl-turbo",
        title="SDXL-Turbo, SDXL-Lightning and other distilled SDXL (no guidance, trailing steps)",
        classes=("StableDiffusionXLPipeline",),
        make=turbo,
        call=sized(64, guidance_scale=0.0),
        models=("stabilityai/sdxl-turbo", "ByteDance/SDXL-Lightning"),
    ),
    Family(
        name="playground",
        title="Playground v2.5 (EDM)",
        classes=("StableDiffusionXLPipeline",),
        make=lambda: playground(EDMDPMSolverMultistepScheduler()),
        call=sized(64, guidance_scale=3.0),
        models=("playgroundai/playground-v2.5-1024px-aesthetic",),
    ),
    Family(
        name="playground-euler",
        title="Playground v2.5 with the EDM Euler scheduler",
        classes=("StableDiffusionXLPipeline",),
        make=lambda: playground(EDMEulerScheduler()),
        call=sized(64, guidance_scale=3.0),
    ),
    Family(
        name="sdxl-denoising-end",
        title="SDXL as the base before a refiner (denoising_end)",
        classes=("StableDiffusionXLPipeline",),
        make=tiny.sdxl,
        call=sized(64, denoising_end=0.75),
        steps=6,
    ),
)
