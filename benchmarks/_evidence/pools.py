"""Pools of plain candidates, made: the images that random search makes of the same prompts and seeds.

A file holds the images of a block of seeds (and their previews), written whole or not at all. On a CPU a block is one
micro-batch of one prompt, as a run has it; on a GPU the blocks of many prompts go through the pipeline together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import noisewright as nw
from _evidence.plans import Block
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.quiet import quiet


@cache
def pipeline(model: str, dtype: str, device: str = "cpu") -> Any:
    """A bundled pipeline."""
    pipe = nw.load(model, dtype=dtype, device=device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(block: Block, root: Path) -> Path:
    """The images of a block, on this process's CPU."""
    file = block.file(root)
    if file.exists():
        return file
    plan = block.plan
    classes = {"class_label": block.prompt.text} if plan.set == "classes" else {}
    with quiet():
        sampler = PipelineSampler(
            pipeline(plan.model, plan.dtype), "" if classes else block.prompt.text, num_inference_steps=plan.steps,
            guidance_scale=plan.guidance, **classes,
        )  # fmt: skip
        found = _sampled(sampler, block.seeds, plan.level)
    _save(file, found)
    return file


def _sampled(sampler: PipelineSampler, seeds: Sequence[int], level: float | None) -> dict[str, torch.Tensor]:
    x, state, steps = sampler.noise(list(seeds)), None, sampler.schedule.steps
    if level is None:
        x, _ = sampler.denoise(x, 0, steps)
        return {"images": sampler.decode(x)}
    index = sampler.schedule.nearest(level)
    x, state = sampler.denoise(x, 0, index)
    clean = sampler.predict(x, index)
    x, _ = sampler.denoise(x, index, steps, state)  # asks again: images are those of a run without previews
    return {"images": sampler.decode(x), "previews": sampler.decode(clean)}


def make_together(blocks: Sequence[Block], root: Path, device: str) -> list[Path]:
    """The images of blocks of one pool without previews, in one call of the pipeline: prompts side by side."""
    plan = blocks[0].plan
    pipe = pipeline(plan.model, plan.dtype, device)
    pairs = [(block.prompt.text, seed) for block in blocks for seed in block.seeds]
    generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in pairs]  # noise as on a CPU
    asked_for = {"prompt": [text for text, _ in pairs]}
    if plan.set == "classes":
        asked_for = {"class_labels": [text for text, _ in pairs]}
    images = pipe(
        **asked_for, generator=generators, num_inference_steps=plan.steps, guidance_scale=plan.guidance,
        output_type="pt",
    ).images.float().cpu()  # fmt: skip
    files, begin = [], 0
    for block in blocks:
        end = begin + len(block.seeds)
        _save(block.file(root), {"images": images[begin:end]})
        files.append(block.file(root))
        begin = end
    return files


def _save(file: Path, found: dict[str, torch.Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: (one.clamp(0, 1) * 255).round().byte().numpy() for name, one in found.items()}
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(file)


def images_of(file: Path, name: str = "images") -> torch.Tensor:
    """(n, 3, height, width) in [0, 1]."""
    with np.load(file, allow_pickle=False) as held:
        return torch.from_numpy(held[name]).float() / 255
