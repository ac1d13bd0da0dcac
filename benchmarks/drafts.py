"""What do drafts keep of the gain of best of N, and at what share of the seconds? Both bundled models, every kind.

Of each prompt N candidates are made in full and as every draft, from the same noises, and scored. With a draft the best
three by the drafts' scores are taken, and the best of those by their full images' is the result; its seconds are of
N drafts, the three and the baseline. Shares are of best of N in full. Intervals: paired bootstrap over prompts, 95 %.
Rows are kept as they are made, and a command that was stopped goes on; ``--show`` prints what is there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import noisewright as nw
from noisewright.calibrating import made_and_scored
from noisewright.measures.bootstrap import interval
from noisewright.measures.paired import spearman
from noisewright.planning import plan
from noisewright.request import Request
from noisewright.samplers.drafts import drafted
from noisewright.schemas.drafts import read_draft
from noisewright.shapes.prompts import load_prompts

BOTH = (
    "steps,n=8", "steps,n=12", "truncate,at=0.4", "truncate,at=0.6", "truncate,at=0.8", "guidance,until=0.5",
    "cache,every=2", "cache,every=3", "dtype,to=bfloat16", "dtype,to=bfloat16+cache,every=2",
    "cache,every=2+truncate,at=0.6", "guidance,until=0.5+truncate,at=0.6",
    "dtype,to=bfloat16+cache,every=2+guidance,until=0.5+truncate,at=0.6",
)  # fmt: skip
DRAFTS = {"shapes": (*BOTH, "size,by=2"), "cifar10": BOTH}
"""By model: every kind that it has, and combinations."""

FINALISTS = 3


def prompts_of(model: str, count: int) -> list[tuple[str, int]]:
    """Prompts with the first seed of each; of the class-conditional model its classes in turn."""
    if model == "shapes":
        return [(text, 1000 * number) for number, text in enumerate(load_prompts("test")[:count])]
    labels = list(nw.load("noisewright/cifar10").labels)
    return [(labels[number % len(labels)], 1000 * number) for number in range(count)]


def measure(model: str, prompts: list[tuple[str, int]], given: argparse.Namespace, file: Path) -> None:
    """The rows of prompts that have none yet."""
    done = {(row["model"], row["prompt"], row["seed"]) for row in rows_of(file)}
    pipe, warm = nw.load(f"noisewright/{model}", dtype=given.dtype), False
    for number, (prompt, seed) in enumerate(prompts):
        if (model, prompt, seed) in done:
            continue
        made = plan(Request(prompt=prompt, verifier=given.verifier, judge="none", seed=seed), pipe=pipe)
        samplers: dict[str, Any] = {"": made.final}
        for text in DRAFTS[model]:
            draft = read_draft(text).with_steps(made.final.description["num_inference_steps"])
            samplers[draft.text] = drafted(made.final, draft)
        row: dict[str, Any] = {"model": model, "prompt": prompt, "seed": seed, "n": given.n, "ways": {}}
        for text, one in samplers.items():
            if not warm:
                made_and_scored(one, made.verifiers[0], prompt, seed, given.batch, given.batch)
            before = one.meter.snapshot()
            scores, seconds = made_and_scored(one, made.verifiers[0], prompt, seed, given.n, given.batch)
            forwards = one.meter.since(before)["forwards"] / given.n
            row["ways"][text] = {"scores": scores, "seconds": float(np.mean(seconds)), "forwards": forwards}
        warm = True
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(f"{model}: {number + 1} of {len(prompts)} prompts", flush=True)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def show(model: str, rows: list[dict[str, Any]]) -> None:
    """The table of a model."""
    full = np.array([row["ways"][""]["scores"] for row in rows])  # (prompts, n)
    count = full.shape[1]
    whole = full.max(1) - full[:, 0]
    each = float(np.mean([row["ways"][""]["seconds"] for row in rows]))
    low, high = interval(whole)
    print(f"\n{model}: best of {count} on {len(rows)} prompts gains {whole.mean():.4f} [{low:.4f}, {high:.4f}] in "
          f"{count * each:.2f} s")  # fmt: skip
    print(f"{'draft':72}{'rank':>6}{'gain':>9}  {'lost, 95 %':22}{'kept':>6}{'seconds':>9}{'forwards':>9}")
    for text in [one for one in rows[0]["ways"] if one]:
        drafts = np.array([row["ways"][text]["scores"] for row in rows])
        best = np.argsort(-drafts, axis=1, kind="stable")[:, :FINALISTS]
        gain = np.maximum(np.take_along_axis(full, best, 1).max(1), full[:, 0]) - full[:, 0]
        rank = float(np.nanmean(spearman(drafts.T, full.T)))
        took = float(np.mean([row["ways"][text]["seconds"] for row in rows]))
        share = (count * took + (FINALISTS + 1) * each) / (count * each)
        passes = [np.mean([row["ways"][name]["forwards"] for row in rows]) for name in (text, "")]
        forwards = (count * passes[0] + (FINALISTS + 1) * passes[1]) / (count * passes[1])
        low, high = interval(whole - gain)
        lost = f"{(whole - gain).mean():.4f} [{low:.4f}, {high:.4f}]"
        kept = gain.mean() / whole.mean()
        print(f"{text:72}{rank:6.2f}{gain.mean():9.4f}  {lost:22}{kept:6.1%}{share:9.1%}{forwards:9.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(DRAFTS), action="append", help="by default both; repeated")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--n", type=int, default=32, help="candidates of a prompt")
    parser.add_argument("--batch", type=int, default=16, help="images at once")
    parser.add_argument("--verifier", default=None, help="by default the model's own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/drafts.jsonl"))
    parser.add_argument("--show", action="store_true", help="only print what is there")
    given = parser.parse_args()
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for model in given.model or list(DRAFTS):
        if not given.show:
            measure(model, prompts_of(model, given.prompts), given, given.rows)
        rows = [row for row in rows_of(given.rows) if row["model"] == model]
        if rows:
            show(model, rows)


if __name__ == "__main__":
    main()
