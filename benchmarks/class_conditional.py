"""Search by class on ``noisewright/cifar10``, after Ma et al. 2025: more candidates, picked by which verifier?

For each slot (classes in turn) ``--candidates`` images are generated once, with their previews at t = 0.4, and read by
two networks; kept in ``--out``, a slot a file: a stopped benchmark goes on. Each verifier then picks one of the first
1, 2, 4, ... candidates of every slot, and the sets of picks are measured: FID, Inception Score, precision and recall on
the classifier's features, and the share that a second network, the judge, calls right.

- ``inception-score``: the classifier's probability of the class (the network that measures, too: an oracle);
- ``fid``: the greedy choice that brings the picks so far nearest to the reference (an oracle), slots in order;
- ``classifier``: the judge's logit of the class, so "judge right" is its own view of itself;
- ``self-similarity``: the cosine between the judge's features of an image and of its own preview, without the class.

FID and IS come with the standard deviation over resampled slots. FIDs of few images are too high, all alike: they
compare within the table only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import noisewright as nw
from noisewright import registry
from noisewright.evaluate.distribution import inception_score, manifold
from noisewright.evaluate.population import image_batches
from noisewright.measures.statistics import FeatureStatistics, check_same_network
from noisewright.samplers.classes import labels_of, read_class
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.verifiers.classifier import Classifier
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.fid import REFERENCE

MODEL, CLASSIFIER, JUDGE = "noisewright/cifar10", "noisewright/cifar10-classifier", "noisewright/cifar10-judge"
SEEDS = 1_000
LEVEL = 0.4
CLASSES = 10
VERIFIERS = ("inception-score", "fid", "classifier", "self-similarity")
RESAMPLES = 50
CHANCE = "any one"
"""What the rows of one candidate are called, which no verifier picked."""


@cache
def pipeline(dtype: str) -> Any:
    return nw.load(MODEL, dtype=dtype)


@cache
def loaded() -> tuple[FeatureNetwork, FeatureNetwork, Classifier]:
    """The network that measures, the judge, and the judge as a verifier."""
    torch.set_num_threads(1)
    classifier, judge = registry.find_model(CLASSIFIER), registry.find_model(JUDGE)
    return FeatureNetwork(classifier), FeatureNetwork(judge), Classifier(judge)


@cache
def sampler_of(label: int, steps: int, guidance: float, dtype: str) -> PipelineSampler:
    return PipelineSampler(pipeline(dtype), "", class_label=label, num_inference_steps=steps, guidance_scale=guidance)


def fill(job: tuple[int, argparse.Namespace]) -> None:
    """The candidates of a slot and what the networks say of them, in one file."""
    slot, given = job
    label = slot % CLASSES
    classifier, judge, verifier = loaded()
    sampler = sampler_of(label, given.steps, given.guidance, given.dtype)
    x = sampler.noise([SEEDS * slot + k for k in range(given.candidates)])
    index = sampler.schedule.nearest(LEVEL)
    middle, state = sampler.denoise(x, 0, index)
    clean = sampler.predict(middle, index)
    x, state = sampler.advance(middle, index, clean, state)
    if index + 1 < sampler.schedule.steps:
        x, _ = sampler.denoise(x, index + 1, sampler.schedule.steps, state)
    images, previews = sampler.decode(x), sampler.decode(clean)
    _, name = read_class(sampler.pipe, label, labels_of(sampler.pipe, None))
    measured, judged, before = classifier(images), judge(images), judge(previews)
    similar = torch.cosine_similarity(judged.features, before.features, dim=1)
    temporary = given.out / f".{slot}.npz"
    np.savez(
        temporary,
        label=label,
        images=(images * 255).round().byte().numpy(),
        features=measured.features.float().numpy(),
        probabilities=measured.probabilities.float().numpy(),
        right=(judged.probabilities.argmax(1) == label).numpy(),
        logits=np.asarray(verifier(images, name)),
        similar=similar.numpy(),
    )
    temporary.rename(given.out / f"{slot:05}.npz")


def chosen(slots: list[dict[str, np.ndarray]], verifier: str, count: int, reference: FeatureStatistics) -> list[int]:
    """Which of the first ``count`` candidates of each slot a verifier picks."""
    if verifier == "fid":
        start = FeatureStatistics(reference.fingerprint)
        for slot in slots:  # begins with what is plain: the last candidate of each slot, which only "of all" includes
            start.add(torch.from_numpy(slot["features"][-1:]).double())
        running = start.running(reference)
        found = []
        for slot in slots:
            features = torch.from_numpy(slot["features"][:count]).double()
            found.append(int(running.distances(features).argmin()))
            running.add(features[found[-1]])
        return found
    if verifier == "inception-score":
        return [int(slot["probabilities"][:count, int(slot["label"])].argmax()) for slot in slots]
    key = {"classifier": "logits", "self-similarity": "similar"}.get(verifier)
    return [int(slot[key][:count].argmax()) if key else 0 for slot in slots]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=512, help="images in each measured set, classes in turn")
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", help="of the pipeline; bfloat16 is twice as fast on many CPUs")
    parser.add_argument("--data", type=Path, required=True, help="real images, for precision and recall: .parquet")
    parser.add_argument("--real", type=int, default=10_000, help="how many of them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/class-conditional"))
    parser.add_argument("--rows", type=Path, help="write the table as JSON lines")
    parser.add_argument("--plot", type=Path, help="draw it: .png")
    given = parser.parse_args()

    began = time.perf_counter()
    place = Path(registry.find_model(CLASSIFIER))
    reference = FeatureStatistics.load(place / REFERENCE)
    classifier, judge, _ = loaded()
    check_same_network(FeatureStatistics(classifier.fingerprint), reference)
    # Whatever else the slots depend on goes into the name of their directory.
    sampler = sampler_of(0, given.steps, given.guidance, given.dtype)
    model = sampler.description["fingerprint"].older()  # by which the slots that are kept were named
    networks = (model, classifier.fingerprint, judge.fingerprint)
    settings = (given.candidates, given.steps, given.guidance, given.dtype, *networks)
    given.out /= hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    given.out.mkdir(parents=True, exist_ok=True)
    for file in (given.rows, given.plot):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
    jobs = [(slot, given) for slot in range(given.slots) if not (given.out / f"{slot:05}.npz").exists()]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for number, _ in enumerate(pool.map(fill, jobs)):
            if (number + 1) % 50 == 0:
                print(f"{number + 1} of {len(jobs)} slots, {time.perf_counter() - began:.0f} s", flush=True)
    slots = [dict(np.load(given.out / f"{slot:05}.npz")) for slot in range(given.slots)]

    real = real_features(classifier, given)
    counts = [2**k for k in range(1, given.candidates.bit_length()) if 2**k <= given.candidates]
    about = f"{given.slots} images a set, {given.steps} steps, guidance {given.guidance:g}, {given.dtype}"
    print(f"{about}; {len(real)} real images")
    heads = ("picked by", "of", "FID", "IS", "precision", "recall", "judge right")
    print(f"{heads[0]:16}{heads[1]:>4}{heads[2]:>15}{heads[3]:>13}{heads[4]:>11}{heads[5]:>8}{heads[6]:>13}")
    rows = []
    for verifier, count in [(CHANCE, 1), *((one, count) for one in VERIFIERS for count in counts)]:
        row = measured(slots, chosen(slots, verifier, count, reference), reference, real)
        rows.append({"verifier": verifier, "candidates": count, **row})
        print(
            f"{verifier:16}{count:4}{row['fid']:9.3f} ±{row['fid_sd']:.2f}{row['is']:7.3f} ±{row['is_sd']:.2f}"
            f"{row['precision']:11.3f}{row['recall']:8.3f}{row['judge']:13.1%}",
            flush=True,
        )
    if given.rows:
        settled = {name: getattr(given, name) for name in ("slots", "steps", "guidance", "dtype", "real")}
        given.rows.write_text("".join(json.dumps({**row, **settled}) + "\n" for row in rows), encoding="utf-8")
    if given.plot:
        plot(rows, given.plot)
    print(f"{time.perf_counter() - began:.0f} s")


def measured(
    slots: list[dict[str, np.ndarray]], picks: list[int], reference: FeatureStatistics, real: torch.Tensor
) -> dict[str, float]:
    """The figures of one set of picks."""
    pairs = list(zip(slots, picks, strict=True))
    features = torch.from_numpy(np.stack([slot["features"][k] for slot, k in pairs])).double()
    classes = torch.from_numpy(np.stack([slot["probabilities"][k] for slot, k in pairs])).double()

    def distribution(rows: torch.Tensor) -> tuple[float, float]:
        fid = FeatureStatistics(reference.fingerprint).add(features[rows]).distance(reference)
        return fid, inception_score(classes[rows], splits=1)[0]

    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(len(pairs), (len(pairs),), generator=generator) for _ in range(RESAMPLES)]
    spread = np.std([distribution(rows) for rows in drawn], axis=0)
    cover = manifold(features, real)
    fid, score = distribution(torch.arange(len(pairs)))
    return {
        "fid": fid, "fid_sd": float(spread[0]), "is": score, "is_sd": float(spread[1]), "precision": cover.precision,
        "recall": cover.recall, "judge": float(np.mean([slot["right"][k] for slot, k in pairs])),
    }  # fmt: skip


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """FID, IS, precision and recall against candidates, a line for each verifier."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.9), layout="constrained")
    panels = figure.subplots(1, 4)
    for axes, (key, title) in zip(
        panels,
        (("fid", "FID"), ("is", "Inception Score"), ("precision", "precision"), ("recall", "recall")),
        strict=True,
    ):
        for verifier in VERIFIERS:
            line = [row for row in rows if row["verifier"] in (CHANCE, verifier)]
            axes.plot([row["candidates"] for row in line], [row[key] for row in line], marker=".", label=verifier)
        axes.set_xscale("log", base=2)
        axes.set_xticks(*[[row["candidates"] for row in line]] * 2)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("candidates", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    panels[1].legend(fontsize=8, loc="upper left")
    figure.savefig(file, dpi=110)


def real_features(classifier: FeatureNetwork, given: argparse.Namespace) -> torch.Tensor:
    """Features of the first real images, (count, d); kept beside the slots."""
    data = hashlib.sha256(f"{given.data.resolve()} {given.data.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    kept = given.out / f"real-{given.real}-{data}.npy"
    if not kept.exists():
        bad: list[str] = []
        rows: list[torch.Tensor] = []
        for batch in image_batches([given.data], bad):
            rows.append(classifier(batch).features)
            if sum(len(row) for row in rows) >= given.real:
                break
        if bad or not rows:
            raise ValueError(bad[0] if bad else f"expected images in {given.data}, got none")
        np.save(kept, torch.cat(rows)[: given.real].numpy())
    return torch.from_numpy(np.load(kept)).double()


if __name__ == "__main__":
    main()
