"""Trains ``noisewright/cifar10`` further from its present weights, and keeps what is better.

    python training/cifar10/further.py --minutes 10 --device cuda --data DIR --work runs/further

Compared by FID, on the features of ``noisewright/cifar10-classifier``, of pictures of the same seeds: what was trained
replaces what is there only where the 95 % interval of the paired change lies below 0 and the judge does not agree less.
``WORK/further-cifar10.json`` says what came of it.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import data
import loop
import numpy as np
import torch
from train import MODELS

import diffusion
import evaluate
from noisewright import load
from noisewright.evaluate.distribution import fid_change_interval
from noisewright.measures.statistics import FeatureStatistics
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.fid import REFERENCE

sys.path.append(str(Path(__file__).parents[1]))

from common import keep, report, trained

RATE = 0.3  # of the first training's: the weights are good already
WARM_UP = 100
SEED = 2_000_000  # other pictures than those of the card
MANY = 10**9  # steps: the minutes end it


def factor_of(minutes: float) -> Any:
    """Step -> what the rates are multiplied with, falling with the clock."""
    began = time.monotonic()

    def factor(step: int) -> float:
        share = min(1.0, (time.monotonic() - began) / (60 * minutes))
        return RATE * loop.plateau(step, max(step, WARM_UP) / max(share, 1e-3) + 1, WARM_UP)

    return factor


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures and classes, to see how fast training is where there is no data."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, data.SIDE, data.SIDE, 3), np.uint8), np.arange(count) % len(data.NAMES)


def compared(models: Path, candidate: Path, device: str, count: int, steps: int) -> dict[str, Any]:
    """Figures before and after, and whether it is better."""
    features, judge = (FeatureNetwork(models / name, device) for name in ("cifar10-classifier", "cifar10-judge"))
    real = FeatureStatistics.load(models / "cifar10-classifier" / REFERENCE)
    guidance = diffusion.MANIFEST["default"]["guidance_scale"]
    evaluate.SEED = SEED
    rows: dict[str, torch.Tensor] = {}
    found: dict[str, Any] = {}
    for when, folder in (("before", models / "cifar10"), ("after", candidate)):
        pipe = load(str(folder), device=device, dtype="float32")
        pipe.set_progress_bar_config(disable=True)
        pictures, classes = evaluate.generate(pipe, count, steps, guidance)
        rows[when] = features(list(pictures)).features
        said = judge(list(pictures)).probabilities.argmax(1).numpy()
        fid = FeatureStatistics(features.fingerprint).add(rows[when]).distance(real)
        found[when] = {"fid": float(fid), "judge": float((said == classes).mean())}
    low, high = fid_change_interval(rows["after"], rows["before"], real)
    better = high < 0 and found["after"]["judge"] >= found["before"]["judge"]
    return {**found, "change": [low, high], "better": bool(better)}


def main() -> None:
    """Reads the command line, trains, compares and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of training; data and measuring come on top")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data", type=Path, help=f"directory of the parquet files; by default ${data.ENVIRONMENT}")
    parser.add_argument("--work", type=Path, default=Path("runs/further"))
    parser.add_argument("--models", type=Path, default=MODELS, help="the present weights, and where better ones go")
    parser.add_argument("--count", type=int, default=5000, help="pictures that are compared")
    parser.add_argument("--tiny", action="store_true", help="at a size at which nothing is learned")
    parser.add_argument("--speed", action="store_true", help="train only, on random pictures; keep nothing")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    random = options.tiny or options.speed
    pictures, labels = drawn(64 if options.tiny else 50_000) if random else data.load("train", work, options.data)
    checkpoint = work / "further-cifar10.pt"
    checkpoint.unlink(missing_ok=True)  # from the present weights, whatever was tried before
    start = load(str(options.models / "cifar10"), device="cpu", dtype="float32").transformer.requires_grad_(True)
    how = argparse.Namespace(
        device=options.device, steps=MANY, minutes=options.minutes, batch=4 if options.tiny else None,
        optimiser="muon", compile=False, grid_every=0,
    )  # fmt: skip
    began = time.monotonic()
    further = {"factor": factor_of(options.minutes), "checkpoint": checkpoint}
    averages, _ = diffusion.fit(pictures, labels, work, how, start, further)
    took = trained(checkpoint, how.batch or diffusion.BATCH_SIZE)
    found = {"device": options.device, "all_seconds": round(time.monotonic() - began, 1), **took}
    report(work, "cifar10", found)
    if options.speed:
        return
    candidate = work / "candidate" / "cifar10"
    diffusion.save(averages.models[0].cpu(), candidate)
    size = (100, 2) if options.tiny else (options.count, diffusion.MANIFEST["default"]["num_inference_steps"])
    found |= compared(options.models, candidate, options.device, *size)
    allowed = options.models != MODELS or not options.tiny  # nothing was learned at that size
    found["kept"] = keep(candidate, options.models / "cifar10", found["better"] and allowed)
    report(work, "cifar10", found)
    low, high = found["change"]
    print(f"cifar10: {found['before']} before, {found['after']} after, change of the FID {low:+.3f} to {high:+.3f}: "
          f"{'kept' if found['kept'] else 'not kept'}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
