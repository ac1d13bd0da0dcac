"""Measures the bundled models; each command prints a table and writes it to WORK/figures.json.

What the search makes of them is measured by benchmarks/success.py.

python training/shapes/evaluate.py oracle      the oracle against the generator's truth
python training/shapes/evaluate.py steps       success by kind of prompt and number of steps
python training/shapes/evaluate.py negatives   the verifier on held-out hard negatives
python training/shapes/evaluate.py seconds     what an image of --model costs beside one of noisewright/shapes
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoder import to_tensor
from data import draw
from diffusers import StableDiffusionPipeline
from torch import Tensor

import noisewright
from noisewright.shapes.oracle import Reading, grade, read
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse
from noisewright.shapes.scene import Scene, render

MODELS = Path(__file__).parents[2] / "src" / "noisewright" / "models"
HELD_OUT_SEED = 4242
POSITION_TOLERANCE_PX = 1.0
STEPS, GUIDANCE = 25, 4.0


def record(work: Path, name: str, value: Any) -> None:
    """Puts one table into WORK/figures.json."""
    path = work / "figures.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    figures[name] = value
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def agrees(reading: Reading, scene: Scene) -> bool:
    """Whether a reading is the scene: same objects, each within ``POSITION_TOLERANCE_PX``."""
    left = list(reading.things)
    for thing in scene.things:
        match = [
            other
            for other in left
            if (other.shape, other.colour, other.size) == (thing.shape, thing.colour, thing.size)
            and np.hypot(other.x - thing.x, other.y - thing.y) <= POSITION_TOLERANCE_PX
        ]
        if not match:
            return False
        left.remove(match[0])
    return not left and not reading.malformed


@torch.inference_mode()
def reconstruct(vae: Any, pictures: np.ndarray) -> Tensor:
    """Pictures through the autoencoder in float32: (batch, 3, 64, 64) in [0, 1]."""
    output = vae.decode(vae.encode(to_tensor(pictures, "cpu")).latent_dist.mode()).sample
    return ((output + 1) / 2).clamp(0, 1)


def oracle_agreement(vae: Any, count: int) -> dict[str, float]:
    """Share of held-out scenes that the oracle reads exactly, rendered and reconstructed."""
    pairs = draw(HELD_OUT_SEED, count)
    agreed: dict[str, list[bool]] = {"renders": [], "reconstructions": []}
    seconds = error = 0.0
    for start in range(0, count, 64):
        scenes = [scene for _, scene in pairs[start : start + 64]]
        pictures = np.stack([render(scene) for scene in scenes])
        again = reconstruct(vae, pictures)
        error += float((again - (to_tensor(pictures, "cpu") + 1) / 2).square().mean(dim=(1, 2, 3)).sum())
        for name, images in (("renders", pictures), ("reconstructions", again)):
            begun = time.perf_counter()
            readings = read(images)
            seconds += time.perf_counter() - begun
            agreed[name] += [agrees(r, s) for r, s in zip(readings, scenes, strict=True)]
    result = {name: float(np.mean(values)) for name, values in agreed.items()}
    psnr_db = -10 * np.log10(error / count)
    return {**result, "scenes": count, "psnr_db": float(psnr_db), "ms_a_picture": 1e3 * seconds / (2 * count)}


def generate(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> Tensor:
    """One picture for each (prompt, seed): (batch, 3, 64, 64) in [0, 1]."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    output = pipe(
        list(prompts),
        generator=generators,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
    )
    return output.images.cpu()


def pictures_of(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], count: int, steps: int, guidance: float, batch: int = 50
) -> np.ndarray:
    """Pictures with seeds 0 to ``count`` - 1 for each prompt: uint8 (prompts, count, 3, 64, 64)."""
    jobs = [(prompt, seed) for prompt in prompts for seed in range(count)]
    parts = []
    for start in range(0, len(jobs), batch):
        texts, seeds = zip(*jobs[start : start + batch], strict=True)
        parts.append((generate(pipe, texts, seeds, steps, guidance) * 255).round().byte())
    return torch.cat(parts).view(len(prompts), count, 3, 64, 64).numpy()


def grades_of(pictures: np.ndarray, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each picture is right, and its graded score: (prompts, count) each."""
    grades = [grade(torch.from_numpy(row), prompt) for row, prompt in zip(pictures, prompts, strict=True)]
    return np.array([[g.right for g in row] for row in grades]), np.array([[g.score for g in row] for row in grades])


def by_kind(right: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
    """Mean of (prompts,) or (prompts, count) values over all prompts and by kind."""
    kinds = np.array([kind(parse(prompt)) for prompt in prompts])
    return {"all": float(right.mean()), **{name: float(right[kinds == name].mean()) for name in KINDS}}


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Prints a table of percentages."""
    columns = list(next(iter(rows.values())))
    print(title)
    print(" " * 28 + "".join(f"{column:>10}" for column in columns))
    for name, row in rows.items():
        print(f"{name:28}" + "".join(f"{100 * row[column]:10.1f}" for column in columns))


def load_pipe(folder: Path) -> StableDiffusionPipeline:
    """The pipeline as anyone loads it, without a progress bar; of a bundled one also the parts that another one has."""
    pipe = noisewright.load(folder, device="cpu", dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _part(job: tuple[Path, tuple[str, ...], int, int, Path]) -> None:
    folder, prompts, count, steps, path = job
    torch.set_num_threads(1)  # two processes of one thread outrun one of two
    pictures = pictures_of(load_pipe(folder), prompts, count, steps, GUIDANCE)
    np.save(path.with_suffix(".part.npy"), pictures)
    path.with_suffix(".part.npy").rename(path)


def version_of(folder: Path) -> str:
    """The name of a model's weights: 12 digits of their hash."""
    weights = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.safetensors")))
    return hashlib.sha256(weights).hexdigest()[:12]


def candidates(work: Path, folder: Path, split: str, count: int, steps: int, workers: int) -> np.ndarray:
    """Pictures with seeds 0 to ``count`` - 1 for each prompt of a set: uint8 (200, count, 3, 64, 64).

    Made once for each version of the weights, ten prompts a file, so that a stopped measurement goes on.
    """
    cache = work / f"candidates-{version_of(folder)}"
    cache.mkdir(exist_ok=True)
    prompts = load_prompts(split)
    paths = [cache / f"{split}-{count}-{steps}-{GUIDANCE:g}-{start:03}.npy" for start in range(0, len(prompts), 10)]
    jobs = [
        (folder, prompts[10 * i : 10 * i + 10], count, steps, path) for i, path in enumerate(paths) if not path.exists()
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_part, jobs))
    return np.concatenate([np.load(path) for path in paths])


def measure_steps(work: Path, folder: Path, split: str, workers: int) -> None:
    """Success of one plain picture a prompt (seed 0) with 10, 25 and 50 steps."""
    prompts, rows = load_prompts(split), {}
    for steps in (10, 25, 50):
        right, _ = grades_of(candidates(work, folder, split, 1, steps, workers), prompts)
        rows[f"{steps} steps"] = by_kind(right, prompts)
    show(f"success on {split} prompts, seed 0, guidance {GUIDANCE:g}, %", rows)
    of = "" if folder.name == "shapes" else f"{folder.name} "
    record(work, f"{of}steps {split}", rows)


def measure_seconds(work: Path, folder: Path, turns: int = 7, batch: int = 8) -> None:
    """CPU seconds of one thread for a forward of the U-Net and for an image, beside ``noisewright/shapes`` in turns."""
    torch.set_num_threads(1)
    pipes = {name: load_pipe(path) for name, path in (("shapes", MODELS / "shapes"), (folder.name, folder))}
    inputs = {"sample": torch.zeros(2 * batch, 4, 16, 16), "timestep": 500}
    prompts, spent = load_prompts("dev")[:batch], {name: {"forward": [], "image": []} for name in pipes}
    for _ in range(turns):
        for name, pipe in pipes.items():
            context = torch.zeros(2 * batch, 24, pipe.unet.config.cross_attention_dim)
            begun = time.process_time()
            with torch.inference_mode():
                pipe.unet(**inputs, encoder_hidden_states=context)
            middle = time.process_time()
            generate(pipe, prompts, range(batch), STEPS, GUIDANCE)
            spent[name]["forward"].append((middle - begun) / (2 * batch))
            spent[name]["image"].append((time.process_time() - middle) / batch)
    rows = {name: {what: float(np.median(many)) for what, many in row.items()} for name, row in spent.items()}
    for name, row in rows.items():
        ratios = ", ".join(f"{row[what] / rows['shapes'][what]:.2f} a {what}" for what in row)
        print(f"{name:16} forward {1e3 * row['forward']:.2f} ms, image {row['image']:.3f} s ({ratios} of shapes)")
    record(work, f"{folder.name} seconds", {**rows, "batch": batch, "turns": turns})


def measure_negatives(work: Path, folder: Path, clip_folder: Path) -> None:
    """The verifier's accuracy on held-out hard negatives."""
    from clip import hard_negative_accuracy
    from transformers import CLIPModel, CLIPTokenizer

    clip, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    rows = hard_negative_accuracy(clip, tokenizer, load_pipe(folder).vae, work)
    show("hard negatives told apart, %", rows)
    record(work, "negatives", rows)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["oracle", "steps", "negatives", "seconds"])
    parser.add_argument("--work", type=Path, default=Path("runs/training"))
    parser.add_argument("--model", type=Path, default=MODELS / "shapes")
    parser.add_argument("--clip", type=Path, default=MODELS / "shapes-clip")
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--count", type=int, default=5000, help="scenes for the oracle")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that make pictures")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "oracle":
        result = oracle_agreement(load_pipe(options.model).vae, options.count)
        print("\n".join(f"{name:18} {value:.4f}" for name, value in result.items()))
        record(options.work, "oracle", result)
    elif options.what == "seconds":
        measure_seconds(options.work, options.model)
    elif options.what == "steps":
        measure_steps(options.work, options.model, options.split, options.workers)
    else:
        measure_negatives(options.work, options.model, options.clip)


if __name__ == "__main__":
    main()
