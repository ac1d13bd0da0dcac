"""What do drafts keep of the gain of best of N, and at what share of the seconds? Both bundled models, every kind.

    python benchmarks/drafts.py [--model shapes] [--prompts 100] [--minutes 60]
    python benchmarks/drafts.py --show

Of each prompt N candidates are made in full and as every draft, from the same noises, and scored. With a draft the best
three by the drafts' scores are taken, and the best of those and of the plain image by the scores in full is the result;
its seconds are of N drafts, of those three and of the plain image. Gains are over the plain image. ``fewer`` is what
best of so many images in full keeps as the same seconds make: a draft that keeps less is not worth having. Intervals
are 95 % percentile bootstraps over prompts, both sides of each difference and of each share from the same prompts.

A row a prompt is kept as it is made, and a command that was stopped goes on; rows by other weights, or made otherwise,
do not count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import noisewright as nw
from noisewright.benchmark.scorers import chances
from noisewright.calibrating import made_and_scored
from noisewright.measures.bootstrap import interval
from noisewright.measures.paired import spearman
from noisewright.planning import plan
from noisewright.request import Request
from noisewright.samplers.drafts import drafted
from noisewright.schemas.drafts import BEST, read_draft
from noisewright.shapes.prompts import load_prompts

BOTH = (
    "steps", "truncate,at=0.4", "truncate,at=0.6", "guidance,until=0.5", "cache,every=2", "cache,every=3",
    "dtype,to=bfloat16", "dtype,to=bfloat16+cache,every=2", "dtype,to=bfloat16+steps",
    "dtype,to=bfloat16+cache,every=2+truncate,at=0.6",
    "dtype,to=bfloat16+cache,every=2+guidance,until=0.5+truncate,at=0.6",
)  # fmt: skip
DRAFTS = {"shapes": (*BOTH, "size,by=2"), "cifar10": BOTH}
"""By model: every kind that it has, and combinations."""

AIMS = {"shapes": 0.60, "cifar10": 0.50}
"""At what share of the seconds :data:`KEPT` of the gain is to be kept: at 60 % on one model, at 50 % on the flow
transformer."""

KEPT = 0.95
FIRST = 8
"""How many of the best drafts a row names."""

RESAMPLES = 10_000


def prompts_of(model: str, count: int) -> list[tuple[str, int]]:
    """Prompts with the first seed of each; of the class-conditional model its classes in turn."""
    if model == "shapes":
        return [(text, 1000 * number) for number, text in enumerate(load_prompts("test")[:count])]
    labels = list(nw.load("noisewright/cifar10").labels)
    return [(labels[number % len(labels)], 1000 * number) for number in range(count)]


# Measured


def measured(model: str, given: argparse.Namespace) -> Iterator[None]:
    """Append the rows of prompts that have none yet, one each time it is asked to go on."""
    pipe = nw.load(f"noisewright/{model}", dtype=given.dtype)
    prompts = prompts_of(model, given.prompts)
    warm = False
    for number, (prompt, seed) in enumerate(prompts):
        asked = Request(
            prompt=prompt, verifier=given.verifier, judge="none", seed=seed, num_inference_steps=given.steps
        )
        made = plan(asked, pipe=pipe)
        about = about_of(model, made, given)
        rows = rows_of(given.rows, about)
        missing = [text for text in DRAFTS[model] if _named(made, text) not in rows.get(seed, {}).get("ways", {})]
        if not missing:
            continue
        row = row_of(made, prompt, missing, given, warm)
        warm = True
        with given.rows.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"about": about, **row}) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {model}: prompt {number + 1} of {len(prompts)}", flush=True)
        yield


def about_of(model: str, made: Any, given: argparse.Namespace) -> dict[str, Any]:
    """What rows are of: those of one table agree in it."""
    about, verifier = made.final.description, made.verifiers[0]
    return {
        "model": model, "fingerprint": _short(about["fingerprint"]), "steps": int(about["num_inference_steps"]),
        "guidance_scale": about.get("guidance_scale"), "dtype": str(about["dtype"]), "verifier": verifier.name,
        "verifier_fingerprint": _short(verifier.fingerprint), "n": given.n, "batch": given.batch,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def row_of(made: Any, prompt: str, texts: Sequence[str], given: argparse.Namespace, warm: bool) -> dict[str, Any]:
    """One prompt: the scores in full, and of each draft how it ranks, its first few, seconds and forwards an image."""
    verifier, seed = made.verifiers[0], made.request.seed
    samplers: dict[str, Any] = {"": made.final}
    samplers |= {_named(made, text): drafted(made.final, _draft(made, text)) for text in texts}
    found: dict[str, Any] = {}
    scores: dict[str, np.ndarray] = {}
    for text, sampler in samplers.items():
        if not warm or "dtype" in text:  # the network's copy is made in the first call
            made_and_scored(sampler, verifier, prompt, seed, given.batch if not warm else 1, given.batch)
        before = sampler.meter.snapshot()
        one = made_and_scored(sampler, verifier, prompt, seed, given.n, given.batch)
        forwards = sampler.meter.since(before)["forwards"] / given.n
        scores[text] = np.array(one.scores)
        found[text] = {"seconds": round(float(np.mean(one.seconds)), 6), "forwards": round(forwards, 3)}
    for text in list(found)[1:]:
        found[text]["rank"] = round(float(spearman(scores[text][:, None], scores[""][:, None])[0]), 4)
        found[text]["first"] = [int(place) for place in np.argsort(-scores[text], kind="stable")[:FIRST]]
    full = found.pop("")
    return {"prompt": prompt, "seed": seed, "scores": [float(f"{one:.6g}") for one in scores[""]], **full,
            "ways": found}  # fmt: skip


def _draft(made: Any, text: str) -> Any:
    return read_draft(text).with_steps(made.final.description["num_inference_steps"])


def _named(made: Any, text: str) -> str:
    return str(_draft(made, text).text)


def rows_of(file: Path, about: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The rows of what a table is about, by seed; those of one prompt that were made one after the other are joined."""
    found: dict[int, dict[str, Any]] = {}
    for row in lines_of(file):
        if row["about"] != dict(about):
            continue
        # What is measured later is taken in the seconds of its own images in full.
        ways = {text: {**way, "full": row["seconds"]} for text, way in row["ways"].items()}
        before = found.setdefault(row["seed"], {**row, "ways": {}})
        before["ways"] |= ways
    return found


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file, but for one that was torn."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


# Shown


def show(model: str, rows: Sequence[Mapping[str, Any]], best: int) -> None:
    """The table of a model, and whether its aim is reached."""
    full = np.array([row["scores"] for row in rows])  # (prompts, n)
    count = full.shape[1]
    whole = full.max(1) - full[:, 0]
    each = float(np.median([row["seconds"] for row in rows]))
    low, high = interval(whole)
    about = rows[0]["about"]
    made = f"{about['steps']} steps, {about['dtype']}, batches of {about['batch']}, {about['verifier']}"
    print(f"\n{model}, {made}: best of {count} on {len(rows)} prompts gains {whole.mean():.4f} [{low:.4f}, {high:.4f}] "
          f"in {count * each:.2f} s\n")  # fmt: skip
    print("| draft | rank correlation | gain | lost | kept | seconds | forwards | fewer |")
    print("|---|---|---|---|---|---|---|---|")
    found = []
    for text in rows[0]["ways"]:
        some = [row for row in rows if text in row["ways"]]
        found.append((text, *told(some, text, best)))
    for text, line, _, _ in sorted(found, key=lambda one: one[3]):
        print(f"| `{text}` | {line} |")
    print(f"\n{verdict(model, [(text, kept, share) for text, _, kept, share in found])}")


def told(rows: Sequence[Mapping[str, Any]], text: str, best: int) -> tuple[str, float, float]:
    """A line of the table, the share of the gain that a draft keeps, and its share of the seconds."""
    full = np.array([row["scores"] for row in rows])
    count = full.shape[1]
    whole = full.max(1) - full[:, 0]
    ways = [row["ways"][text] for row in rows]
    first = np.array([way["first"][:best] for way in ways])  # (prompts, best)
    gain = np.maximum(np.take_along_axis(full, first, 1).max(1), full[:, 0]) - full[:, 0]
    extra = best + 1 - (first == 0).any(1).mean()  # images in full: the best, and the plain one where it is not there
    share = float(np.median([way["seconds"] / way["full"] for way in ways])) + extra / count
    own = np.mean([row["forwards"] for row in rows])
    forwards = float(np.mean([way["forwards"] for way in ways])) / own + extra / count
    low, high = interval(whole, gain)
    from_, to = kept_interval(gain, whole)
    kept = float(gain.mean() / whole.mean())
    fewer = np.array([expected_best(row, share * count) for row in full]) - full[:, 0]
    line = (f"{np.nanmean([way['rank'] for way in ways]):.2f} | {gain.mean():.4f} | {(whole - gain).mean():.4f} "
            f"[{low:.4f}, {high:.4f}] | {kept:.1%} [{from_:.1%}, {to:.1%}] | {share:.1%} | {forwards:.1%} | "
            f"{fewer.mean() / whole.mean():.1%}")  # fmt: skip
    return line, kept, share


def kept_interval(gain: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """The interval of a share of means, both of the same resampled prompts."""
    drawn = np.random.default_rng(0).integers(0, len(gain), (RESAMPLES, len(gain)))
    low, high = np.percentile(gain[drawn].mean(1) / whole[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def expected_best(scores: np.ndarray, count: float) -> float:
    """The mean of the best of ``count`` of these scores, over all choices; between whole numbers in proportion."""
    some = min(max(1.0, count), float(len(scores)))

    def of(m: int) -> float:
        return float((chances(scores[None], m) * scores).sum())

    low = math.floor(some)
    return of(low) + (0.0 if low == some else (some - low) * (of(low + 1) - of(low)))


def verdict(model: str, found: Sequence[tuple[str, float, float]]) -> str:
    """Whether the aim is reached, and else which part fails."""
    aim = f"{KEPT:.0%} of the gain at {AIMS[model]:.0%} of the seconds"
    reached = [one for one in found if one[1] >= KEPT and one[2] <= AIMS[model]]
    if reached:
        text, kept, share = min(reached, key=lambda one: one[2])
        return f"The aim, {aim}, is reached: `{text}` keeps {kept:.1%} at {share:.1%}."
    words = [f"The aim, {aim}, is not reached."]
    cheap, good = [one for one in found if one[2] <= AIMS[model]], [one for one in found if one[1] >= KEPT]
    if cheap:
        text, kept, share = max(cheap, key=lambda one: one[1])
        words.append(f"Of what is cheap enough `{text}` keeps the most, {kept:.1%} at {share:.1%}: its ranks fail.")
    if good:
        text, kept, share = min(good, key=lambda one: one[2])
        words.append(f"Of what ranks well enough `{text}` is the cheapest, {kept:.1%} at {share:.1%}: its speed fails.")
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(DRAFTS), action="append", help="by default both; repeated")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--n", type=int, default=32, help="candidates of a prompt")
    parser.add_argument("--best", type=int, default=BEST, help=f"how many are made in full, at most {FIRST}")
    parser.add_argument("--steps", type=int, default=None, help="of an image in full; by default the model's")
    parser.add_argument("--batch", type=int, default=16, help="images at once")
    parser.add_argument("--verifier", default=None, help="by default the model's own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the images in full")
    parser.add_argument("--minutes", type=float, default=60.0, help="no prompt is begun after them")
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/drafts.jsonl"))
    parser.add_argument("--show", action="store_true", help="only print what is there")
    given = parser.parse_args()
    if not 1 <= given.best <= min(FIRST, given.n):
        parser.error(f"expected --best in [1, {min(FIRST, given.n)}], got {given.best}")
    models, ends = given.model or list(DRAFTS), time.monotonic() + 60 * given.minutes
    if not given.show:
        given.rows.parent.mkdir(parents=True, exist_ok=True)
        going = [measured(model, given) for model in models]
        while going and time.monotonic() < ends:  # a prompt of each model in turn, so that both have as many
            going = [one for one in going if next(one, one) is None]
    for model in models:
        last = [line["about"] for line in lines_of(given.rows) if line["about"]["model"] == model]
        rows = list(rows_of(given.rows, last[-1]).values()) if last else []
        if rows:
            show(model, rows, given.best)


if __name__ == "__main__":
    main()
