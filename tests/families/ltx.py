"""LTX-Video: packed latents (batch, tokens, channels), flow matching with a shift by the length."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from families._video import WIDTH, byte_tokenizer, stirred, t5
from families.family import Family

SIDE, FRAMES = 32, 9


def _parts(conditioned: bool = False) -> dict[str, Any]:
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel

    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1), spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=conditioned, patch_size=1,
        patch_size_t=1, encoder_causal=True, decoder_causal=False,
    ).eval()  # fmt: skip
    network = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=2, caption_channels=WIDTH,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return {
        "scheduler": scheduler, "vae": vae, "text_encoder": t5(), "tokenizer": byte_tokenizer(),
        "transformer": stirred(network),
    }  # fmt: skip


def make() -> Any:
    from diffusers import LTXPipeline

    return LTXPipeline(**_parts())


def make_conditioned() -> Any:
    """From 0.9.1 on: the decoder takes a last step, with noise of its own."""
    from diffusers import LTXPipeline

    return LTXPipeline(**_parts(conditioned=True))


def make_image_to_video() -> Any:
    from diffusers import LTXImageToVideoPipeline

    return LTXImageToVideoPipeline(**_parts())


def call() -> dict[str, Any]:
    return {
        "height": SIDE, "width": SIDE, "num_frames": FRAMES, "guidance_scale": 3.0, "max_sequence_length": 24,
        "negative_prompt": "blurred",
    }  # fmt: skip


def call_with_image() -> dict[str, Any]:
    return {**call(), "image": Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")}


def call_conditioned() -> dict[str, Any]:
    return {**call(), "decode_timestep": 0.05, "decode_noise_scale": 0.1}


FAMILIES = (
    Family("ltx", "LTX-Video", ("LTXPipeline",), make, call=call, models=("Lightricks/LTX-Video",)),
    Family(
        "ltx-noisy-decoder", "LTX-Video 0.9.1 and later", ("LTXPipeline",), make_conditioned, call=call_conditioned,
        models=("Lightricks/LTX-Video-0.9.5",),
    ),
    Family(
        "ltx-image-to-video", "LTX-Video (image to video)", ("LTXImageToVideoPipeline",), make_image_to_video,
        call=call_with_image, models=("Lightricks/LTX-Video",),
    ),
)  # fmt: skip
