"""All searches at equal NFE and at equal seconds, on paired prompts and seeds, against best-of-N.

Each search gets the same budget for the same prompts and seeds; the verifier steers it, and the oracle, which no search
sees, judges its best. What sets a search's size (children, particles, ...) is the largest whose cost fits the budget;
searches that go on until the budget ends have none. An image's worth is ``--steps`` NFE.

Rows are kept in ``--out`` as they come, so a stopped benchmark goes on where it was. Intervals: bootstrap over prompts,
95 %; changes are paired with best-of-N at its best number of steps of those measured. Table of rows that are there:
``--show``.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import noisewright as nw
from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import BudgetExhausted
from noisewright.images.metadata import read_image
from noisewright.measures.bootstrap import interval
from noisewright.registry.builtins import STEP_NOISE
from noisewright.run.budget import Budget
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse
from noisewright.verifiers.pixels import Brightness

IMAGES_PER_SECOND = 5.0
"""What a budget in seconds is taken for when sizes are set, at 10 steps; a search that is done early does not go on."""

ROWS: dict[str, dict[str, Any]] = {
    "random": {},
    "random, 2/3 steps": {"steps": 2 / 3},
    "random, 2.5 x steps": {"steps": 2.5},
    "random, eta 1": {"solver": "ddim", "eta": 1.0},
    "zero-order": {},
    "zero-order, restart": {"search_args": {"on_failure": "restart"}},
    "paths": {"size": "children", "search_args": {"rounds": lambda n: max(1, min(4, n // 12))}},
    "zero-order+paths": {
        "size": "children",
        "search_args": {
            "rounds": lambda n: max(1, (n // 2 - 1) // 4),
            "width": lambda n: 1 if n < 12 else 2,
            "path_rounds": lambda n: max(1, min(4, n // 24)),
        },
    },
    "fk": {"size": "particles"},
    "svdd": {"size": "proposals", "search_args": {"width": lambda n: max(1, n // 12)}},
    "svdd, blocks of 2": {"size": "proposals", "search_args": {"width": lambda n: max(1, n // 12), "block": 2}},
    "rbf": {"size": "quota", "search_args": {"first": lambda n: max(1, n // 4)}},
    "evolution": {
        "size": "population",
        "search_args": {"elites": lambda n: max(1, n // 12), "at": lambda n: (0.0,) if n < 12 else (0.0, 0.2, 0.4)},
    },
    "halving": {"size": "n", "search_args": {"pilot": lambda n: max(4, min(8, n // 3))}},
    "refine": {"search_args": {"population": lambda n: 4 if n < 12 else 8, "elites": lambda n: 2 if n < 12 else 3}},
    "refine, cmaes": {"search_args": {"method": "cmaes", "population": lambda n: 4 if n < 12 else 8}},
    "gradient": {"size": "iterations"},
}
"""What is compared: arguments by row; a function takes the budget in images, ``size`` is fitted to the budget."""


def balanced(prompts: tuple[str, ...], count: int) -> list[tuple[int, str]]:
    """As many of each kind in the order of the set, kinds alternating, each with its place in the set."""
    numbered = [[one for one in enumerate(prompts) if kind(parse(one[1])) == name] for name in KINDS]
    return [one for some in itertools.zip_longest(*numbered) for one in some if one is not None][:count]


@functools.cache
def levels(pipe: Any, steps: int) -> Schedule:
    """The pipeline's own noise levels."""
    return PipelineSampler(pipe, "one red circle", num_inference_steps=steps).schedule


@functools.cache
def arguments(name: str, images: int, schedule: Schedule) -> dict[str, Any]:
    """The settings of a row for a budget in images, its size fitted on the exact sampler with the same schedule."""
    row = ROWS[name]
    search = name.split(",")[0]
    args = {key: value(images) if callable(value) else value for key, value in row.get("search_args", {}).items()}
    settings = {key: row[key] for key in ("solver", "eta") if key in row}
    if "size" in row:
        low, high = 1, 4 * images
        while low < high:
            middle = (low + high + 1) // 2
            fits = cost(search, {**args, row["size"]: middle}, schedule, images * schedule.steps + 1)
            low, high = (middle, high) if fits <= images * schedule.steps else (low, middle - 1)
        args[row["size"]] = low
    return {"search": search, "search_args": args, **settings}


def cost(search: str, args: dict[str, Any], schedule: Schedule, limit: int) -> int:
    """NFE of a search and its baseline, counted up to ``limit``; arguments that it refuses count as too many."""
    stochastic = STEP_NOISE in registry.entry("search", search).needs
    sampler = MixtureSampler(steps=schedule.steps, solver=Ddim(1.0 if stochastic else 0.0))
    sampler.schedule = schedule
    with tempfile.TemporaryDirectory() as directory:
        store = Store.create(Path(directory) / "run", {"sampler": sampler.description}, {"noisewright": ""}, "now")
        run = Run(store, sampler, [Brightness()], budget=Budget(nfe=limit), batch_size=64)
        try:
            with suppress(BudgetExhausted):
                registry.make_search(search)(run, **args)
                run.render()
                return run.spent.nfe
        except ValueError:
            pass
        finally:
            store.close()
    return limit


def diversity(paths: list[Path]) -> float:
    """Mean distance between the finalists' images, root mean square per channel in [0, 1]."""
    arrays = [read_image(path)[0].astype(np.float32) / 255 for path in paths[:8]]
    pairs = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in itertools.combinations(arrays, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


def measure(
    pipe: Any, verifier: Any, numbered: tuple[int, str], name: str, images: int, budget: str, given: argparse.Namespace
) -> dict[str, Any]:
    """One search for one prompt; the seeds go by the prompt's place in its set."""
    number, prompt = numbered
    steps = max(2, round(given.steps * ROWS[name].get("steps", 1)))
    settings = arguments(name, images, levels(pipe, steps))
    with tempfile.TemporaryDirectory() as directory:
        result = nw.search(
            pipe, prompt, verifier=verifier, judge=[], budget=budget, seed=given.seed + 1000 * number, out=directory,
            pictures=False, num_inference_steps=steps, **settings,
        )  # fmt: skip
        pixels, _ = read_image(result.best.file)
        judged = grade(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, prompt)[0]
        finalists = sorted(result.candidates, key=lambda one: -next(iter(one.scores.values())))
        return {
            "row": name, "prompt": prompt, "budget": budget, "made by": made_by(name, images, given),
            "settings": settings, "score": next(iter(result.best.scores.values())), "right": judged.right,
            "grade": judged.score, "nfe": result.nfe, "images": len(result.candidates),
            "seconds": result.seconds["total"],
            "diversity": diversity([result.run / one.file for one in finalists]),
        }  # fmt: skip


def made_by(name: str, images: int, given: argparse.Namespace) -> str:
    """What a row depends on; rows made otherwise are not taken for it."""
    args = {
        key: value(images) if callable(value) else value for key, value in ROWS[name].get("search_args", {}).items()
    }
    known = {key: ROWS[name].get(key) for key in ("solver", "eta", "size", "steps")}
    text = json.dumps([given.verifier, given.prompts, given.seed, given.steps, images, args, known], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def loaded(verifier: str) -> tuple[Any, Any]:
    return nw.load(), registry.make_verifier(verifier)


def work(job: tuple[list[tuple[str, int, str, tuple[int, str]]], argparse.Namespace]) -> list[dict[str, Any]]:
    """The rows of some jobs (row, images, budget, prompt)."""
    jobs, given = job
    torch.set_num_threads(1)  # as many processes as cores, of one thread each
    pipe, verifier = loaded(given.verifier)
    return [measure(pipe, verifier, numbered, name, images, budget, given) for name, images, budget, numbered in jobs]


def changed(values: np.ndarray) -> str:
    """A mean and its 95 % interval."""
    low, high = interval(values)
    return f"{values.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def show(rows: list[dict[str, Any]], budget: str, names: list[str]) -> None:
    """One table: all searches at one budget, on the prompts that all of them have."""
    table = {name: {one["prompt"]: one for one in rows if one["row"] == name} for name in names}
    table = {name: found for name, found in table.items() if found}
    shared = set.intersection(*[set(found) for found in table.values()]) if table else set()
    if not shared:
        return
    prompts = sorted(shared)

    def mean(name: str, key: str) -> float:
        return float(np.mean([table[name][prompt][key] for prompt in prompts]))

    plain = [name for name in table if name.startswith("random") and "eta" not in name] or list(table)
    best = max(plain, key=lambda name: (mean(name, "right"), mean(name, "grade")))
    print(f"\nbudget {budget}, {len(prompts)} prompts; changes against: {best}; success and grade by the oracle")
    print(
        f"{'search':21}{'score':>7}  {'change, 95 %':24}{'success':>8}  {'change, 95 %':24}{'grade':>7}  "
        f"{'change, 95 %':22}{'divers.':>8}{'images':>7}{'NFE':>6}{'seconds':>9}"
    )
    for name, found in table.items():
        score, right, grades = (
            changed(scale * np.array([float(found[p][key]) - float(table[best][p][key]) for p in prompts]))
            for key, scale in (("score", 1), ("right", 100), ("grade", 100))
        )
        print(
            f"{name:21}{mean(name, 'score'):7.1f}  {score:24}{mean(name, 'right'):8.1%}  {right:24}"
            f"{100 * mean(name, 'grade'):7.1f}  {grades:22}{mean(name, 'diversity'):8.3f}"
            f"{mean(name, 'images'):7.0f}{mean(name, 'nfe'):6.0f}{mean(name, 'seconds'):9.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="*", default=[8, 32, 128], help="budgets in images' worth of NFE")
    parser.add_argument("--seconds", type=float, nargs="*", default=[], help="budgets in seconds besides")
    parser.add_argument("--steps", type=int, default=10, help="of a full run: an image's worth")
    parser.add_argument("--prompts", choices=["dev", "test"], default="test")
    parser.add_argument("--count", type=int, default=200, help="prompts, kinds alternating")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=[name for name in ROWS if name != "gradient"])
    parser.add_argument("--verifier", default="shapes-clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/searches.jsonl"))
    parser.add_argument("--show", action="store_true", help="only print what --out has")
    given = parser.parse_args()

    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["row"], row["prompt"], row["budget"], row["made by"]) for row in rows}
    budgets = [(images, f"{images * given.steps} nfe") for images in given.images]
    budgets += [(max(4, round(s * IMAGES_PER_SECOND * 10 / given.steps)), f"{s:g} s") for s in given.seconds]
    prompts = balanced(load_prompts(given.prompts), given.count)
    began = time.perf_counter()
    jobs = [
        [(name, images, budget, numbered) for name in given.rows
         if (name, numbered[1], budget, made_by(name, images, given)) not in done]
        for images, budget in budgets for numbered in prompts
    ]  # fmt: skip
    if not given.show:
        with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
            parts = [[one for some in jobs[k : k + 2] for one in some] for k in range(0, len(jobs), 2)]
            for number, found in enumerate(pool.map(work, [(part, given) for part in parts])):
                rows += found
                with given.out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
                print(f"{number + 1} of {len(parts)} parts, {time.perf_counter() - began:.0f} s", flush=True)
    for images, budget in budgets:
        valid = {(name, made_by(name, images, given)) for name in ROWS}
        show([r for r in rows if r["budget"] == budget and (r["row"], r["made by"]) in valid], budget, list(ROWS))
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
