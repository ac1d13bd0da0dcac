"""Latent consistency models: guidance is an input of the network, and each step draws noise."""

from diffusers import LatentConsistencyModelPipeline, LCMScheduler

import tiny
from families.family import Family
from families.parts import altered, sized


def make():
    pipe = tiny.sd()
    unet = altered(pipe.unet, time_cond_proj_dim=16)
    parts = {**pipe.components, "unet": unet, "scheduler": LCMScheduler(**tiny.SD_SCHEDULER)}
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


FAMILY = Family(
    name="latent-consistency",
    title="Latent consistency models",
    classes=("LatentConsistencyModelPipeline",),
    make=make,
    call=sized(32),
    models=("SimianLuo/LCM_Dreamshaper_v7",),
)
