"""Where the evidence is kept, which prompts it is of, and by which weights it was made."""

from __future__ import annotations

import hashlib
import itertools
from functools import cache
from pathlib import Path

from noisewright.benchmark.spec import SetPrompt
from noisewright.registry import find_model
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "evidence"
"""What is committed: the numbers that the page is made of."""

RUNS = Path("runs/evidence")
"""What is not: images, run directories, scores by weights."""

PAGE = ROOT / "docs" / "evidence.md"
SEEDS = 1000
"""Seeds between those of two neighbouring prompts, as ``Spec.seed_step`` has them."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RESTS_ON = {"shapes-aesthetic": ("shapes-clip",)}
"""Bundled models that another one looks through."""


def prompts_of(name: str, count: int) -> tuple[SetPrompt, ...]:
    """Prompts of a set, with their places from 1; a smaller count gives the first of a larger one.

    Args:
        name: ``test`` or ``dev`` of the shapes world, kinds alternating; ``classes``: those of CIFAR-10 in turn.
        count: how many.
    """
    if name == "classes":
        return tuple(SetPrompt(CLASSES[k % len(CLASSES)], k + 1, CLASSES[k % len(CLASSES)]) for k in range(count))
    known = [SetPrompt(text, place + 1, kind(parse(text))) for place, text in enumerate(load_prompts(name))]
    by_kind = [[one for one in known if one.category == name] for name in KINDS]
    turns = itertools.zip_longest(*by_kind)
    return tuple(one for some in turns for one in some if one is not None)[:count]


def first_seed(number: int) -> int:
    """The first seed of a prompt."""
    return SEEDS * (number - 1)


@cache
def weights(model: str) -> str:
    """12 hex digits of a bundled model's weights; empty where there is none of the name."""
    name = model.removeprefix("noisewright/")
    try:
        place = Path(find_model(f"noisewright/{name}"))
    except (ValueError, OSError):
        return ""
    found = hashlib.sha256()
    for file in sorted(place.rglob("*.safetensors")):
        found.update(file.relative_to(place).as_posix().encode() + file.read_bytes())
    for one in RESTS_ON.get(name, ()):
        found.update(weights(one).encode())
    return found.hexdigest()[:12]
