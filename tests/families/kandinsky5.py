"""Kandinsky 5 for images."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5T2IPipeline, Kandinsky5Transformer3DModel

import tiny
from families._flow import clip, letters, lively, qwen_vl, reader, vae
from families.family import Family


def make() -> Kandinsky5T2IPipeline:
    torch.manual_seed(0)
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=16, in_text_dim2=32, time_dim=32, model_dim=32, ff_dim=64,
        num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6),
    )  # fmt: skip
    pipe = Kandinsky5T2IPipeline(
        transformer=lively(transformer), vae=vae(halvings=3), text_encoder=qwen_vl(),
        tokenizer=reader(letters(longest=600)),
        text_encoder_2=clip(max_position_embeddings=77), tokenizer_2=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.resolutions = [(64, 64)]  # it makes images of a few sizes only
    return pipe


def call() -> dict[str, Any]:
    return {"height": 64, "width": 64, "guidance_scale": 3.5, "max_sequence_length": 256}


FAMILY = Family(
    "kandinsky5", "Kandinsky 5 Image", ("Kandinsky5T2IPipeline",), make, call=call,
    models=("kandinskylab/Kandinsky-5.0-T2I-Lite-sft-Diffusers",),
)  # fmt: skip
