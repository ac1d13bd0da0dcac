"""HunyuanDiT: a transformer of v-predictions, told the text by BERT and T5."""

import torch
from diffusers import AutoencoderKL, DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel

from families.family import Family, randomised
from families.parts import letters, sized, t5


def make():
    torch.manual_seed(0)
    vae = AutoencoderKL(  # f = 8, which the pipeline takes for granted
        block_out_channels=(8, 8, 16, 16), latent_channels=4, norm_num_groups=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    transformer = HunyuanDiT2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
        cross_attention_dim=32, cross_attention_dim_t5=32, pooled_projection_dim=16, hidden_size=24,
        activation_fn="gelu-approximate",
    )  # fmt: skip
    bert = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=37,
        max_position_embeddings=77,
    )  # fmt: skip
    return HunyuanDiTPipeline(
        vae=vae, text_encoder=BertModel(bert).eval(), tokenizer=letters(77, begin="<s>"),
        transformer=randomised(transformer, 0.2),
        scheduler=DDPMScheduler(
            beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", prediction_type="v_prediction",
            clip_sample=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False, text_encoder_2=t5(),
        tokenizer_2=letters(256),
    )  # fmt: skip


FAMILY = Family(
    name="hunyuan-dit",
    title="HunyuanDiT",
    classes=("HunyuanDiTPipeline",),
    make=make,
    call=sized(64, use_resolution_binning=False),
    models=("Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",),
)
