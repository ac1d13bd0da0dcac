"""The data set: prompts, their scenes, and the pictures, deterministic by seed and kept in a file."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from noisewright.shapes.prompts import KINDS, Prompt, sample_prompt, sample_scene, sample_sets
from noisewright.shapes.prompts import kind as kind_of
from noisewright.shapes.scene import SIDE_PX, Scene, render

SETS_SEED = 2026
TRAIN_SEED = 1
CHUNK = 2000
# Kinds of prompts in training: more of those that are hard.
KIND_WEIGHTS = {"single": 0.12, "count": 0.24, "relation": 0.26, "two": 0.16, "three": 0.22}


def draw(seed: int, count: int, weights: dict[str, float] | None = None) -> list[tuple[Prompt, Scene]]:
    """``count`` prompts with a scene for each, kinds by weight (balanced by default)."""
    rng = np.random.default_rng(seed)
    weights = weights or dict.fromkeys(KINDS, 1 / len(KINDS))
    kinds = rng.choice(list(weights), size=count, p=list(weights.values()))
    prompts = [sample_prompt(rng, str(name)) for name in kinds]
    return [(prompt, sample_scene(rng, prompt)) for prompt in prompts]


def _chunk(seed: int) -> tuple[list[str], np.ndarray]:
    pairs = draw(seed, CHUNK, KIND_WEIGHTS)
    return [prompt.text for prompt, _ in pairs], np.stack([render(scene) for _, scene in pairs])


def training_set(work: Path, count: int, seed: int = TRAIN_SEED) -> tuple[list[str], np.ndarray]:
    """Prompts and pictures for training, made once and kept in ``work``.

    Returns:
        ``count`` prompts, and a read-only uint8 memory map of shape (count, 64, 64, 3).
    """
    if count % CHUNK:
        raise ValueError(f"expected a count in multiples of {CHUNK}, got {count}")
    texts, pictures = work / f"prompts-{count}.txt", work / f"pictures-{count}.npy"
    if not texts.exists():
        part = pictures.with_suffix(".part")
        images = np.lib.format.open_memmap(part, "w+", np.uint8, (count, SIDE_PX, SIDE_PX, 3))
        prompts: list[str] = []
        with ProcessPoolExecutor() as pool:
            seeds = [seed * 1_000_000 + i for i in range(count // CHUNK)]
            for i, (lines, chunk) in enumerate(pool.map(_chunk, seeds)):
                images[i * CHUNK : (i + 1) * CHUNK] = chunk
                prompts += lines
        images.flush()
        part.rename(pictures)
        texts.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    return texts.read_text(encoding="utf-8").splitlines(), np.load(pictures, mmap_mode="r")


def write_sets(folder: Path) -> None:
    """Writes ``dev.txt`` and ``test.txt``: one "kind TAB prompt" a line."""
    for name, prompts in sample_sets(SETS_SEED).items():
        lines = [f"{kind_of(prompt)}\t{prompt.text}\n" for prompt in prompts]
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
