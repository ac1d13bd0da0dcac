"""CogVideoX: latents (batch, frames, channels, height, width), schedulers of its own with zero SNR at the end."""

from __future__ import annotations

from typing import Any

import torch

from families._video import WIDTH, byte_tokenizer, stirred, t5
from families.family import Family

SIDE, FRAMES, TOKENS = 32, 9, 16


def _make(scheduler: str) -> Any:
    import diffusers

    torch.manual_seed(0)
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=WIDTH, num_layers=2, sample_width=4, sample_height=4, sample_frames=FRAMES, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=TOKENS,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), latent_channels=4,
        layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
    ).eval()  # fmt: skip
    own = getattr(diffusers, scheduler)(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, snr_shift_scale=3.0, set_alpha_to_one=True, timestep_spacing="trailing",
        clip_sample=False,
    )  # fmt: skip
    return diffusers.CogVideoXPipeline(
        tokenizer=byte_tokenizer(), text_encoder=t5(), vae=vae, transformer=stirred(network), scheduler=own
    )


def make() -> Any:
    return _make("CogVideoXDDIMScheduler")


def make_dpm() -> Any:
    return _make("CogVideoXDPMScheduler")


def call() -> dict[str, Any]:
    return {
        "height": SIDE, "width": SIDE, "num_frames": FRAMES, "guidance_scale": 4.0, "max_sequence_length": TOKENS,
        "negative_prompt": "blurred",
    }  # fmt: skip


FAMILIES = (
    Family(
        "cogvideox", "CogVideoX", ("CogVideoXPipeline",), make, call=call, models=("zai-org/CogVideoX-2b",)
    ),
    Family(
        "cogvideox-dpm", "CogVideoX with its own DPM", ("CogVideoXPipeline",), make_dpm, call=call,
        models=("zai-org/CogVideoX-5b",),
    ),
)  # fmt: skip
