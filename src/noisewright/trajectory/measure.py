"""The prediction error of a model by noise level (Xu, Liu and Kong 2025, VRG, section 3), gathered batch by batch.

For clean states x0 and fresh noise eps, ``x = alpha x0 + sigma eps`` and ``d = eps_hat(x) - eps``. Every prediction
gives an eps_hat, so one measure serves epsilon, v and flow models: on the linear path ``s^2 E_eps = t^2 E_u``, and
``m = s^2 E`` is the mean square error of the clean estimate in every case. Most of E is no fault of the network: it is
the spread of the images that one noisy state could have come from, and a perfect denoiser has it too.

Deviations from the paper, which measures all 1,000 times over the whole training set: a chosen set of levels and a
few hundred or thousand images, with standard errors; skew and kurtosis of many dimensions, not of one; and each image
at every second level only, because another image says more than another level of the same one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.noise import gaussian
from noisewright.diffusion.solvers import Ddim
from noisewright.outside.bounds import MOST_LEVELS, at_most
from noisewright.samplers.protocol import Sampler
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.errors import ErrorTable, LevelError
from noisewright.trajectory.files import identity
from noisewright.trajectory.images import Example
from noisewright.trajectory.path import ModelPath, path_of, with_schedule

SAVE_EVERY = 30.0
"""Seconds between two savings of a measurement under way."""

PICKED = 64
"""Dimensions whose skew and kurtosis are followed, evenly spaced over the state."""

CONSTANT = 1e-7
"""Share of the mean square below which a variance is rounding, as far as its fourth power is concerned."""


class Moments:
    """Streaming moments of errors (batch, ...): memory does not depend on how many there are.

    Attributes:
        count: images so far.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.sums = torch.zeros(size, dtype=torch.float64)  # of d, by dimension
        self.squares = torch.zeros(size, dtype=torch.float64)
        picked = torch.linspace(0, size - 1, min(PICKED, size)).round().long()
        self.picked = picked
        self.powers = torch.zeros(4, len(picked), dtype=torch.float64)  # sums of d, d^2, d^3, d^4
        self.images = torch.zeros(2, 3, dtype=torch.float64)  # of (d, d^2): count, mean, sum of squared deviations

    def add(self, errors: Tensor) -> None:
        """Takes in (batch, ...)."""
        d = errors.double().flatten(1)
        self.count += len(d)
        self.sums += d.sum(0)
        self.squares += d.square().sum(0)
        some = d[:, self.picked]
        self.powers += torch.stack([some.pow(k).sum(0) for k in (1, 2, 3, 4)])
        for row, values in zip(self.images, (d.mean(1), d.square().mean(1)), strict=True):
            _join(row, values)

    def level(self, t: float, s: float) -> LevelError:
        """What was found.

        Raises:
            ValueError: below two images, which have no standard error.
        """
        if self.count < 2:
            raise ValueError(f"expected at least 2 images to measure, got {self.count}")
        (_, bias, bias_spread), (_, square, spread) = self.images.tolist()
        error = [math.sqrt(one / (self.count - 1) / self.count) for one in (bias_spread, spread)]
        by_dimension = (self.sums / self.count).square()
        variance = (self.squares / self.count - by_dimension).clamp(min=0) * self.count / (self.count - 1)
        share = float((by_dimension - variance / self.count).mean()) / square if square > 0 else 0.0
        skew, kurtosis = _shape(self.powers / self.count, self.count)
        return LevelError(
            t, s, square, error[1], bias, error[0], min(max(share, 0.0), 1.0),
            float(skew.mean()), _error_of_mean(skew), float(kurtosis.mean()), _error_of_mean(kurtosis), self.count,
        )  # fmt: skip

    @property
    def state(self) -> list[Tensor]:
        """All that it has gathered, in place."""
        return [self.sums, self.squares, self.powers, self.images]


class Checkpoint:
    """A measurement that was checkpoint, on disk every :data:`SAVE_EVERY` seconds.

    Args:
        cache: where.
        depends_on: all that tells this measurement from others; see :mod:`noisewright.trajectory.disk_cache`.

    Attributes:
        done: images that need not be measured again, whole batches of them.
    """

    def __init__(self, cache: DiskCache, *depends_on: Any) -> None:
        self.cache, self.depends_on = cache, depends_on
        self._found = cache.get("moments", *depends_on)
        self.done = int(self._found["done"]) if self._found else 0
        self._saved = time.monotonic()

    def restore(self, moments: Sequence[Moments]) -> None:
        """Fill in what was gathered."""
        for index, one in enumerate(moments if self._found else []):
            assert self._found is not None  # noqa: S101 - narrows the type
            one.count = int(self._found["counts"][index])
            for n, tensor in enumerate(one.state):
                tensor.copy_(self._found[f"{n}"][index])

    def save(self, moments: Sequence[Moments], done: int) -> None:
        """Now and then; called before a batch, so that at least one is left to measure."""
        if time.monotonic() - self._saved < SAVE_EVERY:
            return
        found = {f"{n}": torch.stack([one.state[n] for one in moments]) for n in range(len(moments[0].state))}
        found |= {"done": torch.tensor(done), "counts": torch.tensor([one.count for one in moments])}
        self.cache.put(found, "moments", *self.depends_on)
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Forget it: the table is written."""
        self.cache.drop("moments", *self.depends_on)


def _join(row: Tensor, values: Tensor) -> None:
    """Merge counts, means and sums of squared deviations (Chan, Golub and LeVeque 1979), in place."""
    count, mean = len(values), values.mean()
    offset, whole = mean - row[1], row[0] + count
    row[2] += (values - mean).square().sum() + offset**2 * row[0] * count / whole
    row[1] += offset * count / whole
    row[0] = whole


def _shape(raw: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Skew and excess kurtosis by dimension, G1 and G2 of Joanes and Gill (1998), which are unbiased for a Gaussian.

    Args:
        raw: moments about 0, (4, dimensions).
        count: n, of how many values they are; below 3 the skew is 0, below 4 the kurtosis.

    Returns:
        Both (dimensions,); 0 where a dimension does not vary.
    """
    first, second, third, fourth = raw
    variance = second - first**2
    varies = variance > CONSTANT * second
    variance = torch.where(varies, variance, torch.ones_like(variance))
    skew, kurtosis = torch.zeros_like(first), torch.zeros_like(first)
    if count > 2:
        central = third - 3 * first * second + 2 * first**3
        skew = math.sqrt(count * (count - 1)) / (count - 2) * central / variance**1.5
    if count > 3:
        quartic = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        excess = quartic / variance**2 - 3
        kurtosis = (count - 1) / ((count - 2) * (count - 3)) * ((count + 1) * excess + 6)
    return skew.where(varies, 0.0), kurtosis.where(varies, 0.0)


def _error_of_mean(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0


def measured_levels(path: ModelPath, count: int) -> list[float]:
    """Levels s evenly spaced in the model's time, both ends included, noisiest first; E is smooth between them.

    Raises:
        ValueError: on fewer than 5.
    """
    if count < 5:
        raise ValueError(f"expected at least 5 levels to measure at, got {count}")
    at_most(MOST_LEVELS, levels=count)
    first, last = path.time(path.low), path.time(path.high)
    times = [last + (first - last) * k / (count - 1) for k in range(count)]
    return [path.high, *(path.level(time) for time in times[1:-1]), path.low]


def check_count(count: int, stride: int) -> None:
    """Refuse fewer images than two at each level, which have no standard error.

    Raises:
        ValueError: in one line.
    """
    if count < 2 * stride:
        raise ValueError(
            f"expected at least {2 * stride} images at stride {stride}, two at each level, got {count or 'none'}"
        )


def measure(
    make: Callable[[str], Sampler],
    examples: Iterable[Example],
    *,
    levels: int = 50,
    stride: int = 2,
    seed: int = 0,
    source: str = "",
    settings: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> ErrorTable:
    """Measure a model's prediction errors.

    The noise of an image is a function of its number, the level's and the seed, so that a table does not depend on the
    batches. Cost: ``levels / stride`` guided calls an image.

    Args:
        make: the sampler of a condition; asked for each batch, so one that remembers the last few is faster.
        examples: conditions and clean states, whatever number of them.
        levels: how many; see :func:`measured_levels`.
        stride: image n is measured at the levels k where n + k is a multiple of it; 1 measures every image at each.
        seed: of the noise.
        source: what the states are, for the record.
        settings: for the record.
        progress: called with the number of images so far.
        checkpoint: what an earlier call that was killed had gathered; ``examples`` go on behind its ``done`` images.

    Raises:
        ValueError: on too few levels or images.
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, got {stride}")
    moments: list[Moments] = []
    places: list[float] = []
    schedule = None
    known: dict[str, Any] = {}
    checkpoint = checkpoint or Checkpoint(DiskCache())
    done = checkpoint.done
    for condition, clean in examples:
        plain = make(condition)
        if schedule is None:
            path = path_of(plain)
            places = measured_levels(path, levels)
            schedule, known = path.schedule(places), identity(plain)
            moments = [Moments(clean[0].numel()) for _ in schedule.t]
            checkpoint.restore(moments)
        sampler = with_schedule(plain, schedule, Ddim())
        if done > checkpoint.done:
            checkpoint.save(moments, done)
        for index, found in enumerate(moments):
            rows = [n for n in range(len(clean)) if (done + n + index) % stride == 0]
            if rows:
                keys = [("measure", seed, done + n, index) for n in rows]
                found.add(_errors(sampler, clean[rows], keys, index, places[index]))
        done += len(clean)
        if progress is not None:
            progress(done)
    check_count(done, stride)
    assert schedule is not None  # noqa: S101 - narrows the type: there were images
    found_levels = [one.level(t, s) for one, t, s in zip(moments, schedule.t, places, strict=True)]
    about = {"levels": levels, "stride": stride, "seed": seed, **(settings or {})}
    return ErrorTable(tuple(found_levels), done, source, known, about)


def _errors(sampler: Sampler, clean: Tensor, keys: Sequence[tuple[object, ...]], index: int, s: float) -> Tensor:
    """eps_hat - eps of clean states (batch, ...) at a level, with the noise of their keys."""
    alpha, sigma = sampler.schedule.alpha[index], sampler.schedule.sigma[index]
    noise = torch.stack([gaussian(clean.shape[1:], *key) for key in keys])
    estimate = sampler.predict(alpha * clean + sigma * noise, index)
    return (clean.double() - estimate.double()) / s  # also at alpha = 0
