"""A Stable Diffusion pipeline's weights in the layout of its authors: the names that single-file checkpoints have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
OUTER = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _renamed(rest: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        if rest.startswith(f"{old}."):
            return new + rest[len(old) :]
    return rest


def _unet_name(key: str, layers: int, attends: set[int]) -> str:
    parts = key.split(".")
    if parts[0] == "mid_block":
        place = {"resnets": 2 * int(parts[2]), "attentions": 1}[parts[1]]
        rest = ".".join(parts[3:])
        return f"middle_block.{place}.{_renamed(rest, RESNET) if parts[1] == 'resnets' else rest}"
    if parts[0] not in ("down_blocks", "up_blocks"):
        return _renamed(key, OUTER)
    block, kind, layer = int(parts[1]), parts[2], int(parts[3])
    rest = ".".join(parts[4:])
    first, side = (1, "input_blocks") if parts[0] == "down_blocks" else (0, "output_blocks")
    begin = first + block * (layers + 1)
    if kind == "downsamplers":
        return f"{side}.{begin + layers}.0.op.{parts[-1]}"
    if kind == "upsamplers":
        return f"{side}.{begin + layers}.{2 if block in attends else 1}.conv.{parts[-1]}"
    rest = _renamed(rest, RESNET) if kind == "resnets" else rest
    return f"{side}.{begin + layer}.{0 if kind == 'resnets' else 1}.{rest}"


def _vae_name(key: str, blocks: int) -> str:
    parts = key.split(".")
    if parts[0] not in ("encoder", "decoder"):
        return key
    side, rest = parts[0], ".".join(parts[1:]).replace("conv_norm_out", "norm_out")
    if parts[1] == "mid_block":
        inner = ".".join(parts[4:])
        if parts[2] == "attentions":
            return f"{side}.mid.attn_1.{_renamed(inner, ATTENTION)}"
        return f"{side}.mid.block_{int(parts[3]) + 1}.{inner.replace('conv_shortcut', 'nin_shortcut')}"
    if parts[1] in ("down_blocks", "up_blocks"):
        short = parts[1].removesuffix("_blocks")
        place = int(parts[2]) if short == "down" else blocks - 1 - int(parts[2])
        inner = ".".join(parts[5:])
        if parts[3] == "resnets":
            return f"{side}.{short}.{place}.block.{parts[4]}.{inner.replace('conv_shortcut', 'nin_shortcut')}"
        return f"{side}.{short}.{place}.{short}sample.{inner}"
    return f"{side}.{rest}"


def state_dict(pipe: Any) -> dict[str, Tensor]:
    """All weights of a Stable Diffusion 1 pipeline by their original names."""
    layers = pipe.unet.config.layers_per_block
    attends = {n for n, kind in enumerate(pipe.unet.config.up_block_types) if kind.startswith("CrossAttn")}
    found = {
        f"model.diffusion_model.{_unet_name(key, layers, attends)}": one for key, one in pipe.unet.state_dict().items()
    }
    blocks = len(pipe.vae.config.up_block_types)
    for key, one in pipe.vae.state_dict().items():
        name = _vae_name(key, blocks)
        is_linear = ".mid.attn_1." in name and one.ndim == 2  # there a convolution of 1 x 1
        found[f"first_stage_model.{name}"] = one[:, :, None, None] if is_linear else one
    for key, one in pipe.text_encoder.state_dict().items():
        found[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = one
    return {key: one.detach().clone().contiguous() for key, one in found.items()}


def save(pipe: Any, file: Path, **changes: Any) -> Path:
    """Write a pipeline as one file; ``changes`` are names to tensors, or to None for what is left out."""
    held = {**state_dict(pipe), **changes}
    save_file({key: one for key, one in held.items() if one is not None}, file)
    return file
