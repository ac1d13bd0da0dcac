"""Precision, recall, FID of sets of picks on CIFAR-10, and of resampled slots, paired over sets (claim 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from _evidence.kept import Lacking, Point, Pool, Table
from _evidence.places import weights
from _evidence.plans import BLOCK, PLANS, Block
from _evidence.pools import images_of
from _evidence.scoring import NETWORKS, networks
from noisewright.benchmark.store import Results
from noisewright.evaluate.distribution import manifold
from noisewright.evaluate.population import image_batches
from noisewright.images.reading import read_image
from noisewright.measures.statistics import FeatureStatistics
from noisewright.outside.inside import inside
from noisewright.registry import find_model
from noisewright.verifiers.fid import REFERENCE

PLAN = PLANS["cifar10-10"]
PICKERS = ("judge logit", "classifier probability")
COUNTS = (4, 16, 64)
RESAMPLES = 60
REAL = 5000


@cache
def real_features(data: Path) -> torch.Tensor:
    """Features of the first real pictures, (n, d)."""
    bad: list[str] = []
    rows: list[torch.Tensor] = []
    for batch in image_batches([data], bad):
        rows.append(networks("classifier")[0](batch).features)
        if sum(map(len, rows)) >= REAL:
            break
    if not rows:
        raise Lacking(f"pictures in {data}")
    return torch.cat(rows)[:REAL].double()


def recall_table(pool: Pool, results: Results, root: Path, data: Path) -> Table:
    """Sets of picks: of random search from the pool, of zero-order search from the benchmark, on the slots of both.

    Columns of a point: the figure of the set, then those of :data:`RESAMPLES` draws of its slots, the same in each.
    """
    runs = {
        picker: {row["number"]: row for row in results.done if row["coordinates"]["verifier"] == picker}
        for picker in PICKERS
    }
    numbers = sorted(set(pool.numbers.tolist()).intersection(*runs.values()))
    if len(numbers) < 20:
        raise Lacking(f"zero-order runs of 20 slots (there are {len(numbers)})")
    pool = pool.only(numbers)
    sets: dict[tuple[str, str, str], list[torch.Tensor]] = {}
    sets["random", "any one", "1"] = _picks(pool, [0] * len(numbers), root)
    for picker in PICKERS:
        for count in (count for count in COUNTS if count <= pool.count):
            best = pool.of(picker)[:, :count].argmax(1).tolist()
            sets["random", picker, str(count)] = _picks(pool, best, root)
        files = [inside(results.root, runs[picker][number]["best"]["file"]) for number in numbers]
        sets["zero-order", picker, "64"] = [_image(file) for file in files]
    real, labels = real_features(data), (np.array(numbers) - 1) % 10
    points = [
        Point(dict(zip(("search", "verifier", "images"), key, strict=True)), _figures(images, labels, real))
        for key, images in sets.items()
    ]
    by_weights = {one: weights(one) for one in (PLAN.model, *NETWORKS.values())}
    return Table({"slots": len(numbers), "real": len(real), "weights": by_weights}, tuple(points))


def _picks(pool: Pool, places: Sequence[int], root: Path) -> list[torch.Tensor]:
    blocks = {(block.prompt.number, block.first): block for block in PLAN.blocks()}
    found = []
    for number, place in zip(pool.numbers.tolist(), places, strict=True):
        block: Block = blocks[number, place // BLOCK * BLOCK]
        found.append(images_of(block.file(root))[place % BLOCK])
    return found


def _image(file: Path) -> torch.Tensor:
    return torch.from_numpy(read_image(file)[0].copy()).permute(2, 0, 1).float() / 255


def _figures(images: Sequence[torch.Tensor], labels: np.ndarray, real: torch.Tensor) -> Mapping[str, np.ndarray]:
    """FID, precision and recall on the classifier's features, and the judge's verdict, of a set and its resamples."""
    stacked = torch.stack(list(images))
    features = networks("classifier")[0](stacked).features.double()
    right = (networks("judge")[0](stacked).probabilities.argmax(1).numpy() == labels).astype(np.float64)
    reference = FeatureStatistics.load(Path(find_model(NETWORKS["classifier"])) / REFERENCE)
    generator = np.random.default_rng(0)
    draws = [np.arange(len(images)), *(generator.integers(0, len(images), len(images)) for _ in range(RESAMPLES))]
    found: dict[str, list[float]] = {name: [] for name in ("fid", "precision", "recall", "judge")}
    for rows in draws:
        some = features[torch.from_numpy(rows)]
        cover = manifold(some, real)
        found["fid"].append(FeatureStatistics(reference.fingerprint).add(some).distance(reference))
        found["precision"].append(cover.precision)
        found["recall"].append(cover.recall)
        found["judge"].append(float(right[rows].mean()))
    return {name: np.array(values) for name, values in found.items()}
