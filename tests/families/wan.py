"""Wan 2.1 and 2.2: latents (batch, channels, frames, height, width), flow matching, one or two networks."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from families._video import WIDTH, byte_tokenizer, stirred, t5
from families.family import Family

SIDE, FRAMES = 32, 9


def _network(seed: int, channels: int = 16) -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    return stirred(WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=16,
        text_dim=WIDTH, freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, rope_max_seq_len=32,
    ), seed=seed)  # fmt: skip


def _vae() -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return stirred(AutoencoderKLWan(
        base_dim=6, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ))


def _parts(scheduler: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    return {"tokenizer": byte_tokenizer(), "text_encoder": t5(umt5=True), "vae": _vae(), "scheduler": scheduler}


def _euler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def _unipc() -> Any:
    """As the published models have it."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def make() -> Any:
    from diffusers import WanPipeline

    return WanPipeline(**_parts(_euler()), transformer=_network(1))


def make_unipc() -> Any:
    from diffusers import WanPipeline

    return WanPipeline(**_parts(_unipc()), transformer=_network(1))


def make_two_networks() -> Any:
    """Wan 2.2: one network for the high noise, another for the rest."""
    from diffusers import WanPipeline

    return WanPipeline(
        **_parts(_unipc()), transformer=_network(1), transformer_2=_network(2), boundary_ratio=0.875
    )


def make_image_to_video() -> Any:
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        **_parts(_euler()), transformer=_network(1, channels=36), image_encoder=None, image_processor=None
    )


def call() -> dict[str, Any]:
    return {
        "height": SIDE, "width": SIDE, "num_frames": FRAMES, "guidance_scale": 4.0, "max_sequence_length": 24,
        "negative_prompt": "blurred",
    }  # fmt: skip


def call_with_image() -> dict[str, Any]:
    return {**call(), "image": Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")}


FAMILIES = (
    Family("wan", "Wan (text to video)", ("WanPipeline",), make, call=call),
    Family(
        "wan-unipc", "Wan 2.1 with its own UniPC", ("WanPipeline",), make_unipc, call=call,
        models=("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.1-T2V-14B-Diffusers"),
    ),
    Family(
        "wan-two-networks", "Wan 2.2 (two networks)", ("WanPipeline",), make_two_networks, call=call,
        models=("Wan-AI/Wan2.2-T2V-A14B-Diffusers",),
    ),
    Family(
        "wan-image-to-video", "Wan (image to video)", ("WanImageToVideoPipeline",), make_image_to_video,
        call=call_with_image, models=("Wan-AI/Wan2.2-I2V-A14B-Diffusers",),
    ),
)  # fmt: skip
