"""Pipelines of the size of SDXL and FLUX.1 with random weights, made where they run; and the same, tiny.

The configurations are those of the released models. Text encoders are left out: embeddings of a prompt are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

SDXL_UNET = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SDXL_TINY = {
    "sample_size": 16, "block_out_channels": (16, 32), "attention_head_dim": (2, 4), "cross_attention_dim": 32,
    "layers_per_block": 1, "norm_num_groups": 8, "transformer_layers_per_block": (1, 1),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80,
}  # fmt: skip
SDXL_SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
    "timestep_spacing": "leading",
}  # fmt: skip
FLUX_TRANSFORMER = {
    "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
FLUX_TINY = {
    "in_channels": 16, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip
FLUX_SCHEDULER = {
    "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}  # fmt: skip
VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 1024}
VAE_TINY = {"block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 32, "norm_num_groups": 8}


@dataclass(frozen=True)
class Model:
    """A pipeline, and the arguments that stand for a prompt in its call.

    Attributes:
        pipe: the pipeline, without text encoders.
        given: embeddings and settings of its call.
        batches: micro-batches to be timed.
        side: of its images in pixels.
        steps: of each image.
    """

    pipe: Any
    given: dict[str, Any]
    batches: tuple[int, ...]
    side: int
    steps: int


def _made(kind: Any, config: dict[str, Any], device: str, dtype: torch.dtype) -> Any:
    """A network of random weights that are drawn on the device, in the precision that they stay in."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return kind(**config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def _vae(tiny: bool, device: str, dtype: torch.dtype, **more: Any) -> AutoencoderKL:
    config = VAE_TINY if tiny else VAE
    blocks = len(config["block_out_channels"])
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * blocks, "up_block_types": ("UpDecoderBlock2D",) * blocks}
    return _made(AutoencoderKL, {**config, **kinds, **more}, device, dtype)


def sdxl(device: str, dtype: torch.dtype, *, tiny: bool = False, seed: int = 0) -> Model:
    """Stable Diffusion XL at 512 x 512; tiny at 32 x 32."""
    torch.manual_seed(seed)
    unet = _made(UNet2DConditionModel, {**SDXL_UNET, **(SDXL_TINY if tiny else {})}, device, dtype)
    pipe = StableDiffusionXLPipeline(
        vae=_vae(tiny, device, dtype, latent_channels=4, scaling_factor=0.13025), unet=unet, text_encoder=None,
        text_encoder_2=None, tokenizer=None, tokenizer_2=None, scheduler=EulerDiscreteScheduler(**SDXL_SCHEDULER),
        add_watermarker=False,
    )  # fmt: skip
    width = unet.config.cross_attention_dim
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    given = {
        f"{sign}{name}": torch.randn(shape, dtype=dtype, device=device)
        for sign in ("", "negative_")
        for name, shape in (("prompt_embeds", (1, 77, width)), ("pooled_prompt_embeds", (1, pooled)))
    }
    side = 32 if tiny else 512
    given |= {"guidance_scale": 5.0, "height": side, "width": side}
    return Model(_quiet(pipe), given, (1, 2) if tiny else (1, 2, 4, 8, 16), side, 2 if tiny else 25)


def flux(device: str, dtype: torch.dtype, *, tiny: bool = False, seed: int = 0) -> Model:
    """FLUX.1 [dev] at 512 x 512; tiny at 32 x 32."""
    torch.manual_seed(seed)
    net = _made(FluxTransformer2DModel, {**FLUX_TRANSFORMER, **(FLUX_TINY if tiny else {})}, device, dtype)
    vae = _vae(
        tiny, device, dtype, latent_channels=net.config.in_channels // 4, scaling_factor=0.3611, shift_factor=0.1159,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**FLUX_SCHEDULER), vae=vae, transformer=net, text_encoder=None,
        text_encoder_2=None, tokenizer=None, tokenizer_2=None,
    )  # fmt: skip
    tokens = 16 if tiny else 512
    side = 32 if tiny else 512
    given = {
        "prompt_embeds": torch.randn(1, tokens, net.config.joint_attention_dim, dtype=dtype, device=device),
        "pooled_prompt_embeds": torch.randn(1, net.config.pooled_projection_dim, dtype=dtype, device=device),
        "guidance_scale": 3.5, "height": side, "width": side,
    }  # fmt: skip
    return Model(_quiet(pipe), given, (1, 2) if tiny else (1, 2, 4, 8), side, 2 if tiny else 8)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


MODELS = {"sdxl": sdxl, "flux": flux}
