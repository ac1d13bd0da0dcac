"""PixArt: a transformer with learned variances, told the text by T5."""

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel

import tiny
from families.family import Family, randomised
from families.parts import letters, sized, t5


def make(pipeline):
    vae = tiny.sd().vae
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, caption_channels=32, cross_attention_dim=16, use_additional_conditions=False,
    )  # fmt: skip
    return pipeline(
        tokenizer=letters(), text_encoder=t5(), vae=vae, transformer=randomised(transformer, 0.2),
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


CALL = sized(32, use_resolution_binning=False, max_sequence_length=24, clean_caption=False)

FAMILIES = (
    Family(
        name="pixart-alpha",
        title="PixArt-Alpha",
        classes=("PixArtAlphaPipeline",),
        make=lambda: make(PixArtAlphaPipeline),
        call=CALL,
        models=("PixArt-alpha/PixArt-XL-2-1024-MS", "PixArt-alpha/PixArt-XL-2-512x512"),
    ),
    Family(
        name="pixart-sigma",
        title="PixArt-Sigma",
        classes=("PixArtSigmaPipeline",),
        make=lambda: make(PixArtSigmaPipeline),
        call=CALL,
        models=("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"),
    ),
)
