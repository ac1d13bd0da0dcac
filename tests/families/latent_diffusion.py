"""The first latent diffusion model of texts, with its own BERT."""

from diffusers import LDMTextToImagePipeline
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

import tiny
from families.family import Family
from families.parts import sized


def make():
    pipe = tiny.sd()
    bert = LDMBertModel(
        LDMBertConfig(
            vocab_size=190, max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=37,
            encoder_attention_heads=4, head_dim=8, d_model=32,
        )
    ).eval()  # fmt: skip
    return LDMTextToImagePipeline(
        vqvae=pipe.vae, bert=bert, tokenizer=pipe.tokenizer, unet=pipe.unet, scheduler=pipe.scheduler
    )


FAMILY = Family(
    name="ldm",
    title="Latent Diffusion (text to image)",
    classes=("LDMTextToImagePipeline",),
    make=make,
    call=sized(64, guidance_scale=4.0),
    models=("CompVis/ldm-text2im-large-256",),
)
