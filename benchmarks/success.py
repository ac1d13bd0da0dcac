"""Does the search give more right images? Best of N with a verifier, on the test prompts, judged by the oracle.

For each prompt the baseline is the plain image of the seed, the best is what the verifier picked, and the oracle, which
the search never saw, says which scenes are right. Intervals: paired bootstrap over prompts, 95 %.

With ``--pictures`` the candidates are kept, and a verifier measured later picks among the same ones: which noises best
of N tries depends on the seed alone.
"""

from __future__ import annotations

import argparse
import json
import os
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
from noisewright.images.metadata import read_image
from noisewright.measures.bootstrap import interval
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse


def right(pictures: np.ndarray, prompt: str) -> list[bool]:
    """Which of some pictures, uint8 (count, height, width, 3), show exactly the prompt's scene."""
    return [one.right for one in grade(tensor(pictures), prompt)]


def tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@cache
def pipeline(dtype: str) -> Any:
    return nw.load("noisewright/shapes", dtype=dtype)


def searched(
    number: int, prompt: str, verifier: Any, given: argparse.Namespace, directory: str
) -> tuple[np.ndarray, int, int]:
    """Best of N: the candidates' pictures, the baseline's first; which of them is the best; and the NFE."""
    result = nw.search(
        pipeline(given.dtype), prompt, verifier=verifier, judge=[], budget=given.n, num_inference_steps=given.steps,
        seed=given.seed + 1000 * number, out=directory, pictures=False,
    )  # fmt: skip
    ids = [one.id for one in result.candidates]
    assert ids[0] == result.baseline.id, "candidate 0 is the plain image"
    pictures = np.stack([read_image(result.run / one.file)[0] for one in result.candidates])
    return pictures, ids.index(result.best.id), result.nfe


def measure(job: tuple[list[tuple[int, str]], argparse.Namespace]) -> list[dict]:
    """The rows of some prompts, numbered as in the set."""
    some, given = job
    if given.workers > 1:
        torch.set_num_threads(1)  # two processes of one thread outrun one of two
    verifier = registry.make_verifier(given.verifier)
    rows = []
    for number, prompt in some:
        precision = "" if given.dtype == "float32" else f"{given.dtype}-"
        name = f"{given.prompts}-{given.n}-{given.steps}-{given.seed}-{precision}{number:03}.npz"
        kept = None if given.pictures is None else given.pictures / name
        if kept is not None and kept.exists():
            with np.load(kept) as file:
                pictures, nfe = file["pictures"], int(file["nfe"])
            best = int(np.argmax(list(verifier(tensor(pictures), prompt))))
        else:
            with tempfile.TemporaryDirectory() as directory:
                pictures, best, nfe = searched(number, prompt, verifier, given, directory)
            if kept is not None:
                part = kept.with_suffix(".part.npz")
                np.savez(part, pictures=pictures, nfe=nfe)
                part.rename(kept)
        made = right(pictures, prompt)
        rows.append(
            {
                "prompt": prompt,
                "kind": kind(parse(prompt)),
                "baseline": made[0],
                "best": made[best],
                "oracle": any(made),
                "mean": float(np.mean(made)),
                "nfe": nfe,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="candidates per prompt")
    parser.add_argument("--prompts", choices=["dev", "test"], default="test")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th prompt")
    parser.add_argument("--verifier", default="shapes-clip")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None, help="write the rows there")
    parser.add_argument("--pictures", type=Path, default=None, help="keep the candidates' pictures there, and use them")
    given = parser.parse_args()
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)

    numbered = list(enumerate(load_prompts(given.prompts)))[:: given.every]
    parts = [numbered[k : k + 5] for k in range(0, len(numbered), 5)]
    rows: list[dict] = []
    began = time.perf_counter()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(measure, [(part, given) for part in parts]):
            rows += found
            if len(rows) % 20 == 0:
                print(f"{len(rows)} prompts, {time.perf_counter() - began:.0f} s", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows))

    what = f"{len(rows)} {given.prompts} prompts, {given.dtype}"
    print(f"\nbest of {given.n} with {given.verifier}, {what}, judge: the oracle")
    columns = f"{'kind':10}{'prompts':>8}{'baseline':>10}{'mean':>8}{'best':>8}{'oracle pick':>13}"
    print(f"{columns}{'gain':>8}   95 % interval")
    for name in [*KINDS, "all"]:
        some = [row for row in rows if name in ("all", row["kind"])]
        before, mean, after, top = (
            np.array([float(row[key]) for row in some]) for key in ("baseline", "mean", "best", "oracle")
        )
        low, high = interval(after - before)
        print(
            f"{name:10}{len(some):8}{before.mean():10.1%}{mean.mean():8.1%}{after.mean():8.1%}{top.mean():13.1%}"
            f"{100 * (after - before).mean():+8.1f}   [{100 * low:+.1f}, {100 * high:+.1f}] points"
        )
    nfe = sum(row["nfe"] for row in rows)
    print(f"NFE in all {nfe}; seconds in all {time.perf_counter() - began:.0f}")


if __name__ == "__main__":
    main()
