"""Measures what a search would rely on, at full steps: parity, cuts, batches, previews, gradients, time and memory."""

from __future__ import annotations

import copy
import functools
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noisewright.errors import UnsupportedPipeline, out_of_memory
from noisewright.outside.messages import first_line
from noisewright.samplers.parity import OTHER, SEED, few_steps, obeying, on_its_own
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.plainly import as_it_was, plain_images
from noisewright.samplers.trials import distance, marks_of, origins_of, seeded_noise
from noisewright.samplers.turns import turn
from noisewright.samplers.verdict import Verdict

GRADIENT_STEPS = 4
"""Of the way whose gradient is held against finite differences: a few tell as much as many."""

NUDGES = (1e-2, 1e-3, 1e-4)
"""Standard deviations of the noise by which finite differences are taken: large ones bend, small ones are rounded."""

CLOSE_GRADIENT = 0.05
"""Relative difference within which a gradient is right: the rest is curvature and rounding."""

CLOSE_PREVIEW = 0.02
"""Largest difference of two clean estimates, in standard deviations of the scheduler's, within which they are one."""

MOST_AT_ONCE = 64
GAIN = 0.97
"""A batch has to take less than this share of the time per image of the one half its size, or larger ones are none."""

Tell = Callable[[str], None]


def measured(sampler: PipelineSampler, verdict: Verdict, tell: Tell, seconds: float) -> dict[str, Any]:
    """What holds of a sampler's pipeline at its number of steps, JSON-ready.

    Nothing is counted on the sampler's meter, and pipeline and random generators are as they were afterwards.

    Args:
        sampler: of which only the steps, the call and its settings count.
        verdict: of it, which is not refused.
        tell: called with what is done now.
        seconds: about how long batches are tried.

    Returns:
        ``steps``, and a value or an object for each of ``parity, split, batch, previews, gradients, speed, memory``;
        null for what does not apply, an object with ``failed`` for what could not be measured.
    """
    pipes = {id(one): one for one in (sampler.pipe, sampler._found)}
    with turn(sampler.pipe), as_it_was(*pipes.values()):
        one = _Measuring(sampler, verdict)
        found: dict[str, Any] = {"steps": one.full.schedule.steps}
        doing: dict[str, tuple[str, Callable[[], Any]]] = {
            "parity": ("the plain image ...", one.parity),
            "split": ("the way in segments ...", one.split),
            "batch": ("two images at once ...", one.batch),
            "previews": ("previews ...", one.previews),
            "gradients": ("a gradient ...", one.gradients),
            "speed": ("the fastest batch ...", lambda: one.speed(seconds)),
        }
        for name, (text, work) in doing.items():
            tell(text)
            found[name] = _unless_it_fails(work)
    return {**found, "memory": memory()}


def _unless_it_fails(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return {"failed": "out of memory" if out_of_memory(error) else first_line(error, 300)}


class _Measuring:
    """Measurements that share what each of them makes."""

    def __init__(self, sampler: PipelineSampler, verdict: Verdict) -> None:
        self.sampler, self.verdict = sampler, verdict
        self.full = obeying(on_its_own(sampler, sampler._prepared.steps), verdict)
        self.marks = marks_of(self.full.schedule.steps)
        self.states: list[Tensor] = []
        self.plain: Tensor | None = None
        self.whole: Tensor | None = None
        self.step_seconds = 0.0

    def parity(self) -> dict[str, Any]:
        """How far the images of one seed are from the plain one, whole and alone."""
        steps = self.full._prepared.steps
        self.plain, flagged = plain_images(self.sampler._found, self.sampler.pipe, self.full._caller, [SEED], steps)
        self.whole = self._made([SEED])
        apart = distance(self.whole[0], self.plain[0])
        found = {"apart": apart, "by": self._by(self.full), "holds": apart <= self.verdict.tolerance}
        if flagged:
            found["note"] = "the safety checker blacked out the image, so that this says little"
        if self.full.solver is not None:
            native = obeying(self.full, Verdict(native=True))
            found["native_apart"] = distance(self._made([SEED], sampler=native)[0], self.plain[0])
        return found

    def _by(self, sampler: PipelineSampler) -> str:
        return type(sampler.pipe.scheduler).__name__ if sampler.solver is None else sampler.solver.name

    def split(self) -> dict[str, Any] | None:
        """How far the image is from the plain one where its way is cut."""
        if not self.marks:
            return None
        if not self.verdict.split:
            return {"holds": False}
        self.states = []
        apart = distance(self._made([SEED], self.marks, self.states)[0], self._reference()[0])
        return {"apart": apart, "at": self.marks, "holds": apart <= self.verdict.tolerance}

    def batch(self) -> dict[str, Any]:
        """How far the image is from the plain one where another one is made beside it."""
        if not self.verdict.batch:
            return {"holds": False}
        images = self._made([OTHER, SEED])
        apart = distance(images[1], self._reference()[0])
        found = {"apart": apart, "holds": apart <= self.verdict.tolerance}
        return {**found, "seeds_matter": not torch.equal(images[0], images[1])}

    def _reference(self) -> Tensor:
        if self.plain is None:
            raise ValueError("expected the plain image, which could not be made")
        return self.plain

    def _made(
        self, seeds: Sequence[int], marks: Sequence[int] = (), states: list[Tensor] | None = None,
        sampler: PipelineSampler | None = None,
    ) -> Tensor:  # fmt: skip
        """Images of seeds, with the states at ``marks`` added to ``states``."""
        sampler = self.full if sampler is None else sampler
        x, state, more = sampler.noise(seeds), None, origins_of(sampler, seeds)
        noise = seeded_noise(seeds, x.shape[1:]) if sampler.stochastic else None
        began = time.perf_counter()
        for start, stop in pairwise([0, *marks, sampler.schedule.steps]):
            if states is not None and start:
                states.append(x)
            x, state = sampler.denoise(x, start, stop, state, noise, list(seeds) if start == 0 else None, **more)
        if len(seeds) == 1 and not marks:
            self.step_seconds = (time.perf_counter() - began) / max(1, sampler.nfe(0, sampler.schedule.steps))
        return sampler.decode(x, **more)

    def previews(self) -> dict[str, Any]:
        """How far our clean estimates are from the scheduler's own, where it has some."""
        if not self.full.can_preview or not self.full.knows_levels:
            return {"holds": False, "why": f"the model predicts {self.full.prediction}" if not self.full.can_preview
                    else "states stand at levels that nothing tells"}  # fmt: skip
        if not self.states:
            return {"holds": False, "why": "a way that is not cut has none"}
        native = obeying(self.full, Verdict(native=True))
        own: list[Tensor | None] = []
        native = _overheard(native, own)
        x, more = native.noise([SEED]), origins_of(native, [SEED])
        native.denoise(x, 0, native.schedule.steps, None, None, [SEED], **more)
        if len(own) != self.full.schedule.steps or any(one is None for one in own):
            return {"holds": True, "apart": None, "why": f"{self._by(native)} has no clean estimate of its own"}
        apart = 0.0
        for index, state in zip(self.marks, self.states, strict=True):
            ours, theirs = self.full.predict(state, index, **more), own[index]
            assert theirs is not None  # noqa: S101 - looked at above
            spread = float(theirs.float().std()) or 1.0
            apart = max(apart, float((ours - theirs.float().cpu()).abs().max()) / spread)
        return {"apart": round(apart, 6), "at": self.marks, "holds": apart <= CLOSE_PREVIEW}

    def gradients(self) -> dict[str, Any]:
        """How far a gradient through the whole sampler is from finite differences along it."""
        few = obeying(few_steps(self.sampler, least=GRADIENT_STEPS), self.verdict)
        if not few.differentiable:
            return {"holds": False, "why": f"{self._by(few)} has none: --solver ddim"}
        x = few.noise([SEED]).requires_grad_(True)
        generator = torch.Generator("cpu").manual_seed(0)
        images = few.trace(x)
        weights = torch.randn(images.shape, generator=generator)
        gradient = torch.autograd.grad((images * weights).sum(), x)[0]
        norm = float(gradient.norm())
        if not norm > 0:
            return {"holds": False, "why": "it is zero, or no number: the image does not depend on the noise"}
        error = min(_gradient_error(few, x.detach(), gradient, weights, nudge) for nudge in NUDGES)
        half = few.pipe.dtype in (torch.float16, torch.bfloat16)
        found: dict[str, Any] = {"error": round(error, 6), "steps": few.schedule.steps}
        if half:
            return {**found, "holds": None, "why": "half precision has no finite differences to hold it against"}
        return {**found, "holds": error <= CLOSE_GRADIENT}

    def speed(self, seconds: float) -> dict[str, Any]:
        """Seconds of a step of one image, and of images in batches of powers of two, as far as they gain or fit."""
        few = obeying(few_steps(self.sampler), self.verdict)
        began, size, found = time.perf_counter(), 1, dict[int, float]()
        ended = "larger ones take no less for an image"
        while True:
            try:
                found[size] = _seconds_per_image(few, size, warm=not found)
            except Exception as error:
                if not out_of_memory(error) or not found:
                    raise
                ended = f"{size} do not fit in memory"
                break
            if size > 1 and found[size] > GAIN * found[size // 2]:
                break
            if not self.verdict.batch or 2 * size > MOST_AT_ONCE:
                ended = "one at a time" if not self.verdict.batch else "larger ones were not tried"
                break
            if time.perf_counter() - began > seconds:
                ended = "there was no time for larger ones"
                break
            size *= 2
        best = min(found, key=lambda one: found[one])
        return {
            "seconds_per_step": round(self.step_seconds or found[1], 6), "fastest_batch": best,
            "seconds_per_step_and_image": {str(one): round(took, 6) for one, took in found.items()}, "ended": ended,
        }  # fmt: skip


def _gradient_error(few: PipelineSampler, x: Tensor, gradient: Tensor, weights: Tensor, nudge: float) -> float:
    """How far a gradient is from a difference along it, relative to it."""
    way = gradient / gradient.norm() * x[0].numel() ** 0.5 * nudge
    ends = [float((few.trace(x + sign * way).detach().double() * weights).sum()) for sign in (1, -1)]
    expected = float((gradient.double() * way.double()).sum())
    return abs((ends[0] - ends[1]) / 2 - expected) / abs(expected)


def _seconds_per_image(sampler: PipelineSampler, size: int, warm: bool) -> float:
    """Seconds of one step for one of ``size`` images at once."""
    seeds = [SEED + n for n in range(size)]
    x, more, steps = sampler.noise(seeds), origins_of(sampler, seeds), sampler.schedule.steps
    noise = seeded_noise(seeds, x.shape[1:]) if sampler.stochastic else None
    took = 0.0
    for _ in range(2 if warm else 1):
        began = time.perf_counter()
        sampler.denoise(x, 0, steps, None, noise, list(seeds), **more)
        took = time.perf_counter() - began
    return took / size / max(1, sampler.nfe(0, steps))


def _overheard(native: PipelineSampler, found: list[Tensor | None]) -> PipelineSampler:
    """A sampler that steps by its own scheduler, whose clean estimates are added to ``found``; None where it has none.

    Raises:
        UnsupportedPipeline: where our solver takes the steps.
    """
    if native.solver is not None:
        raise UnsupportedPipeline("expected the pipeline's own scheduler")
    base: Any = type(native._prepared.scheduler)

    @functools.wraps(base.step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.pop("return_dict", True)
        output = base.step(self, *args, return_dict=True, **kwargs)
        found.append(getattr(output, "pred_original_sample", None))
        return output if wanted else (output.prev_sample,)

    scheduler = copy.deepcopy(native._prepared.scheduler)
    scheduler.__class__ = type(base.__name__, (base,), {"step": step, "__module__": base.__module__})
    other = copy.copy(native)
    other._prepared = replace(native._prepared, scheduler=scheduler)
    return other


# Memory


def memory() -> dict[str, int | None]:
    """The most memory that this process has had, in bytes: of the host, and of CUDA devices where there are any."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = most if sys.platform == "darwin" else most * 1024
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"host_bytes": int(host), "cuda_bytes": int(torch.cuda.max_memory_allocated()) if cuda else None}

