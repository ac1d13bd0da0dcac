"""What each search costs over its own network evaluations, decodings and verifier calls done in bare batches.

For each search: its wall time with ``nw.search`` (journal, states, images, metadata; no pictures at the end), over the
time of as many guided network evaluations, decodings and scores as its journal has, which the plain pipeline, its
autoencoder and the verifier take in batches of ``--batch``, timed in turns in the same process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch

import noisewright as nw
from noisewright import registry
from noisewright.run.reading import read_journal

PROMPT = "a green star left of a red circle"
WHOLE = "whole-trajectory"
STEPWISE = "step-wise"
EVERY_STEP = {"block": 1, "rounds": 1}
"""As the papers have it, once: a preview at every step costs the most besides its NFE."""

SEARCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "random": (WHOLE, {}),
    "zero-order": (WHOLE, {"neighbours": 8}),
    "evolution": (WHOLE, {"population": 10, "at": (0.0,)}),
    "refine": (WHOLE, {"population": 8}),
    "refine, cmaes": (WHOLE, {"population": 8, "method": "cmaes"}),
    "paths": (STEPWISE, {"children": 4}),
    "zero-order+paths": (STEPWISE, {"neighbours": 8, "rounds": 1, "children": 4}),
    "fk": (STEPWISE, {"particles": 16}),
    "svdd": (STEPWISE, {"proposals": 8, **EVERY_STEP, "width": 1}),
    "svdd, from the start": (STEPWISE, {"proposals": 8, **EVERY_STEP, "width": 1, "begin": 0.0}),
    "rbf": (STEPWISE, {"quota": 8, "batch": 8, **EVERY_STEP, "begin": 0.4}),
    "halving": (STEPWISE, {"n": 24}),
}
BARE_REPEATS = 3


class Bare:
    """Seconds an image of each kind of work in batches, without noisewright.

    Args:
        pipe: the pipeline.
        verifier: asked as it is.
        batch: images at a time.
    """

    def __init__(self, pipe: Any, verifier: Any, batch: int) -> None:
        self.pipe, self.verifier, self.batch = pipe, verifier, batch
        default = registry.card(pipe.name_or_path)["default"]
        self.steps, self.guidance = default["num_inference_steps"], default["guidance_scale"]

    def measure(self) -> tuple[float, float, float]:
        """A guided evaluation, a decoding, a score: medians of a few batches."""
        rows = [self._once(number) for number in range(BARE_REPEATS)]
        return tuple(statistics.median(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]

    @torch.inference_mode()
    def _once(self, number: int) -> tuple[float, float, float]:
        generators = [torch.Generator("cpu").manual_seed(100 * number + k) for k in range(self.batch)]
        began = time.perf_counter()
        latents = self.pipe(
            PROMPT, num_inference_steps=self.steps, guidance_scale=self.guidance, num_images_per_prompt=self.batch,
            generator=generators, output_type="latent",
        ).images  # fmt: skip
        denoised = time.perf_counter()
        images = self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample
        images = (images / 2 + 0.5).clamp(0, 1)
        decoded = time.perf_counter()
        self.verifier(images, PROMPT)
        ended = time.perf_counter()
        size = self.batch
        return (denoised - began) / (size * self.steps), (decoded - denoised) / size, (ended - decoded) / size


def one(pipe: Any, verifier: Any, name: str, args: dict[str, Any], images: int, batch: int) -> tuple[float, int, int]:
    """Wall seconds of a search, its NFE, and the images it decoded and scored."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        result = nw.search(
            pipe, PROMPT, verifier=verifier, judge=[], search=name.split(",")[0], search_args=args, batch_size=batch,
            budget=f"{25 * images} nfe", out=directory, pictures=False,
        )  # fmt: skip
        wall = time.perf_counter() - began
        scored = sum(len(line["ids"]) for line in read_journal(result.run) if line["verb"] in ("preview", "score"))
    return wall, result.nfe, scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24, help="budget, in images' worth of NFE")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    given = parser.parse_args()

    pipe, verifier = nw.load(), registry.make_verifier("shapes-clip")
    pipe.set_progress_bar_config(disable=True)
    bare = Bare(pipe, verifier, given.batch)
    bare.measure()  # warm up
    print(f"budget {given.images} images' worth, batches of {given.batch}, {torch.get_num_threads()} threads")
    print(f"{'search':22}{'kind':18}{'NFE':>6}{'scores':>8}{'seconds':>9}{'bare':>8}{'ratio':>8}   range")
    for name in given.searches:
        kind, args = SEARCHES[name]
        ratios, seconds, alone = [], [], []
        for _ in range(given.repeats):
            before = bare.measure()
            wall, nfe, scored = one(pipe, verifier, name, args, given.images, given.batch)
            step, decode, ask = ((a + b) / 2 for a, b in zip(before, bare.measure(), strict=True))
            own = nfe * step + scored * (decode + ask)
            ratios.append(wall / own)
            seconds.append(wall)
            alone.append(own)
        print(
            f"{name:22}{kind:18}{nfe:6}{scored:8}{statistics.median(seconds):9.2f}{statistics.median(alone):8.2f}"
            f"{statistics.median(ratios):8.3f}   {min(ratios):.3f}..{max(ratios):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
