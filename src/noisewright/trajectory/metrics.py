"""What schedules are compared by: nearness to the many-step image of the same noise, a verifier, or the FID.

All on the same noises: schedule A and schedule B are asked for the images of the same prompts and seeds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import AnySolver, Ddim, nfe
from noisewright.errors import VerifierFailed
from noisewright.evaluate.distribution import fid_change_interval, fid_interval
from noisewright.measures import bootstrap
from noisewright.measures.statistics import FeatureStatistics
from noisewright.outside.bounds import MOST_SAMPLES, at_most
from noisewright.samplers.protocol import Sampler
from noisewright.trajectory.disk_cache import DiskCache, sampler_key
from noisewright.trajectory.path import path_of, ruled, with_schedule
from noisewright.verifiers.protocol import Verifier, is_lasting, score

log = logging.getLogger("noisewright")

TEACHER_STEPS = 200


@dataclass(frozen=True)
class NoiseBatch:
    """Noises to make images of.

    Attributes:
        sampler: the model with its prompt and guidance, on any levels.
        prompt: what verifiers are told.
        seeds: at most a batch of them.
    """

    sampler: Sampler
    prompt: str
    seeds: tuple[int, ...]

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        return self.prompt, self.seeds


def noise_batches(
    make: Callable[[str], Sampler], prompts: Sequence[str], count: int, *, seed: int = 0, batch: int = 16
) -> list[NoiseBatch]:
    """``count`` noises of seeds ``seed, seed + 1, ...``, dealt out over prompts, in batches.

    Raises:
        ValueError: without prompts or noises.
    """
    if not prompts or count < 1:
        raise ValueError(f"expected at least one prompt and one sample, got {len(prompts)} and {count}")
    at_most(MOST_SAMPLES, samples=count)
    found, first = [], seed
    for number, prompt in enumerate(prompts[:count]):
        share = count // len(prompts) + (number < count % len(prompts)) if len(prompts) <= count else 1
        sampler = make(prompt)
        for begin in range(first, first + share, batch):
            found.append(NoiseBatch(sampler, prompt, tuple(range(begin, min(begin + batch, first + share)))))
        first += share
    return found


@runtime_checkable
class Metric(Protocol):
    """A measure of images by schedule.

    Attributes:
        name: what it is called.
        lower: whether less is better.
        fingerprint: changes whenever its values may.

    One may say besides that it is ``lasting``, as :class:`~.Verifier` has it: only then are its
    values looked up on disk.
    """

    name: str
    lower: bool

    @property
    def fingerprint(self) -> str: ...

    def values(self, batch: NoiseBatch, images: Tensor) -> Tensor:
        """What is kept of images (batch, 3, height, width): rows of (batch, ...)."""
        ...

    def summary(self, values: Tensor) -> float:
        """One number of the rows of all batches."""
        ...

    def interval(
        self, values: Tensor, other: Tensor | None = None, groups: Sequence[str | int] | None = None
    ) -> tuple[float, float]:
        """95 % of the number, or of its change from other rows of the same noises; see :func:`groups_of`."""
        ...


FEWEST_PROMPTS = 5
"""Below so many prompts an interval over prompts says nothing."""


def groups_of(batches: Sequence[NoiseBatch]) -> list[str] | None:
    """The prompt of each noise, which intervals resample.

    None where they resample noises: below five prompts, and for classes, which are no sample of a larger set.
    """
    found = [one.prompt for one in batches for _ in one.seeds]
    classes = any(getattr(one.sampler, "class_label", None) is not None for one in batches)
    return None if classes or len(set(found)) < FEWEST_PROMPTS else found


class _Mean:
    """A metric that is the mean of a number of each image; of those that have one."""

    def summary(self, values: Tensor) -> float:
        return float(values.nanmean())

    def interval(
        self, values: Tensor, other: Tensor | None = None, groups: Sequence[str | int] | None = None
    ) -> tuple[float, float]:
        return bootstrap.interval(values, other, groups=groups)


class Teacher(_Mean):
    """Root mean square distance, in images in [0, 1], to the image that the many-step sampler makes of the same noise.

    The teacher is Euler in s (DDIM) on levels even in time, from the model's noisiest level; it is run once a noise.

    Args:
        steps: the teacher's.
        cache: where its images are kept; by default only in memory.
    """

    name, lower, lasting = "teacher", True, True

    def __init__(self, steps: int = TEACHER_STEPS, cache: DiskCache | None = None) -> None:
        self.steps = steps
        self.cache = cache or DiskCache()
        self._known: dict[Any, Tensor] = {}

    @property
    def fingerprint(self) -> str:
        return f"teacher-{self.steps}"

    def images(self, batch: NoiseBatch) -> Tensor:
        """The many-step images of a batch of noises, (batch, 3, height, width) uint8."""
        self.prepare(batch)
        return self._known[batch.key]

    def prepare(self, batch: NoiseBatch) -> bool:
        """Have the many-step images of a batch at hand; whether they had to be made."""
        if batch.key in self._known:
            return False
        path = replace(path_of(batch.sampler), end=0.0)
        sampler = with_schedule(batch.sampler, ruled("uniform", path, self.steps), Ddim())
        place = ("teachers", sampler_key(sampler), batch.seeds)
        found = self.cache.get(*place)
        if found is None:
            made = {"images": images_of(sampler, batch.seeds).mul(255).round().byte()}
            self.cache.put(made, *place)
            self._known[batch.key] = made["images"]
            return True
        self._known[batch.key] = found["images"]
        return False

    def values(self, batch: NoiseBatch, images: Tensor) -> Tensor:
        there = self.images(batch).float() / 255
        return (images - there).square().flatten(1).mean(1).sqrt().double()


class ByVerifier(_Mean):
    """The mean score of a verifier; its values last where the verifier does."""

    lower = False

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.name = verifier.name
        self._fruitful = False

    @property
    def lasting(self) -> bool:
        return is_lasting(self.verifier)

    @property
    def fingerprint(self) -> str:
        return self.verifier.fingerprint

    def values(self, batch: NoiseBatch, images: Tensor) -> Tensor:
        try:
            found = score(self.verifier, images, batch.prompt)
        except VerifierFailed as error:
            if not self._fruitful:
                raise
            log.warning("%s (NaN for %d images)", error, len(images))
            found = [math.nan] * len(images)
        self._fruitful |= not all(map(math.isnan, found))
        return torch.tensor(found, dtype=torch.float64)


RESAMPLES = 100
"""Of the interval of a FID, each of which is a distance of its own."""


class Fid:
    """The Frechet distance of the features of a network to a reference's; thousands of images make it mean something.

    Args:
        network: images (batch, 3, height, width) to :class:`~.Features`; that of the reference.
        reference: the other side's statistics, of the same network.
        resamples: of its intervals.
    """

    name, lower = "fid", True

    def __init__(
        self, network: Callable[[Tensor], Any], reference: FeatureStatistics, resamples: int = RESAMPLES
    ) -> None:
        self.network, self.reference, self.resamples = network, reference, resamples

    @property
    def lasting(self) -> bool:
        return is_lasting(self.network)

    @property
    def fingerprint(self) -> str:
        """The network's: the rows that are kept are its features."""
        return str(getattr(self.network, "fingerprint", self.reference.fingerprint))

    def values(self, batch: NoiseBatch, images: Tensor) -> Tensor:
        return self.network(images).features.double()

    def summary(self, values: Tensor) -> float:
        return FeatureStatistics(self.reference.fingerprint).add(values).distance(self.reference)

    def interval(
        self, values: Tensor, other: Tensor | None = None, groups: Sequence[str | int] | None = None
    ) -> tuple[float, float]:
        if other is None:  # over images, whatever their prompts
            return fid_interval(values, self.reference, resamples=self.resamples)
        return fid_change_interval(values, other, self.reference, resamples=self.resamples)


def images_of(sampler: Sampler, seeds: Sequence[int]) -> Tensor:
    """Finished images (batch, 3, height, width) of seeds."""
    states, _ = sampler.denoise(sampler.noise(list(seeds)), 0, sampler.schedule.steps, seeds=list(seeds))
    return sampler.decode(states)


def metric_values(
    schedule: Schedule,
    solver: AnySolver,
    batches: Sequence[NoiseBatch],
    metrics: Sequence[Metric],
    cache: DiskCache | None = None,
    spend: Callable[[float, bool], None] | None = None,
) -> dict[str, Tensor]:
    """What each metric keeps of the images that a schedule makes, by the metric's name, in the batches' order.

    Args:
        schedule: its levels.
        solver: deterministic.
        batches: noises; one batch of them at a time.
        metrics: what to measure, of the same images.
        cache: where the values are kept, a batch a file; what is there is not made again. A batch in which an image has
            no value is not kept: what failed may work the next time. Nor is one of a metric that is not lasting, of
            which nothing says when its values change (a function, a server).
        spend: called after each batch with its guided network calls times images, and whether they were made.

    Raises:
        ValueError: on a solver that draws noise, for which "the same noise" is not enough.
        VerifierFailed: where a verifier fails before it gave any number.
    """
    if solver.stochastic:
        raise ValueError(f"expected a deterministic solver to compare schedules with, got {solver.name} with eta")
    parts: dict[str, list[Tensor]] = {one.name: [] for one in metrics}
    cache = cache or DiskCache()
    for batch in batches:
        sampler = with_schedule(batch.sampler, schedule, solver)
        found = {one.name: cache.get(*_place(one, sampler, batch)) for one in metrics if is_lasting(one)}
        lacking = [one for one in metrics if found.get(one.name) is None]
        images = images_of(sampler, batch.seeds) if lacking else None
        for one in lacking:
            assert images is not None  # noqa: S101 - narrows the type
            rows = one.values(batch, images.clone())  # its own, to do with as it likes
            found[one.name] = {one.name: rows}
            if is_lasting(one) and bool(rows.isfinite().all()):
                cache.put({one.name: rows}, *_place(one, sampler, batch))
        for name, held in found.items():
            assert held is not None  # noqa: S101 - narrows the type
            parts[name].append(held[name])
        if spend is not None:
            spend(cost_of(schedule, solver, [batch]), bool(lacking))
    return {name: torch.cat(rows) for name, rows in parts.items()}


def cost_of(schedule: Schedule, solver: AnySolver, batches: Sequence[NoiseBatch]) -> int:
    """Guided network calls that the images of some noises take."""
    return nfe(solver, schedule, 0, schedule.steps) * noises_in(batches)


def noises_in(batches: Sequence[NoiseBatch]) -> int:
    """How many noises some batches hold."""
    return sum(len(one.seeds) for one in batches)


def _place(metric: Metric, sampler: Sampler, batch: NoiseBatch) -> tuple[Any, ...]:
    """Where the values of a batch are kept."""
    return "values", sampler_key(sampler), batch.seeds, [(metric.name, metric.fingerprint)]
