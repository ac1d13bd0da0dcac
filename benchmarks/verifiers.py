"""The bundled verifiers: how fast they are (``speed``), and who pays for whom (``matrix``).

``speed``: scores a second in batches against one at a time, in turns in this process, and a verifier's share of the
time of best of 64. ``matrix``: 16 candidates a prompt are generated once; for each verifier, and for the ensemble (mean
rank), its pick is judged by each of the others and by the oracle, which picks too. Intervals: bootstrap over prompts,
95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
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
from noisewright.measures.bootstrap import interval
from noisewright.run.ensembles import mean_ranks
from noisewright.shapes.prompts import load_prompts

BUNDLED = ("shapes-clip", "shapes-aesthetic", "shapes-reward")
ORACLE = "shapes-oracle"
PROMPT = "a green star left of a red circle"


def speed(given: argparse.Namespace) -> None:
    """Scores a second, and the share of best of 64."""
    pipe = nw.load()
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(given.count, 3, 64, 64, generator=generator) * 255).round() / 255
    print(f"{torch.get_num_threads()} threads, batches of {given.batch}, {given.count} images of 64x64")
    print(f"{'verifier':20}{'batched /s':>12}{'alone /s':>10}{'ratio':>8}{'share of best of 64':>22}")
    for name in (*BUNDLED, ORACLE, "sharpness"):
        verifier = registry.make_verifier(name)
        verifier(images[: given.batch], PROMPT)  # warm up
        rates: dict[int, list[float]] = {given.batch: [], 1: []}
        for _ in range(given.repeats):
            for size, found in rates.items():
                began = time.perf_counter()
                for part in images.split(size):
                    verifier(part, PROMPT)
                found.append(len(images) / (time.perf_counter() - began))
        batched, alone = (statistics.median(found) for found in rates.values())
        with tempfile.TemporaryDirectory() as directory:
            seconds = nw.search(
                pipe, PROMPT, verifier=verifier, judge=[], budget=64, out=directory, pictures=False,
                batch_size=given.batch,
            ).seconds
        share = seconds["verify"] / seconds["total"]
        print(f"{name:20}{batched:12.0f}{alone:10.0f}{batched / alone:8.2f}{share:22.1%}", flush=True)


@cache
def loaded() -> tuple[Any, list[Any]]:
    return nw.load(), [registry.make_verifier(name) for name in (*BUNDLED, ORACLE)]


def candidates(job: tuple[int, str, int]) -> dict[str, Any]:
    """The scores of N candidates of a prompt, seed first, by verifier."""
    number, prompt, count = job
    torch.set_num_threads(1)
    pipe, verifiers = loaded()
    with tempfile.TemporaryDirectory() as directory:
        result = nw.search(
            pipe, prompt, verifier=verifiers, judge=[], budget=count, seed=1000 * number, out=directory, pictures=False
        )
    ordered = sorted(result.candidates, key=lambda one: one.seed)
    return {"prompt": prompt, "scores": {one.name: [c.scores[one.name] for c in ordered] for one in verifiers}}


def picks(scores: dict[str, list[float]]) -> dict[str, int]:
    """Who picks which candidate; ``plain`` is the first seed."""
    found = {name: int(np.argmax(values)) for name, values in scores.items()}
    ranks = mean_ranks([list(row) for row in zip(*(scores[name] for name in BUNDLED), strict=True)])
    chosen = {"plain": 0, **{name: found[name] for name in BUNDLED}}
    return {**chosen, "ensemble": int(np.argmax(ranks)), ORACLE: found[ORACLE]}


def matrix(given: argparse.Namespace) -> None:
    """Who pays for whom."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {row["prompt"] for row in rows}
    prompts = list(enumerate(load_prompts(given.prompts)))[:: given.every]
    jobs = [(number, prompt, given.n) for number, prompt in prompts if prompt not in done]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for row in pool.map(candidates, jobs):
            rows.append(row)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    wanted = {prompt for _, prompt in prompts}
    rows = [row for row in rows if row["prompt"] in wanted]
    chosen = [picks(row["scores"]) for row in rows]
    judges = (*BUNDLED, ORACLE)
    print(f"best of {given.n} on {len(rows)} {given.prompts} prompts; mean score of the picks by each judge; success")
    print(f"{'picked by':20}" + "".join(f"{name:>18}" for name in judges) + f"{'success':>10}   gain over plain, 95 %")
    plain = np.array([row["scores"][ORACLE][0] == 1 for row in rows], float)
    for who in chosen[0]:
        both = list(zip(rows, chosen, strict=True))
        values = {name: np.array([row["scores"][name][pick[who]] for row, pick in both]) for name in judges}
        right = (values[ORACLE] == 1).astype(float)
        print(
            f"{who:20}" + "".join(f"{values[name].mean():18.3f}" for name in judges)
            + f"{right.mean():10.1%}   {changed(100 * (right - plain))}"
        )
    print("\nthe same in deviations of the prompt's candidates (0: their mean)")
    for who in chosen[0]:
        cells = []
        for name in judges:
            some = [standard(row["scores"][name])[pick[who]] for row, pick in zip(rows, chosen, strict=True)]
            cells.append(f"{np.mean(some):+18.2f}")
        print(f"{who:20}" + "".join(cells))


def standard(values: list[float]) -> np.ndarray:
    array = np.array(values, float)
    spread = array.std()
    return (array - array.mean()) / spread if spread > 0 else np.zeros(len(array))


def changed(values: np.ndarray) -> str:
    """A mean and its 95 % interval."""
    low, high = interval(values)
    return f"{values.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "matrix"])
    parser.add_argument("--count", type=int, default=256, help="speed: images")
    parser.add_argument("--batch", type=int, default=16, help="speed: images at a time")
    parser.add_argument("--repeats", type=int, default=3, help="speed")
    parser.add_argument("--n", type=int, default=16, help="matrix: candidates a prompt")
    parser.add_argument("--prompts", choices=["dev", "test"], default="test")
    parser.add_argument("--every", type=int, default=1, help="matrix: only every so many-th prompt")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/verifiers.jsonl"), help="matrix: rows, as they come")
    given = parser.parse_args()
    {"speed": speed, "matrix": matrix}[given.what](given)


if __name__ == "__main__":
    main()
