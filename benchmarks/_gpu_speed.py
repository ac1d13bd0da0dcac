"""How fast noisewright is around one large pipeline of random weights: part of ``gpu.py``, which says what of it.

Ways to the same images, timed in turns: ``bare`` (the pipeline called in a loop over batches, scored, nothing saved),
``noisewright`` (a search with its journal and PNGs) and ``by hand`` (the loop that a person writes: an image a call,
scored, saved by Pillow).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from _gpu_pipelines import MODELS, Model
from gpu import write
from noisewright import registry
from noisewright.api import planned
from noisewright.checking import check
from noisewright.errors import out_of_memory
from noisewright.execute import execute
from noisewright.run.reading import read_journal
from noisewright.samplers import compiled
from noisewright.samplers.drafts import drafted
from noisewright.samplers.optional import KeepsStates, most_at_once, resident
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.places import home, there
from noisewright.samplers.speeds import fastest_size
from noisewright.schemas.drafts import read_draft

PROMPT = "a prompt that stands for the embeddings"
BATCHES_EACH = 2
REPEATS = 2
BY_HAND = 4
CHECKED_STEPS = 4
LARGEST_OF_OTHERS = 8
SCORED_BATCHES = 3
DRAFTS = {
    "sdxl": ("steps", "truncate,at=0.6", "guidance,until=0.5", "cache,every=2", "cache,every=3", "size,by=2",
             "cache,every=2+guidance,until=0.5+truncate,at=0.6"),
    "flux": ("steps", "truncate,at=0.6", "cache,every=2", "cache,every=3", "cache,name=FirstBlockCache",
             "cache,name=TaylorSeerCache", "cache,every=2+truncate,at=0.6"),
}  # fmt: skip
"""Kinds that leave out work; what they keep of a gain is not to be learned from random weights."""


class Late:
    """A verifier that computes on the processor, as long as it is told.

    Args:
        seconds: of a call.
        device: where it says that it computes: elsewhere than the model, it is asked beside the next images.
    """

    name, fingerprint = "late", "late"

    def __init__(self, seconds: float, device: str) -> None:
        self.seconds, self.device = seconds, device

    def __call__(self, images: torch.Tensor, prompt: Any) -> list[float]:
        until, some = time.perf_counter() + self.seconds, torch.randn(256, 256)
        while time.perf_counter() < until:
            some = torch.nn.functional.normalize(some @ some)
        return images.mean((1, 2, 3)).tolist()


class Measured:
    """Rows so far, written after each.

    Args:
        model: the pipeline.
        device: where it is.
        until: the moment (of ``time.monotonic``) after which nothing new is begun.
        file: where the rows go.
        known: what stands beside them there.
        only: the rows wanted; by default all.
    """

    def __init__(
        self, model: Model, device: str, until: float, file: Path, known: dict[str, Any], only: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.model, self.device, self.until, self.file, self.known = model, device, until, file, known
        self.only = only
        self.rows: list[dict[str, Any]] = []
        self.verifier = registry.make_verifier("brightness")

    def add(self, what: str, work: Callable[[], dict[str, Any]], **about: Any) -> None:
        """Do ``work`` for a row, whatever comes of it."""
        if self.only and what not in self.only:
            return
        if time.monotonic() > self.until:
            row = {"what": what, **about, "wrong": "no time was left"}
        else:
            try:
                row = {"what": what, **about, **work()}
            except Exception as error:
                kind = "out of memory" if out_of_memory(error) else f"{type(error).__name__}: {error}"[:300]
                row = {"what": what, **about, "wrong": kind}
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.rows.append(row)
        write(self.file, {**self.known, "rows": self.rows})
        print(row, flush=True)

    @contextmanager
    def clock(self) -> Iterator[dict[str, Any]]:
        """Seconds and the most memory of the block."""
        found: dict[str, Any] = {}
        self._wait()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        yield found
        self._wait()
        found["seconds"] = time.perf_counter() - began
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0.0

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    # Ways

    def call(self, seeds: range, output_type: str) -> Any:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return self.model.pipe(
            num_inference_steps=self.model.steps, num_images_per_prompt=len(seeds), generator=generators,
            output_type=output_type, **self.model.given,
        ).images  # fmt: skip

    def bare(self, count: int, batch: int) -> dict[str, Any]:
        with self.clock() as found:
            for first in range(0, count, batch):
                images = self.call(range(first, min(first + batch, count)), "pt")
                self.verifier(images.float().cpu(), PROMPT)
        return found

    def ours(self, count: int, batch: int, verifier: Any = None) -> dict[str, Any]:
        plan = planned(
            self.model.pipe, PROMPT, verifier=verifier or self.verifier, judge="none", budget=count, batch_size=batch,
            num_inference_steps=self.model.steps, no_check=True, **self.model.given,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as directory:
            with self.clock() as found:
                execute(plan, Path(directory) / "run", None, pictures=False)
            lines = [line for line in read_journal(Path(directory) / "run") if line["verb"] == "finish"]
        sizes = [len(line["ids"]) for line in lines]
        if sum(sizes) != count:
            raise ValueError(f"expected {count} images, got {sizes}")
        return {**found, "sizes": sizes}

    def by_hand(self) -> dict[str, Any]:
        count = BY_HAND
        with tempfile.TemporaryDirectory() as directory, self.clock() as found:
            for seed in range(count):
                (image,) = self.call(range(seed, seed + 1), "pil")
                image.save(Path(directory) / f"{seed}.png")
                pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
                self.verifier((pixels.view(1, image.height, image.width, 3).permute(0, 3, 1, 2) / 255), PROMPT)
        return {"images_a_second": count / found["seconds"], **found}

    def sampler(self) -> PipelineSampler:
        return PipelineSampler(self.model.pipe, PROMPT, num_inference_steps=self.model.steps, **self.model.given)

    # Rows

    def compared(self, batch: int, *, warm: bool = False) -> dict[str, Any]:
        """Ours over bare at one size of micro-batch."""
        count = BATCHES_EACH * batch
        self.bare(batch, batch)  # kernels of this shape are chosen, and compiled
        if warm:
            self.ours(batch, batch)
        rows = [(self.bare(count, batch), self.ours(count, batch)) for _ in range(REPEATS)]
        bare, ours = (statistics.median(pair[n]["seconds"] for pair in rows) for n in (0, 1))
        return {
            "bare_images_a_second": count / bare, "images_a_second": count / ours, "overhead": ours / bare,
            "peak_gib": max(pair[1]["peak_gib"] for pair in rows), "bare_peak_gib": max(p[0]["peak_gib"] for p in rows),
            "sizes": rows[0][1]["sizes"],
        }  # fmt: skip

    def step_by_step(self, batch: int, kept: bool) -> dict[str, Any]:
        """A segment for each step: what a search that looks at every step does."""
        sampler = self.sampler()
        if kept and not isinstance(sampler, KeepsStates):
            raise ValueError("this sampler moves its states after each segment")
        x, state = sampler.noise(range(batch)), None
        with self.clock() as found:
            if kept:
                with resident(sampler) as place:
                    x = there(x, place)
                    for index in range(self.model.steps):
                        x, state = sampler.denoise(x, index, index + 1, state)
                    home((x, state))
            else:
                for index in range(self.model.steps):
                    x, state = sampler.denoise(x, index, index + 1, state)
        return {"milliseconds_a_step": 1000 * found["seconds"] / self.model.steps, **found}

    def whole(self, batch: int) -> dict[str, Any]:
        """As :meth:`step_by_step`, in one segment."""
        sampler = self.sampler()
        x = sampler.noise(range(batch))
        with self.clock() as found:
            sampler.denoise(x, 0, self.model.steps)
        return {"milliseconds_a_step": 1000 * found["seconds"] / self.model.steps, **found}

    def draft(self, text: str, batch: int) -> dict[str, Any]:
        """Seconds and forwards of images as a draft, over those of full ones of the same noise, in turns."""

        def make(sampler: Any) -> None:
            at_once = most_at_once(sampler, batch)
            for first in range(0, batch, at_once):
                seeds = range(first, min(first + at_once, batch))
                x, _ = sampler.denoise(sampler.noise(seeds), 0, sampler.schedule.steps)
                sampler.decode(x)

        full = self.sampler()
        ways = {"full": full, "draft": drafted(full, read_draft(text).with_steps(self.model.steps))}
        took: dict[str, list[float]] = {name: [] for name in ways}
        forwards: dict[str, float] = {}
        for turn in range(1 + REPEATS):
            for name, one in ways.items():
                before = one.meter.snapshot()
                with self.clock() as found:
                    make(one)
                forwards[name] = one.meter.since(before)["forwards"] / batch
                took[name] += [found["seconds"]] if turn else []
        full_seconds, seconds = (statistics.median(took[name]) for name in ways)
        return {
            "seconds": seconds / batch, "full_seconds": full_seconds / batch, "share": seconds / full_seconds,
            "forwards": forwards["draft"], "full_forwards": forwards["full"],
        }  # fmt: skip

    def sizes(self) -> dict[str, Any]:
        """How many images at once the trial of sizes finds to be the fastest."""
        with self.clock() as found:
            speed = fastest_size(self.sampler(), 16, seconds=60.0)
        return {"choice": speed.choice, **found, "seconds_a_step": dict(speed.seconds)}

    def scored_beside(self, batch: int) -> dict[str, Any]:
        """A verifier on the processor that takes as long as a micro-batch: asked beside the next, and waited for."""
        each = self.bare(batch, batch)["seconds"]
        count = SCORED_BATCHES * batch
        took = {place: self.ours(count, batch, Late(each, place))["seconds"] for place in (self.device, "cpu")}
        waited, beside = took[self.device], took["cpu"]
        return {"waited_for": waited, "beside": beside, "share": beside / waited, "made": SCORED_BATCHES * each}

    def checked(self) -> dict[str, Any]:
        """What the pipeline is held to, and how long that takes."""
        with self.clock() as found:
            said = check(self.model.pipe, PROMPT, seconds=0, num_inference_steps=CHECKED_STEPS, **self.model.given)
        return {**found, "said": said.to_json()}

    def first_call(self, batch: int) -> dict[str, Any]:
        return {"first_seconds": self.bare(batch, batch)["seconds"]}


def measure(measured: Measured, drafts: Sequence[str]) -> None:
    """All rows."""
    model, largest = measured.model, 1
    measured.add("first search", lambda: {"seconds": _seconds(lambda: measured.ours(1, 1))})  # every byte is hashed
    for batch in model.batches:
        measured.add("search", lambda batch=batch: measured.compared(batch), batch=batch)
        if not measured.rows or "wrong" not in measured.rows[-1]:
            largest = batch
    measured.add("by hand", measured.by_hand, batch=1)
    fastest = max((row.get("images_a_second", 0.0) for row in measured.rows if row["what"] == "search"), default=0.0)
    hand = next((row.get("images_a_second") for row in measured.rows if row["what"] == "by hand"), None)
    if fastest and hand:
        measured.add("search over by hand", lambda: {"ratio": fastest / hand})
    other = min(largest, LARGEST_OF_OTHERS)
    measured.add("sizes", measured.sizes)
    measured.add("scored beside", lambda: measured.scored_beside(other), batch=other)
    for text in drafts:
        measured.add("draft", lambda text=text: measured.draft(text, other), batch=other, draft=text)
    measured.add("check", measured.checked)
    measured.add("one segment", lambda: measured.whole(other), batch=other)
    measured.add("a segment a step, states kept", lambda: measured.step_by_step(other, True), batch=other)
    measured.add("a segment a step, states moved", lambda: measured.step_by_step(other, False), batch=other)
    if hasattr(model.pipe, "unet"):
        compiled.put_channels_last(model.pipe)
        measured.add("search, channels last", lambda: measured.compared(other), batch=other)
    measured.add("compile", lambda: _compiled(measured, other), batch=other)
    measured.add("search, compiled", lambda: measured.compared(other, warm=True), batch=other)


def _compiled(measured: Measured, batch: int) -> dict[str, Any]:
    compiled.compile_networks(measured.model.pipe, measured.device)
    return measured.first_call(batch)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(MODELS))
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", help="micro-batches to time, not the usual ones")
    parser.add_argument("--rows", nargs="+", default=[], help="only these, by what they are: draft, sizes, ...")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    device = "cuda" if torch.cuda.is_available() and not given.tiny else "cpu"
    dtype = torch.float32 if given.tiny else torch.bfloat16
    if given.tiny:
        compiled.BACKEND = "eager"  # no C++ compiler is needed
    began = time.perf_counter()
    model = MODELS[given.name](device, dtype, tiny=given.tiny)
    if given.batches:
        model = replace(model, batches=tuple(given.batches))
    known = {
        "made_seconds": time.perf_counter() - began, "side": model.side, "steps": model.steps,
        "dtype": str(dtype).removeprefix("torch."),
        "weights": sum(p.numel() for one in model.pipe.components.values() if isinstance(one, torch.nn.Module)
                       for p in one.parameters()),
    }  # fmt: skip
    with torch.no_grad():
        measure(Measured(model, device, until, given.out, known, given.rows), DRAFTS[given.name])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
