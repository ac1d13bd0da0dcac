"""Does the search give more right images? Best of N with a verifier, on the test prompts, judged by the oracle.

For each prompt the baseline is the plain image of the seed, the best is what the verifier picked, and the oracle, which
the search never saw, says which scenes are right. Intervals: paired bootstrap over prompts, 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import noisewright as nw
from noisewright import registry
from noisewright.images.metadata import read_image
from noisewright.measures.bootstrap import interval
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import KINDS, kind, load_prompts, parse


def right(file: Path, prompt: str) -> bool:
    array, _ = read_image(file)
    return grade(torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255, prompt)[0].right


def measure(job: tuple[list[tuple[int, str]], argparse.Namespace]) -> list[dict]:
    """The rows of some prompts, numbered as in the set."""
    some, given = job
    if given.workers > 1:
        torch.set_num_threads(1)  # two processes of one thread outrun one of two
    pipe, verifier = nw.load(), registry.make_verifier(given.verifier)
    rows = []
    for number, prompt in some:
        with tempfile.TemporaryDirectory() as directory:
            result = nw.search(
                pipe, prompt, verifier=verifier, judge=[], budget=given.n, num_inference_steps=given.steps,
                seed=given.seed + 1000 * number, out=directory, pictures=False,
            )  # fmt: skip
            made = [right(result.run / one.file, prompt) for one in result.candidates]
            rows.append(
                {
                    "prompt": prompt,
                    "kind": kind(parse(prompt)),
                    "baseline": right(result.baseline.file, prompt),
                    "best": right(result.best.file, prompt),
                    "oracle": any(made),
                    "mean": float(np.mean(made)),
                    "nfe": result.nfe,
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None, help="write the rows there")
    given = parser.parse_args()

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

    print(f"\nbest of {given.n} with {given.verifier}, {len(rows)} {given.prompts} prompts, judge: the oracle")
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
