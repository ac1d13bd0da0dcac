"""Kandinsky 2.2: a decoder of image embeddings, and prior and decoder as one."""

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22CombinedPipeline,
    KandinskyV22Pipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import CLIPTextModelWithProjection

import tiny
from families.family import Family
from families.parts import image_encoder, image_processor, sized


def decoder_parts():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=8, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", addition_embed_type="image", encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj", cross_attention_dim=16, attention_head_dim=4, norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    ).eval()  # fmt: skip
    movq = VQModel(
        block_out_channels=(32, 32), latent_channels=4, norm_num_groups=8, num_vq_embeddings=16, vq_embed_dim=4,
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), norm_type="spatial",
    ).eval()  # fmt: skip
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, clip_sample=False, variance_type="learned_range")
    return {"unet": unet, "movq": movq, "scheduler": scheduler}


def embeddings():
    """What a prior makes of a prompt and of none."""
    drawn = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(3))
    return {"image_embeds": drawn[0], "negative_image_embeds": drawn[1]}


def combined():
    parts = decoder_parts()
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, embedding_dim=32, num_layers=1, num_embeddings=24
    )
    with torch.no_grad():
        prior.clip_std.fill_(1.0)
    return KandinskyV22CombinedPipeline(
        **parts, prior_prior=prior.eval(), prior_image_encoder=image_encoder(),
        prior_text_encoder=CLIPTextModelWithProjection(tiny.text_config(projection_dim=32)).eval(),
        prior_tokenizer=tiny.tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
        prior_image_processor=image_processor(),
    )  # fmt: skip


FAMILIES = (
    Family(
        name="kandinsky-2.2-decoder",
        title="Kandinsky 2.2, the decoder",
        classes=("KandinskyV22Pipeline",),
        make=lambda: KandinskyV22Pipeline(**decoder_parts()),
        prompt=None,
        call=lambda: {"height": 32, "width": 32, **embeddings()},
        models=("kandinsky-community/kandinsky-2-2-decoder",),
    ),
    Family(
        name="kandinsky-2.2",
        title="Kandinsky 2.2, prior and decoder as one",
        classes=("KandinskyV22CombinedPipeline",),
        make=combined,
        call=sized(32, prior_num_inference_steps=2),
        models=("kandinsky-community/kandinsky-2-2-decoder",),
    ),
)
