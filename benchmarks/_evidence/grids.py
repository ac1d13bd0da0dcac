"""The benchmarks of claims 2, 3, 7 and 11, as specs of the benchmark command, and their rows in short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _evidence.kept import CLIP, EQUAL_BY, ORACLE, REWARD, RIGHT, Point, Table
from _evidence.places import RUNS, prompts_of, weights
from _evidence.scoring import NETWORKS, SHAPES_SCORERS, networks, verifier
from noisewright.benchmark.fitting import fitted
from noisewright.benchmark.rows import CandidateRow
from noisewright.benchmark.spec import Axis, Spec, Value
from noisewright.benchmark.store import Results
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.planning import plan
from noisewright.request import Request

NFE = 640
CHECKPOINTS = (40, 80, 160, 320, 640)
"""NFE at which the best so far of a search that goes on until its budget ends is looked at."""

ENDS_ITSELF = ["100000 nfe"]
GRADER_PORT = 18427
"""Of the server that grades: one number, since it is part of a run's name."""

SLIDES_NFE, SLIDES_STEPS = 480, 30
IMAGES_PER_SECOND = {CLIP: 10.0, ORACLE: 7.0, REWARD: 7.0}
"""What a budget in seconds is taken for when sizes are set, at 10 steps, on the machine that each was planned on."""

JUDGE_LOGIT = "classifier:noisewright/cifar10-judge,name=logit"
CLASSIFIER_LOGIT = "classifier:noisewright/cifar10-classifier,name=logit"
CLASSIFIER_PROBABILITY = "classifier:noisewright/cifar10-classifier,output=probability,name=probability"
ENSEMBLE = {"verifier": ["shapes-aesthetic", "shapes-clip", "shapes-reward"], "ensemble": "rank"}
SHAPES = {"model": "noisewright/shapes", "dtype": "bfloat16", "num_inference_steps": 10, "device": "cpu"}
CIFAR10 = {
    "model": "noisewright/cifar10", "dtype": "bfloat16", "num_inference_steps": 10, "guidance_scale": 1.0,
    "device": "cpu", "judge": ["none"],
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """A benchmark of the evidence.

    Attributes:
        name: of its result file.
        set: of prompts.
        make: the spec, of so many prompts.
        models: bundled ones that it rests on.
        checkpoints: whether rows are also of the best so far.
        version: raise it with any change of the spec but more prompts, or of what a budget buys.
    """

    name: str
    set: str
    make: Callable[[int], Spec]
    models: tuple[str, ...]
    checkpoints: bool = False
    version: int = 1

    def place(self, root: Path = RUNS) -> Path:
        """Its directory, named by version and weights."""
        known = json.dumps([self.version, [weights(one) for one in self.models]])
        return root / "grids" / f"{self.name}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def _searches(nfe: int) -> tuple[Value, ...]:
    """Random search, zero-order search with 2, 4, 8 neighbours, paths with 2, 4, 8, 16 children."""
    return (
        Value("random", {"search": "random", "budget": [f"{nfe} nfe"]}),
        *(_value(f"zero-order, N = {n}", "zero-order", {"neighbours": n}, [f"{nfe} nfe"]) for n in (2, 4, 8)),
        *(_value(f"paths, M = {m}", "paths", {"width": 2, "children": m}, ENDS_ITSELF) for m in (2, 4, 8, 16)),
    )


def _value(label: str, search: str, args: Mapping[str, Any], budget: list[str]) -> Value:
    return Value(label, {"search": search, "search_args": args, "budget": budget})


def scaling(prompts: int) -> Spec:
    base = {**SHAPES, "verifier": ["shapes-clip"], "judge": ["shapes-oracle"]}
    axes = (Axis("search", _searches(NFE)),)
    return Spec("scaling", "Searches on shapes, curves", base, axes, prompts_of("test", prompts), "test")


def scaling_cifar10(prompts: int) -> Spec:
    base = {**CIFAR10, "verifier": [CLASSIFIER_LOGIT]}
    axes, some = (Axis("search", _searches(NFE)),), prompts_of("classes", prompts)
    return Spec("scaling-cifar10", "Searches on CIFAR-10, curves", base, axes, some, "classes")


def local(prompts: int) -> Spec:
    """Zero-order search by the two verifiers whose random search loses recall."""
    verifiers = (Value("judge logit", {"verifier": [JUDGE_LOGIT]}),
                 Value("classifier probability", {"verifier": [CLASSIFIER_PROBABILITY]}))  # fmt: skip
    base = {**CIFAR10, "search": "zero-order", "search_args": {"neighbours": 4}, "budget": [f"{NFE} nfe"]}
    return Spec("recall", "Zero-order search on CIFAR-10, for recall", base, (Axis("verifier", verifiers),),
                prompts_of("classes", prompts), "classes")  # fmt: skip


@cache
def sized(search: str, nfe: int, steps: int, given: str = "{}") -> dict[str, Any]:
    """The arguments of a search whose cost fits a budget in NFE."""
    request = Request(**{**SHAPES, "num_inference_steps": steps}, prompt="one red circle", search=search,
                      verifier=["shapes-oracle"], judge=["none"], budget=[f"{nfe} nfe"])  # fmt: skip
    return fitted(plan(request), nfe, json.loads(given))


def class_slides(prompts: int) -> Spec:
    base = {**SHAPES, **ENSEMBLE, "num_inference_steps": SLIDES_STEPS,
            "judge": [f"vlm:http://127.0.0.1:{GRADER_PORT}/v1#shapes-oracle"]}  # fmt: skip
    budget = [f"{SLIDES_NFE} nfe"]

    def row(label: str, search: str) -> Value:
        return _value(label, search, sized(search, SLIDES_NFE, SLIDES_STEPS), budget)

    rows = (
        Value("random noise", {"search": "random", "budget": ["1 images"]}),
        Value("random, best of N", {"search": "random", "budget": budget}), row("ensemble + zero-order", "zero-order"),
        row("ensemble + paths", "paths"), row("ensemble + both", "zero-order+paths"),
    )  # fmt: skip
    title = "The table of the class slides"
    return Spec("class-slides", title, base, (Axis("row", rows),), prompts_of("test", prompts), "test")


EQUAL: dict[str, Mapping[str, Any]] = {
    "random": {"search": "random"},
    "random, 2/3 steps": {"search": "random", "num_inference_steps": 7},
    "random, 2.5 x steps": {"search": "random", "num_inference_steps": 25},
    "zero-order": {"search": "zero-order"},
    "zero-order, restart": {"search": "zero-order", "search_args": {"on_failure": "restart"}},
    "paths": {"search": "paths"},
    "zero-order+paths": {"search": "zero-order+paths"},
    "fk": {"search": "fk"},
    "svdd": {"search": "svdd"},
    "rbf": {"search": "rbf"},
    "evolution": {"search": "evolution"},
    "halving": {"search": "halving"},
    "refine": {"search": "refine"},
    "refine, cmaes": {"search": "refine", "search_args": {"method": "cmaes"}},
}
VARIANTS = ("random, 2.5 x steps", "zero-order, restart", "refine, cmaes")
"""Of the searches by shapes-clip, those that the other verifiers leave out."""

CHEAPEST = "cache,every=2+guidance,until=0.5+truncate,at=0.6"
"""The best draft of ``benchmarks/drafts.py``."""

OTHERS: dict[str, Mapping[str, Any]] = {
    **{name: one for name, one in EQUAL.items() if name not in VARIANTS},
    "random, cut short": {"search": "random", "draft": "truncate,at=0.6,pilot=0"},
    "random, cached": {"search": "random", "draft": "cache,every=2,pilot=0"},
    "random, cheapest": {"search": "random", "draft": f"{CHEAPEST},pilot=0"},
    "zero-order, cheapest": {"search": "zero-order", "draft": f"{CHEAPEST},pilot=0"},
}
"""With the other verifiers: also searches over cheaper images, the best three of which are made in full; unproved, so
that all rows do the same.
"""


def equal_seconds(seconds: float, verifier: str = "shapes-clip") -> Callable[[int], Spec]:
    """All searches with the same seconds.

    By the oracle each of them ends with its first success: going on would change nothing but its seconds.
    """

    def make(prompts: int) -> Spec:
        values = []
        for label, changes in (EQUAL if verifier == CLIP else OTHERS).items():
            steps = changes.get("num_inference_steps", 10)
            nfe = round(seconds * IMAGES_PER_SECOND[verifier] * 10)
            args = sized(changes["search"], nfe, steps, json.dumps(changes.get("search_args", {})))
            values.append(Value(label, {**changes, "search_args": args}))
        by = {"target": RIGHT, "judge": ["none"]} if verifier == ORACLE else {"judge": [ORACLE]}
        base = {**SHAPES, "verifier": [verifier], **by}
        budget = f"{seconds:g} s"
        axes = (Axis("search", tuple(values)), Axis("budget", (Value(budget, {"budget": [budget]}),)))
        some = prompts_of("test", prompts)
        return Spec(f"equal-{seconds:g}", "All searches at equal seconds", base, axes, some, "test")

    return make


BUDGETS_S = {"equal-seconds": (0.8, 3.2, 12.8), "equal-oracle": (1.6, 4.8, 18.0), "equal-reward": (1.6, 4.8, 18.0)}
"""By result file. 8, 32 and 128 images' worth of seconds of best-of-N, on the machine that each was planned on."""


def equal_grids(file: str) -> tuple[Grid, ...]:
    """Of a result file, a grid a budget."""
    verifier, stem = EQUAL_BY[file], file.removesuffix("-seconds")
    models = ("shapes",) if verifier == ORACLE else ("shapes", verifier)
    return tuple(
        Grid(f"{stem}-{seconds:g}", "test", equal_seconds(seconds, verifier), models, version=2)
        for seconds in BUDGETS_S[file]
    )


GRIDS = {
    one.name: one
    for one in (
        Grid("scaling", "test", scaling, ("shapes", CLIP), True),
        Grid("scaling-cifar10", "classes", scaling_cifar10, ("cifar10", "cifar10-classifier"), True),
        Grid("recall", "classes", local, ("cifar10", "cifar10-classifier", "cifar10-judge")),
        Grid("class-slides", "test", class_slides, ("shapes", CLIP, REWARD, "shapes-aesthetic")),
        *(grid for file in EQUAL_BY for grid in equal_grids(file)),
    )
}


# In short


def short(grid: Grid, results: Results) -> Table:
    """A benchmark's rows in short: a point a cell of the grid, scored anew on the images that were kept."""
    points: dict[tuple[tuple[str, str], ...], list[dict[str, float]]] = {}
    done = {row["cell"]: row for row in results.done}
    for cell, some in _by_cell(results, set(done)).items():
        row = done[cell]
        goes_on = grid.checkpoints and not row["coordinates"].get("search", "").startswith("paths")
        for nfe in CHECKPOINTS if goes_on else (None,):
            found = _best(row["verifiers"], some, nfe) if nfe is not None else None
            if nfe is not None and found is None:
                continue
            labels = {**row["coordinates"], **({"nfe": str(nfe)} if nfe is not None else {})}
            file = found["file"] if found is not None else row["best"]["file"]
            values = {
                "number": row["number"], "nfe": nfe or row["nfe"],
                "images": row["images"] if nfe is None else sum(one["nfe"] <= nfe for one in some),
                "seconds": found["seconds"] if found is not None else row["seconds"]["total"],
                **_scores(grid.set, inside(results.root, file), row["prompt"]),
                **({"vlm": graded} if (graded := row["best"]["scores"].get("vlm")) is not None else {}),
            }  # fmt: skip
            points.setdefault(tuple(labels.items()), []).append(values)
    order = [one.label for one in results.spec.axes[0].values]
    made = [Point(dict(key), _columns(rows)) for key, rows in points.items()]
    made.sort(key=lambda one: (order.index(next(iter(one.labels.values()))), float(one.labels.get("nfe", 0))))
    base = results.spec.base
    about = {"prompts": len(results.spec.prompts), "steps": base["num_inference_steps"], "dtype": base["dtype"],
             "weights": {name: weights(name) for name in grid.models}}  # fmt: skip
    return Table(about, tuple(made))


def _by_cell(results: Results, done: set[str]) -> dict[str, list[CandidateRow]]:
    found: dict[str, list[CandidateRow]] = {cell: [] for cell in done}
    for row in results.candidates():
        found[row["cell"]].append(row)
    return found


def _best(names: Sequence[str], rows: Sequence[CandidateRow], nfe: int) -> CandidateRow | None:
    """The best candidate by one verifier of those that were scored within an NFE."""
    some = [(row["scores"].get(names[0]), -row["order"], row) for row in rows if row["nfe"] <= nfe]
    known = [(score, order, row) for score, order, row in some if score is not None]
    return max(known, key=lambda one: one[:2])[2] if known else None


def _scores(set_: str, file: Path, prompt: str) -> dict[str, float]:
    array, _ = read_image(file)
    images = torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255
    if set_ != "classes":
        return {name: float(verifier(name)(images, prompt)[0]) for name in SHAPES_SCORERS}
    found: dict[str, float] = {}
    for name in NETWORKS:
        network, logits = networks(name)
        seen = network(images).probabilities[0]
        label = [one.text for one in prompts_of("classes", 10)].index(prompt)
        found[f"{name} logit"] = float(logits(images, prompt)[0])
        found[f"{name} probability"] = float(seen[label])
        found[f"{name} right"] = float(int(seen.argmax()) == label)
    return found


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    ordered = sorted(rows, key=lambda row: row["number"])
    return {name: np.array([row.get(name, np.nan) for row in ordered]) for name in ordered[0]}


def joined(tables: Sequence[Table]) -> Table:
    """Several tables as one."""
    return replace(tables[0], points=tuple(point for one in tables for point in one.points))
