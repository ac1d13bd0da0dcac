"""LoRA files of the tiny pipelines, for tests."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
LAYERS = ("attn1.to_q", "attn1.to_v", "attn2.to_k")
PLACE = "down_blocks.1.attentions.0.transformer_blocks.0"


def weights(seed=0, rank=2, layers=LAYERS, width=32, text=True):
    """A LoRA of the tiny U-Net's attention (and text encoder) by diffusers' names."""
    torch.manual_seed(seed)
    found = {}
    for layer in layers:
        found[f"unet.{PLACE}.{layer}.lora_A.weight"] = torch.randn(rank, width)
        found[f"unet.{PLACE}.{layer}.lora_B.weight"] = torch.randn(width, rank)
    if text:
        found["text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.randn(rank, 32)
        found["text_encoder.encoder.layers.0.self_attn.q_proj.lora_B.weight"] = torch.randn(32, rank)
    return found


def write(path, held=None, **settings):
    metadata = {"lora_adapter_metadata": json.dumps(settings)} if settings else None
    save_file(weights() if held is None else held, path, metadata=metadata)
    return path
