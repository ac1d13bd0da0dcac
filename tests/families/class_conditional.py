"""DiT: a class in place of a prompt, and learned variances."""

import tiny
from families.family import Family

FAMILY = Family(
    name="dit",
    title="DiT",
    classes=("DiTPipeline",),
    make=tiny.dit,
    prompt=None,
    call=lambda: {"class_label": 1, "guidance_scale": 4.0},
    models=("facebook/DiT-XL-2-256", "facebook/DiT-XL-2-512"),
)
