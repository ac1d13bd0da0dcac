"""Measures the pipeline: FID, IS, precision and recall on the classifier's features, and what the judge says.

    python training/cifar10/evaluate.py --work runs/cifar10 --count 2000

A figure of few images is biased (FID is too high), so the real test pictures are measured in the same number beside.
None of these compare with published ones: another network, JPEG-compressed data.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import data
import numpy as np
import torch
from train import MODELS, note

from diffusion import MANIFEST
from noisewright import load
from noisewright.evaluate.distribution import inception_score, manifold
from noisewright.measures.statistics import FeatureStatistics
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.fid import REFERENCE, START

SEED = 1_000_000
BATCH = 50


def generate(pipe: Any, count: int, steps: int, guidance: float) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 32, 32, 3) uint8 of all classes in turn, picture k from seed ``SEED + k``, and their classes."""
    classes = np.arange(count) % len(data.NAMES)
    found = []
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        generators = [torch.Generator("cpu").manual_seed(SEED + k) for k in some]
        images = pipe(
            [int(classes[k]) for k in some], num_inference_steps=steps, guidance_scale=guidance, generator=generators,
            output_type="np",
        ).images  # fmt: skip
        found.append((images * 255).round().astype(np.uint8))
    return np.concatenate(found), classes


def measure(
    pictures: np.ndarray, classes: np.ndarray, features: FeatureNetwork, judge: FeatureNetwork,
    real: FeatureStatistics, real_features: torch.Tensor,
) -> dict[str, float]:  # fmt: skip
    """The figures of one set of pictures."""
    found = features(list(pictures))
    scores, _ = inception_score(found.probabilities, splits=1)
    cover = manifold(found.features, real_features)
    said = judge(list(pictures)).probabilities.argmax(1).numpy()
    return {
        "fid": FeatureStatistics(features.fingerprint).add(found.features).distance(real), "is": scores,
        "precision": cover.precision, "recall": cover.recall, "judge": float((said == classes).mean()),
    }  # fmt: skip


def main() -> None:
    """Reads the command line and measures."""
    guidances = [1.0, MANIFEST["default"]["guidance_scale"], 2.5]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"directory of the parquet files; by default ${data.ENVIRONMENT}")
    parser.add_argument("--work", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--count", type=int, default=2000, help="pictures of each setting")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, nargs="+", default=guidances)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the pipeline")
    options = parser.parse_args()
    features, judge = (
        FeatureNetwork(options.models / name, options.device) for name in ("cifar10-classifier", "cifar10-judge")
    )
    real = FeatureStatistics.load(options.models / "cifar10-classifier" / REFERENCE)
    held_out, labels = data.load("test", options.work, options.data)
    real_features = features(list(held_out[: options.count])).features
    rest = slice(options.count, 2 * options.count)
    rows = {}
    if len(held_out[rest]):
        rows["real test pictures"] = measure(held_out[rest], labels[rest], features, judge, real, real_features)
        print("real test pictures", rows["real test pictures"], flush=True)
    pipe = load(str(options.models / "cifar10"), device=options.device, dtype=options.dtype)
    pipe.set_progress_bar_config(disable=True)
    for guidance in options.guidance:
        began = time.monotonic()
        pictures, classes = generate(pipe, options.count, options.steps, guidance)
        seconds = (time.monotonic() - began) / options.count
        rows[f"guidance {guidance:g}"] = measure(pictures, classes, features, judge, real, real_features)
        rows[f"guidance {guidance:g}"]["milliseconds"] = 1000 * seconds
        if guidance == MANIFEST["default"]["guidance_scale"]:  # what the fid verifier begins with
            plain = FeatureStatistics(features.fingerprint).add(features(list(pictures)).features)
            plain.save(options.models / "cifar10-classifier" / START)
            note(options.work, "start", {"images": options.count, "guidance": guidance, "steps": options.steps})
        print(f"guidance {guidance:g}", rows[f"guidance {guidance:g}"], flush=True)
    settings = {"images": options.count, "sampling_steps": options.steps, "dtype": options.dtype}
    note(options.work, "cifar10", {"rows": rows, **settings})


if __name__ == "__main__":
    main()
