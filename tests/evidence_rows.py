"""Synthetic rows of the evidence."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _evidence.kept import Held, Point, Pool, write_pool, write_table

NAMES = ("shapes-oracle", "shapes-clip", "shapes-reward", "shapes-aesthetic")
ABOUT = {"model": "noisewright/shapes", "steps": 10, "guidance": 4.0, "dtype": "bfloat16"}
PROMPTS = 40


def rng(seed=0):
    return np.random.default_rng(seed)


def pool(rate, *, count=64, prompts=PROMPTS, steps=10, skill=(1.0, 1.0, 1.0), seed=0):
    """Candidates that are right at a rate, which each of three verifiers sees with its skill; 0 is noise."""
    draw = rng(seed)
    right = draw.random((prompts, count)) < rate
    oracle = np.where(right, 1.0, 0.5)
    seen = [one * right + draw.normal(0, 0.5, right.shape) for one in skill]
    return Pool(NAMES, np.arange(1, prompts + 1), np.stack([oracle, *seen], 2), {**ABOUT, "steps": steps})


def held(tmp_path, pools=None, tables=None):
    for name, one in (pools or {}).items():
        write_pool(tmp_path / f"pool-{name}.npz", one)
    for name, one in (tables or {}).items():
        write_table(tmp_path / f"{name}.jsonl", one)
    return Held(tmp_path)


def point(labels, **columns):
    return Point(labels, {name: np.asarray(values, float) for name, values in columns.items()})
