"""Drawn scenes for one prompt, right ones and such as nearly are, with the oracle's verdict on each.

In the groups of ``clip.py`` relations hold clearly or not at all, and there are never more than four things. In
pictures of the diffusion model a thing is a little to the left and far below, or there are five of them. So these are
drawn, too: the things of a relation anywhere, and of what is counted one more or less.
"""

from dataclasses import replace
from pathlib import Path

import clip
import generated
import numpy as np
from diffusers import AutoencoderKL
from generated import Judged

from noisewright.shapes.oracle import Reading, grade_reading
from noisewright.shapes.prompts import Group, Prompt, load_prompts, sample_prompt, sample_scene
from noisewright.shapes.scene import Scene, render

PROMPTS = 1500
KIND_WEIGHTS = {"relation": 0.6, "count": 0.4}
RIGHT = 0.3  # share of the scenes that are drawn right
MOST_LARGE = 2  # of five things: more seldom find room
SEED = 83


def scene_of(rng: np.random.Generator, prompt: Prompt) -> Scene:
    """A scene that is the prompt's, or nearly."""
    if rng.random() < RIGHT:
        return sample_scene(rng, prompt)
    if prompt.relation:
        return sample_scene(rng, Prompt(prompt.groups))
    groups = list(prompt.groups)
    chosen = int(rng.integers(len(groups)))
    count = groups[chosen].count + int(rng.choice([-1, 1]))
    groups[chosen : chosen + 1] = [replace(groups[chosen], count=count)] if count else []
    if sum(group.count for group in groups) > 4:
        groups = [part for group in groups for part in _smaller(rng, group)]
    return sample_scene(rng, Prompt(tuple(groups))) if groups else sample_scene(rng, prompt)


def _smaller(rng: np.random.Generator, group: Group) -> list[Group]:
    """A group whose size is open, most of it small."""
    if group.size:
        return [group]
    large = int(rng.integers(0, MOST_LARGE + 1)) if group.count > MOST_LARGE else 0
    parts = [replace(group, count=large, size="large"), replace(group, count=group.count - large, size="small")]
    return [part for part in parts if part.count]


def prompts_of(rng: np.random.Generator, count: int) -> list[Prompt]:
    """Random prompts, none of the dev or test sets."""
    held_out = {*load_prompts("dev"), *load_prompts("test")}
    kinds, odds = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    found: list[Prompt] = []
    while len(found) < count:
        prompt = sample_prompt(rng, str(rng.choice(kinds, p=odds)))
        crowded = sum(group.count for group in prompt.groups) == 4 and any(g.size == "large" for g in prompt.groups)
        if prompt.text not in held_out and not crowded:
            found.append(prompt)
    return found


def judged(work: Path, vae: AutoencoderKL, device: str) -> Judged:
    """Scenes of ``PROMPTS`` prompts, as many as are generated; every second prompt's through the autoencoder."""
    path = work / f"placed-{PROMPTS}.npz"
    if not path.exists():
        rng = np.random.default_rng(SEED)
        prompts = prompts_of(rng, PROMPTS)
        scenes = [[scene_of(rng, prompt) for _ in range(generated.SEEDS)] for prompt in prompts]
        pictures = np.stack([np.stack([render(scene) for scene in row]) for row in scenes])
        some = pictures[::2].reshape(-1, *pictures.shape[2:])
        pictures[::2] = clip.reconstruct(vae, some, device, clip.MOST_NOISE).reshape(pictures[::2].shape)
        grades = [
            [grade_reading(Reading(scene.things, ()), prompt) for scene in row]
            for row, prompt in zip(scenes, prompts, strict=True)
        ]
        part = path.with_suffix(".part.npz")
        np.savez(
            part, pictures=pictures, texts=np.array([prompt.text for prompt in prompts]),
            right=np.array([[grade.right for grade in row] for row in grades]),
            score=np.array([[grade.score for grade in row] for row in grades]),
        )  # fmt: skip
        part.rename(path)
    with np.load(path) as file:
        return Judged([str(text) for text in file["texts"]], file["pictures"], file["right"], file["score"])
