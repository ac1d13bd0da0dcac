"""Results of benchmarks that were never run: rows with known effects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.benchmark import store
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.benchmark.store import CANDIDATES
from noisewright.run.journal import seal


class Results(store.Results):
    """As the store gives them, of candidates that need not be sealed."""

    def candidates(self) -> Iterator[CandidateRow]:
        with (self.root / CANDIDATES).open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                row.pop("check", None)
                yield row


def made_spec(
    axes: Mapping[str, Sequence[str]],
    *,
    prompts: int = 12,
    seeds: int = 1,
    categories: Sequence[str | None] = (None,),
    reference: Mapping[str, str] | None = None,
    across: str | None = None,
) -> Spec:
    """A grid of ``axes`` (labels by name) over prompts ``prompt 1`` ..., filed under the categories in turn."""
    fields = {"search": "search", "budget": "budget"}
    return Spec(
        "made",
        "Made by hand",
        {"model": "noisewright/shapes"},
        tuple(
            Axis(name, tuple(Value(one, {fields.get(name, "search"): one}) for one in labels))
            for name, labels in axes.items()
        ),
        tuple(SetPrompt(f"prompt {n}", n, categories[(n - 1) % len(categories)]) for n in range(1, prompts + 1)),
        prompt_set="made.txt",
        seeds=seeds,
        reference=reference or {},
        across=across,
    )


def made_row(
    coordinates: Mapping[str, str],
    prompt: SetPrompt,
    repeat: int,
    best: Mapping[str, float | None],
    baseline: Mapping[str, float | None],
    *,
    verifiers: Sequence[str] = ("clip",),
    judges: Sequence[str] = ("oracle",),
    images: int = 8,
    steps: int = 10,
    **others: Any,
) -> CellRow:
    """The row of a cell that is done; ``others`` replace what it would have."""
    digest = hashlib.sha256(repr((sorted(coordinates.items()), prompt.number, repeat)).encode()).hexdigest()[:16]
    seed, run = 1000 * (prompt.number - 1) + repeat, f"cells/{digest}"
    denoise, verify = 0.1 * images, 0.02 * images
    row = {
        "cell": digest, "coordinates": dict(coordinates), "prompt": prompt.text, "number": prompt.number,
        "category": prompt.category, "seed": seed, "repeat": repeat, "status": "done", "run": run, "shared": False,
        "images": images, "nfe": images * steps, "forwards": 2 * images * steps,
        "seconds": {
            "encode": 0.05, "denoise": denoise, "decode": 0.01, "verify": verify, "total": 0.08 + denoise + verify,
        },
        "stopped": "budget", "verifiers": list(verifiers), "judges": list(judges),
        "best": {"id": "b" * 16, "seed": seed + 1, "scores": dict(best), "file": f"{run}/best.png"},
        "baseline": {"id": "a" * 16, "seed": seed, "scores": dict(baseline), "file": f"{run}/baseline.png"},
        "curve": [[1, steps, 0.2, 0.0], [images, images * steps, 0.2 * images, 1.0]], "diversity": 0.1,
        "warnings": [],
    }  # fmt: skip
    return {**row, **others}  # type: ignore[typeddict-item]


def failed_row(coordinates: Mapping[str, str], prompt: SetPrompt, repeat: int, error: str) -> CellRow:
    """The row of a cell that failed."""
    row = made_row(coordinates, prompt, repeat, {}, {})
    kept = ("cell", "coordinates", "prompt", "number", "category", "seed", "repeat")
    return {**{name: row[name] for name in kept}, "status": "failed", "error": error}  # type: ignore[misc,typeddict-item]


def made_results(
    root: Path,
    spec: Spec,
    effects: Mapping[str, Mapping[str, float]] | None = None,
    *,
    noise: float = 0.1,
    seed: int = 0,
    images: Mapping[str, int] | None = None,
    candidates: int = 0,
    judges: Sequence[str] = ("oracle",),
) -> store.Results:
    """Results with known effects: each score's gain is normal around its effect, its baseline around the prompt's own.

    Args:
        root: the benchmark's directory, which need not be there unless candidates are made.
        spec: the grid.
        effects: by label, the mean gain by score (``clip``, ``oracle``); the labels of a point add up, others have 0.
        noise: the spread of gains.
        seed: of all draws.
        images: by label, how many were made; 8 else.
        candidates: rows of candidates for each cell, written to ``candidates.jsonl``.
        judges: names of judges; ``clip`` is what is optimised.
    """
    generator, rows = np.random.default_rng(seed), []
    scores = ("clip", *judges)
    for prompt in spec.prompts:
        of_prompt = {name: generator.normal(0.5, 0.2) for name in scores}
        for repeat in range(spec.seeds):
            baseline = {name: of_prompt[name] + generator.normal(0, 0.05) for name in scores}
            for values in product(*(axis.values for axis in spec.axes)):
                labels = {axis.name: value.label for axis, value in zip(spec.axes, values, strict=True)}
                gain = {
                    name: sum((effects or {}).get(label, {}).get(name, 0.0) for label in labels.values())
                    + generator.normal(0, noise)
                    for name in scores
                }
                best = {name: baseline[name] + gain[name] for name in scores}
                count = next((n for label, n in (images or {}).items() if label in labels.values()), 8)
                rows.append(made_row(labels, prompt, repeat, best, baseline, judges=judges, images=count))
    if candidates:
        root.mkdir(parents=True, exist_ok=True)
        with (root / CANDIDATES).open("wb") as file:
            file.writelines(seal(dict(one)) for row in rows for one in made_candidates(row, candidates, generator))
    return store.Results(root, spec, tuple(rows))


def made_candidates(row: CellRow, count: int, generator: np.random.Generator) -> Iterator[CandidateRow]:
    """Candidates of a cell; the first has the baseline's scores."""
    for order in range(count):
        first = row["baseline"]["scores"]
        scores = first if order == 0 else {name: float(generator.normal(0.5, 0.2)) for name in first}
        yield {
            "cell": row["cell"], "id": f"{order:016x}", "seed": row["seed"] + order, "order": order, "steps": 10,
            "nfe": 10 * (order + 1), "seconds": 0.2 * (order + 1), "scores": scores,
            "file": f"{row['run']}/images/{order:016x}.png",
        }  # fmt: skip
