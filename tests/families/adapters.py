"""Stable Diffusion with something beside it: IP-Adapter, T2I-Adapter, perturbed attention."""

import torch
from diffusers import (
    StableDiffusionAdapterPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
)

import tiny
from families.family import Family
from families.parts import altered, awakened, edges, image_encoder, image_processor, picture, sized


def ip_adapter():
    """Stable Diffusion with an IP-Adapter of four tokens, read as its files are."""
    pipe = tiny.sd()
    torch.manual_seed(1)
    parts = {**pipe.components, "image_encoder": image_encoder(), "feature_extractor": image_processor()}
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    widths = {name: one.inner_dim for name, one in pipe.unet.named_modules() if name.endswith("attn2")}
    names = [name.removesuffix(".processor") for name in pipe.unet.attn_processors if "attn2" in name]
    matrices = {
        f"{2 * n + 1}.to_{letter}_ip.weight": 0.3 * torch.randn(widths[name], 32)
        for n, name in enumerate(names) for letter in "kv"
    }  # fmt: skip
    projection = {
        "proj.weight": 0.3 * torch.randn(4 * 32, 32), "proj.bias": torch.zeros(4 * 32),
        "norm.weight": torch.ones(32), "norm.bias": torch.zeros(32),
    }  # fmt: skip
    state = {"image_proj": projection, "ip_adapter": matrices}
    pipe.load_ip_adapter([state], subfolder=[""], weight_name=[""], image_encoder_folder=None)
    pipe.set_ip_adapter_scale(0.8)
    return pipe


def t2i_adapter():
    pipe = tiny.sd()
    torch.manual_seed(1)
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    unet = altered(pipe.unet, **blocks)
    adapter = T2IAdapter(in_channels=3, channels=[16, 32], num_res_blocks=1, downscale_factor=2)
    return StableDiffusionAdapterPipeline(
        vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=unet, adapter=awakened(adapter),
        scheduler=pipe.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def perturbed():
    return StableDiffusionPAGPipeline(**tiny.sd().components, requires_safety_checker=False, pag_applied_layers=["mid"])


FAMILIES = (
    Family(
        name="ip-adapter",
        title="IP-Adapter",
        classes=("StableDiffusionPipeline", "StableDiffusionXLPipeline"),
        make=ip_adapter,
        call=sized(32, ip_adapter_image=picture(32)),
        models=("h94/IP-Adapter",),
    ),
    Family(
        name="t2i-adapter",
        title="T2I-Adapter",
        classes=("StableDiffusionAdapterPipeline",),
        make=t2i_adapter,
        call=lambda: {"image": edges(32)},
        models=("TencentARC/t2iadapter_canny_sd15v2",),
    ),
    Family(
        name="pag",
        title="Perturbed-attention guidance",
        classes=("StableDiffusionPAGPipeline",),
        make=perturbed,
        call=sized(32, pag_scale=2.0, pag_adaptive_scale=0.001),
        models=("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    ),
)
