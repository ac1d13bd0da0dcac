"""All searches at equal NFE and at equal seconds, on paired prompts and seeds, against best-of-N.

Each search gets the same budget for the same prompts and seeds; the verifier steers it, and the oracle, which no search
sees, judges its best. Rows are kept in ``--out`` as they come, so a stopped benchmark goes on where it was.
Intervals: bootstrap over prompts, 95 %; the change is paired with best-of-N (random) at its best number of steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import noisewright as nw
from noisewright import registry
from noisewright.metadata import read_image
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse

RESAMPLES = 10_000
STEPS = 25
SETTINGS: dict[str, dict] = {
    "random": {},
    "random, 10 steps": {"search": "random", "num_inference_steps": 10},
    "zero-order": {},
    "paths": {},
    "zero-order+paths": {},
    "fk": {"search_args": {"particles": "budget"}},
    "svdd": {"search_args": {"proposals": "budget"}},
    "rbf": {"search_args": {"quota": "budget"}},
    "evolution": {},
    "halving": {"search_args": {"n": "1.4 budget"}},
    "refine": {},
    "refine, cmaes": {"search": "refine", "search_args": {"method": "cmaes"}},
}


def balanced(prompts: tuple[str, ...], count: int) -> list[str]:
    """As many of each kind, in the order of the set."""
    chosen: list[str] = []
    for name in KINDS:
        chosen += [prompt for prompt in prompts if kind(parse(prompt)) == name][: count // len(KINDS)]
    return chosen


def arguments(name: str, images: int) -> dict:
    """The settings of a search, sized to a budget in images."""
    given = json.loads(json.dumps({"search": name, **SETTINGS[name]}))
    sizes = {"budget": images, "1.4 budget": max(9, round(1.4 * images))}
    args = given.get("search_args", {})
    given["search_args"] = {key: sizes.get(value, value) for key, value in args.items()}
    return given


def diversity(paths: list[Path]) -> float:
    """Mean distance between the finalists' images, root mean square per channel in [0, 1]."""
    arrays = [read_image(path)[0].astype(np.float32) / 255 for path in paths[:8]]
    pairs = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in itertools.combinations(arrays, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


def measure(pipe: object, verifier: object, prompt: str, name: str, images: int, budget: str, seed: int) -> dict:
    """One search for one prompt."""
    with tempfile.TemporaryDirectory() as directory:
        result = nw.search(
            pipe, prompt, verifier=verifier, budget=budget, seed=seed, out=directory, pictures=False,
            **{"num_inference_steps": STEPS, **arguments(name, images)},
        )  # fmt: skip
        pixels, _ = read_image(result.best.file)
        judged = grade(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, prompt)[0]
        scores = {one.id: next(iter(one.scores.values())) for one in result.candidates}
        finalists = sorted(scores, key=lambda key: -scores[key])
        files = {one.id: result.run / one.file for one in result.candidates}
        return {
            "search": name, "prompt": prompt, "images": images, "budget": budget,
            "score": next(iter(result.best.scores.values())), "right": judged.right, "grade": judged.score,
            "nfe": result.nfe, "seconds": result.seconds["total"],
            "diversity": diversity([files[key] for key in finalists]),
        }  # fmt: skip


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def show(rows: list[dict], budget: str) -> None:
    """One table: all searches at one budget."""
    some = [row for row in rows if row["budget"] == budget]
    names = list(dict.fromkeys(row["search"] for row in some))
    table = {name: {row["prompt"]: row for row in some if row["search"] == name} for name in names}
    plain = [name for name in names if name.startswith("random")]
    best = max(plain, key=lambda name: np.mean([row["right"] for row in table[name].values()]))
    print(f"\nbudget {budget}, {len(table[best])} prompts; change against: {best}")
    print(
        f"{'search':20}{'score':>8}{'right':>8}   {'change, 95 % interval':26}{'diversity':>10}{'NFE':>8}{'seconds':>9}"
    )
    for name in names:
        shared = [prompt for prompt in table[name] if prompt in table[best]]
        mine = [table[name][prompt] for prompt in shared]
        change = np.array([float(table[name][p]["right"]) - float(table[best][p]["right"]) for p in shared])
        low, high = interval(change)
        mean = {
            key: float(np.mean([row[key] for row in mine])) for key in ("score", "right", "diversity", "nfe", "seconds")
        }
        print(
            f"{name:20}{mean['score']:8.2f}{mean['right']:8.1%}   "
            f"{f'{100 * change.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points':26}"
            f"{mean['diversity']:10.3f}{mean['nfe']:8.0f}{mean['seconds']:9.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[8, 32, 128], help="budgets in images' worth of NFE")
    parser.add_argument("--seconds", type=float, nargs="*", default=[], help="budgets in seconds besides")
    parser.add_argument("--prompts", choices=["dev", "test"], default="test")
    parser.add_argument("--count", type=int, default=200, help="prompts, balanced over the kinds")
    parser.add_argument("--searches", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--verifier", default="shapes-clip")
    parser.add_argument("--out", type=Path, default=Path("runs/searches.jsonl"))
    given = parser.parse_args()

    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["search"], row["prompt"], row["budget"]) for row in rows}
    pipe, verifier = nw.load(), registry.make_verifier(given.verifier)
    budgets = [(images, f"{images * STEPS} nfe") for images in given.images]
    budgets += [(max(8, round(seconds * 5)), f"{seconds:g} s") for seconds in given.seconds]
    began = time.perf_counter()
    for images, budget in budgets:
        for number, prompt in enumerate(balanced(load_prompts(given.prompts), given.count)):
            for name in given.searches:
                if (name, prompt, budget) in done:
                    continue
                rows.append(measure(pipe, verifier, prompt, name, images, budget, 1000 * number))
                with given.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        show(rows, budget)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
