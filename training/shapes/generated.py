"""Pictures that the diffusion model makes for random prompts, with the oracle's verdict on each.

Real reward models learn from generated pictures, since what goes wrong in them is not what an edit of a drawn scene
changes. The prompts are drawn from the grammar as those of all trainings are; texts of the dev and test sets are left
out. Whoever is trained on these has learnt from the oracle, and its card has to say so.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluate import GUIDANCE, generate, grades_of, load_pipe, version_of
from noisewright.shapes.prompts import load_prompts, sample_prompt

PARTS = 25
PROMPTS = 40  # of a part
SEEDS = 8  # pictures of a prompt
BATCH_PROMPTS = 4
KIND_WEIGHTS = {"relation": 0.55, "count": 0.2, "three": 0.1, "two": 0.1, "single": 0.05}
FEW_STEPS, STEPS, STEPS_EVERY = 10, 25, 4  # every fourth part with as many steps as the model's default
SEED, FIRST_SEED = 9_000_000, 5_000_000  # of the prompts; of the pictures
LEAST_SPREAD = 0.02  # of the oracle's scores: below it there is nothing to tell apart
RIGHT_WEIGHT = 2.0  # of a pair of a right and a wrong picture, beside the 1 of any pair


@dataclass(frozen=True)
class Judged:
    """Generated pictures and what the oracle says of them.

    Attributes:
        prompts: their texts.
        pictures: uint8 (prompts, ``SEEDS``, 64, 64, 3).
        right: whether each shows exactly its prompt's scene, (prompts, ``SEEDS``).
        scores: the graded score of each, (prompts, ``SEEDS``) in [0, 1].
    """

    prompts: list[str]
    pictures: np.ndarray
    right: np.ndarray
    scores: np.ndarray

    def telling(self) -> np.ndarray:
        """Indices of the prompts whose pictures differ in their score."""
        return np.flatnonzero(np.ptp(self.scores, axis=1) > LEAST_SPREAD)


def prompts_of(number: int) -> list[str]:
    """The prompts of a part, none twice, none of the dev or test sets."""
    held_out = {*load_prompts("dev"), *load_prompts("test")}
    rng = np.random.default_rng(SEED + number)
    texts: list[str] = []
    while len(texts) < PROMPTS:
        text = sample_prompt(rng, str(rng.choice(list(KIND_WEIGHTS), p=list(KIND_WEIGHTS.values())))).text
        if text not in held_out and text not in texts:
            texts.append(text)
    return texts


def _make(job: tuple[Path, int, Path, str]) -> None:
    folder, number, path, device = job
    pipe = load_pipe(folder).to(device, torch.bfloat16)
    prompts, made = prompts_of(number), []
    steps = FEW_STEPS if number % STEPS_EVERY else STEPS
    for first in range(0, PROMPTS, BATCH_PROMPTS):
        texts = [text for text in prompts[first : first + BATCH_PROMPTS] for _ in range(SEEDS)]
        seeds = [FIRST_SEED + 10_000 * number + 100 * first + k for k in range(len(texts))]
        images = generate(pipe, texts, seeds, steps, GUIDANCE).float()
        made.append((images * 255).round().byte())
    pictures = torch.cat(made).unflatten(0, (PROMPTS, SEEDS)).numpy()
    right, scores = grades_of(pictures, prompts)
    part = path.with_suffix(".part.npz")
    np.savez(part, pictures=pictures.transpose(0, 1, 3, 4, 2), right=right, score=scores, texts=np.array(prompts))
    part.rename(path)


def judged(work: Path, folder: Path, device: str, workers: int = 1) -> Judged:
    """Pictures of ``PARTS`` times ``PROMPTS`` prompts with their verdicts, made once for each version of the weights.

    Args:
        work: folder that keeps the parts.
        folder: the pipeline.
        device: "cpu" or "cuda".
        workers: processes that make pictures, on a CPU.
    """
    place = work / f"generated-{version_of(folder)}"
    place.mkdir(exist_ok=True)
    paths = [place / f"part-{number:03}.npz" for number in range(PARTS)]
    jobs = [(folder, number, path, device) for number, path in enumerate(paths) if not path.exists()]
    if device == "cpu" and workers > 1 and len(jobs) > 1:
        context = get_context("spawn")
        # Two processes of one thread outrun one of two.
        with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
            list(pool.map(_make, jobs))
    else:
        for job in jobs:
            _make(job)
    parts = [np.load(path) for path in paths]
    return Judged(
        [str(text) for part in parts for text in part["texts"]],
        *(np.concatenate([part[name] for part in parts]) for name in ("pictures", "right", "score")),
    )


def ranking_loss(logits: Tensor, scores: Tensor, right: Tensor) -> Tensor:
    """-log sigmoid(better - worse), the mean over the pairs of a prompt's pictures that differ, weighted.

    Args:
        logits: what the verifier says, (prompts, pictures).
        scores: the oracle's, likewise.
        right: whether each picture is right, likewise.
    """
    ahead = scores[:, :, None] - scores[:, None, :]
    rights = (right[:, :, None] & ~right[:, None, :]).float()
    weight = (ahead > LEAST_SPREAD).float() * (1 + RIGHT_WEIGHT * rights)
    apart = F.softplus(logits[:, None, :] - logits[:, :, None])
    return (apart * weight).sum() / weight.sum().clamp(min=1)
