"""Tiny randomly initialised pipelines of real diffusers components, built in a second."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SD_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


@cache
def _tokenizer_files() -> Path:
    """A byte-level CLIP vocabulary without merges."""
    from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer  # noqa: F401 - documents the byte alphabet

    letters = [chr(n) for n in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    directory = Path(tempfile.mkdtemp(prefix="tiny-tokenizer-"))
    (directory / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    return directory


def tokenizer() -> CLIPTokenizer:
    files = _tokenizer_files()
    return CLIPTokenizer(
        str(files / "vocab.json"), str(files / "merges.txt"), model_max_length=24, pad_token="<|endoftext|>"
    )


def text_config(**more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=190, hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
        max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1, **more,
    )  # fmt: skip


def _vae(sample_size: int = 32) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=sample_size,
    ).eval()  # fmt: skip


def sd(scheduler: Any = None, seed: int = 0, **scheduler_config: Any) -> StableDiffusionPipeline:
    """Stable Diffusion at 32x32, f = 2."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, norm_num_groups=8, attention_head_dim=4,
    ).eval()  # fmt: skip
    return StableDiffusionPipeline(
        vae=_vae(), text_encoder=CLIPTextModel(text_config()).eval(), tokenizer=tokenizer(), unet=unet,
        scheduler=scheduler or DDIMScheduler(**{**SD_SCHEDULER, **scheduler_config}),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(scheduler: Any = None, seed: int = 0) -> StableDiffusionXLPipeline:
    """SDXL at 32x32, f = 2, with its two text encoders and its Euler scheduler."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
    ).eval()  # fmt: skip
    config = text_config(hidden_act="gelu", projection_dim=32)
    return StableDiffusionXLPipeline(
        vae=_vae(32), text_encoder=CLIPTextModel(config).eval(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(), tokenizer=tokenizer(), tokenizer_2=tokenizer(),
        unet=unet,
        scheduler=scheduler
        or EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )  # fmt: skip


def sd3(seed: int = 0, sample_size: int = 16) -> Any:
    """Stable Diffusion 3 (flow matching, shift 3) without its T5; images are twice ``sample_size``."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=sample_size, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4,
    ).eval()  # fmt: skip
    config = text_config(hidden_act="gelu", projection_dim=32)
    vae = AutoencoderKL(
        block_out_channels=(16, 32), latent_channels=4, norm_num_groups=8, sample_size=32, shift_factor=0.06,
        scaling_factor=1.5, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
        text_encoder=CLIPTextModelWithProjection(config).eval(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(), text_encoder_3=None, tokenizer=tokenizer(),
        tokenizer_2=tokenizer(), tokenizer_3=None,
    )  # fmt: skip


def dit(scheduler: Any = None, seed: int = 0) -> Any:
    """DiT at 16x16, f = 2, with ImageNet's thousand classes, of which three have names, and learned variances."""
    from diffusers import DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(seed)
    transformer = DiTTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, num_embeds_ada_norm=1000,
    ).eval()  # fmt: skip
    names = {"0": "tench, Tinca tinca", "1": "goldfish", "3": "tiger shark"}
    return DiTPipeline(
        transformer, _vae(16), scheduler or DDIMScheduler(**{**SD_SCHEDULER, "steps_offset": 0}), id2label=names
    )


def class_flow(seed: int = 0) -> Any:
    """A class-conditional flow pipeline in pixel space at 16x16, with three classes."""
    from noisewright.pipelines.class_flow import ClassConditionalFlowPipeline, ClassFlowTransformer

    torch.manual_seed(seed)
    transformer = ClassFlowTransformer(
        sample_size=16, width=32, depth=3, heads=2, num_classes=3, modulations=2, refine=4
    ).eval()
    with torch.no_grad():  # as made, it predicts nothing
        transformer.finish.weight.normal_(std=0.3)
        for layer in transformer.modulate:
            layer.weight.normal_(std=0.05)
    names = {"0": "cat", "1": "dog", "2": "frog"}
    return ClassConditionalFlowPipeline(transformer, FlowMatchEulerDiscreteScheduler(), names)


def captioned(root, count, size=32):
    """``count`` pictures of one colour each, with "a dog" and "a cat" in turn in .txt files beside them."""
    for n in range(count):
        Image.new("RGB", (size, size), (240 * n // count, 10, 90)).save(root / f"{n}.png")
        (root / f"{n}.txt").write_text("a cat" if n % 2 else "a dog")
    return root
