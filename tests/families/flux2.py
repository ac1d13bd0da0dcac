"""FLUX.2: dev, which reads its prompt with a Mistral, and klein, which reads it with a Qwen and has true guidance."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from families._flow import CHAT, CHAT_PARTS, decoder_config, letters, lively
from families.family import Family
from families.parts import picture

LAYERS = (0, 1, 2)


def parts(guidance: bool) -> dict[str, Any]:
    """What both have."""
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16 * len(LAYERS), timestep_guidance_channels=256, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 16), latent_channels=4, norm_num_groups=4, sample_size=32, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return {"transformer": lively(transformer), "vae": lively(vae), "scheduler": scheduler}


def dev() -> Flux2Pipeline:
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **decoder_config()},
        vision_config={"model_type": "pixtral", "image_size": 28, "patch_size": 14, **small},
        image_token_index=8, spatial_merge_size=1,
    )  # fmt: skip
    torch.manual_seed(0)
    text_encoder = lively(Mistral3ForConditionalGeneration(config))
    return Flux2Pipeline(text_encoder=text_encoder, tokenizer=letters(CHAT_PARTS, 1024), **parts(True))


def klein() -> Flux2KleinPipeline:
    torch.manual_seed(0)
    text_encoder = lively(Qwen3ForCausalLM(Qwen3Config(**decoder_config())))
    return Flux2KleinPipeline(text_encoder=text_encoder, tokenizer=letters(CHAT), **parts(False))


def klein_kv() -> Flux2KleinKVPipeline:
    """It reads the image in its first step and remembers what it read."""
    parts = {name: one for name, one in klein().components.items() if name != "is_distilled"}
    return Flux2KleinKVPipeline(**parts)


def call(**more: Any) -> dict[str, Any]:
    return {"height": 32, "width": 32, "text_encoder_out_layers": LAYERS, **more}


def call_dev() -> dict[str, Any]:
    return call(guidance_scale=4.0, max_sequence_length=32)


def call_klein() -> dict[str, Any]:
    return call(guidance_scale=4.0, max_sequence_length=64)


def call_kv() -> dict[str, Any]:
    return call(max_sequence_length=64, image=picture(64))


def call_edit() -> dict[str, Any]:
    return {**call_klein(), "image": picture(64)}


FAMILIES = (
    Family(
        "flux2-dev", "FLUX.2 dev", ("Flux2Pipeline",), dev, call=call_dev, models=("black-forest-labs/FLUX.2-dev",),
    ),
    Family(
        "flux2-klein", "FLUX.2 klein", ("Flux2KleinPipeline",), klein, call=call_klein,
        models=("black-forest-labs/FLUX.2-klein-4B", "black-forest-labs/FLUX.2-klein-9B"),
    ),
    Family(
        "flux2-klein-kv", "FLUX.2 klein that remembers an image", ("Flux2KleinKVPipeline",), klein_kv, call=call_kv,
        models=("black-forest-labs/FLUX.2-klein-9b-kv",),
    ),
    Family("flux2-klein-edit", "FLUX.2 klein with an image", ("Flux2KleinPipeline",), klein, call=call_edit),
)  # fmt: skip
