"""How near a set of images is to another, and how sharp and varied it is: KID, Inception Score, precision, recall, ...

All on features (images, d) of one network for both sides, in float64, in blocks, so that memory grows with the number
of images and not with its square. FID itself is :meth:`~.distance`. These are
measures of populations, of thousands of images: never of one image, nor of a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from noisewright.measures.frechet import frechet_distance, sqrt_matrix
from noisewright.measures.statistics import FeatureStatistics, check_features

BLOCK = 2**24
"""Distances held at once: 128 MiB."""


@dataclass(frozen=True)
class Kid:
    """Kernel Inception Distance.

    Attributes:
        value: the mean over the subsets; may be below zero, as the estimate is unbiased.
        deviation: standard deviation over the subsets (what torch-fidelity prints).
        standard_error: of ``value`` as an estimate of the two distributions' distance, by subsampling; NaN where a
            subset is the whole set.
        subsets: how many were drawn.
        size: images of each side in a subset.
    """

    value: float
    deviation: float
    standard_error: float
    subsets: int
    size: int


@dataclass(frozen=True)
class Manifold:
    """How two sets cover each other, each a fraction (density may pass 1).

    Attributes:
        precision: of the images, within a reference image's neighbourhood.
        recall: of the reference, within an image's neighbourhood.
        density: reference neighbourhoods that an image lies in, over k.
        coverage: of the reference neighbourhoods, with an image in them.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def fid(features: Tensor, reference: Tensor) -> float:
    """The squared Frechet distance between Gaussians fitted to (n, d) and (m, d) features (Heusel et al. 2017).

    Raises:
        ValueError: on fewer than 2 images on a side, other widths, or features that are not finite.
    """
    return FeatureStatistics().add(features).distance(FeatureStatistics().add(reference))


def fid_interval(
    features: Tensor, reference: FeatureStatistics, *, resamples: int = 100, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """A bootstrap interval of the FID for the drawing of the images; the reference is taken as exact.

    Resampling adds the bias of a finite set once more (a resample has fewer distinct images), so the quantiles of the
    resampled values are taken about their own mean and laid about the FID. The interval says how far another set of as
    many images would come out; it does not hold the FID of infinitely many.

    Args:
        features: (n, d).
        reference: the other side.
        resamples: each costs an eigendecomposition.
        confidence: between 0 and 1.
        seed: of the resampling.

    Raises:
        ValueError: on features that are not finite, or a confidence outside (0, 1).
    """
    checked = check_features(features)
    centre, found = _resampled([checked], reference, resamples, confidence, seed)
    low, high = _about(centre[0], found[:, 0], confidence)
    return max(0.0, low), high


def fid_change_interval(
    features: Tensor,
    other: Tensor,
    reference: FeatureStatistics,
    *,
    resamples: int = 100,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """A bootstrap interval of FID(features) - FID(other), for two sets that belong together image by image.

    Row k of both was made from the same noise and prompt, say by two samplers. Each resample draws the same rows of
    both, so that what the pairs share cancels: the interval is narrower than two intervals apart suggest. Laid about
    the change as in :func:`fid_interval`; most of the bias of finite sets cancels too.

    Args:
        features: (n, d).
        other: (n, d), row by row of the same noises.
        reference: the other side of both distances.
        resamples: each costs two eigendecompositions.
        confidence: between 0 and 1.
        seed: of the resampling.

    Returns:
        Its lower and upper end; below 0 where ``features`` are nearer to the reference.

    Raises:
        ValueError: on two shapes, features that are not finite, or a confidence outside (0, 1).
    """
    pair = [check_features(features), check_features(other)]
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"expected features of the same images on both sides, got {tuple(features.shape)} and {tuple(other.shape)}"
        )
    centre, found = _resampled(pair, reference, resamples, confidence, seed)
    return _about(centre[0] - centre[1], found[:, 0] - found[:, 1], confidence)


def _resampled(
    sets: list[Tensor], reference: FeatureStatistics, resamples: int, confidence: float, seed: int
) -> tuple[list[float], Tensor]:
    """The FID of each set, and (resamples, sets) of resamples that draw the same rows of all sets."""
    if not 0 < confidence < 1 or resamples < 2:
        raise ValueError(f"expected a confidence in (0, 1) and 2 resamples or more, got {confidence} and {resamples}")
    covariance = reference.covariance
    root = sqrt_matrix(covariance)

    def distance(mean: Tensor, spread: Tensor) -> float:
        return frechet_distance(mean, spread, reference.mean, covariance, root)

    wholes = [FeatureStatistics(reference.fingerprint).add(one) for one in sets]
    centres = [distance(one.mean, one.covariance) for one in wholes]
    generator = torch.Generator().manual_seed(seed)
    count = len(sets[0])
    found = torch.empty(resamples, len(sets), dtype=torch.float64)
    for row in found:
        times = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count).double()
        for place, one in enumerate(sets):
            mean = times @ one / count
            centred = one - mean
            row[place] = distance(mean, centred.T @ (centred * times[:, None]) / (count - 1))
    return centres, found


def _about(centre: float, found: Tensor, confidence: float) -> tuple[float, float]:
    """The quantiles of resampled values about their own mean, laid about ``centre``."""
    around = found - found.mean()
    low, high = (float(torch.quantile(around, q)) for q in ((1 - confidence) / 2, (1 + confidence) / 2))
    return centre + low, centre + high


def kid(
    features: Tensor,
    reference: Tensor,
    *,
    subsets: int = 100,
    size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coefficient: float = 1.0,
    seed: int = 0,
) -> Kid:
    """The unbiased squared MMD with the kernel (gamma x.y + coefficient)^degree, over random subsets (Binkowski 2018).

    The standard error takes the variance of an estimate from m images as proportional to 1 / m (Politis and Romano
    1994); between equal distributions it falls faster, and the error is overstated.

    Args:
        features: (n, d).
        reference: (m, d).
        subsets: how many pairs of subsets are drawn, each without replacement.
        size: images in a subset.
        degree: of the polynomial.
        gamma: by default 1 / d.
        coefficient: the constant inside.
        seed: of the drawing.

    Raises:
        ValueError: where a side has fewer images than a subset, or on features that are not finite.
    """
    x, y = _pair(features, reference)
    least = min(len(x), len(y))
    if not 2 <= size <= least or subsets < 1:
        raise ValueError(f"expected KID subsets of 2 to {least} images, the smaller side, got {subsets} of {size}")
    gamma = 1 / x.shape[1] if gamma is None else gamma
    generator = torch.Generator().manual_seed(seed)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T).mul_(gamma).add_(coefficient).pow_(degree)

    values = torch.empty(subsets, dtype=torch.float64)
    for k in range(subsets):
        a = x[torch.randperm(len(x), generator=generator)[:size]]
        b = y[torch.randperm(len(y), generator=generator)[:size]]
        within = sum(float(one.sum() - one.trace()) for one in (kernel(a, a), kernel(b, b)))
        values[k] = within / (size * (size - 1)) - 2 * float(kernel(a, b).mean())
    deviation = float(values.std(correction=0))
    error = deviation * math.sqrt(size / (least - size) + 1 / subsets) if size < least else math.nan
    return Kid(float(values.mean()), deviation, error, subsets, size)


def inception_score(probabilities: Tensor, *, splits: int = 10, seed: int | None = 0) -> tuple[float, float]:
    """The exponential of the mean KL divergence of each image's class probabilities from their mean (Salimans 2016).

    Args:
        probabilities: (n, classes), rows summing to 1.
        splits: equal parts that are scored by themselves; the score depends on their size.
        seed: of the shuffling before the split, as files are often sorted by class; None leaves the order.

    Returns:
        Mean and standard deviation over the splits; from 1 to the number of classes.

    Raises:
        ValueError: on fewer images than splits, or rows that are no probabilities.
    """
    p = check_features(probabilities)
    if not 1 <= splits <= len(p):
        raise ValueError(f"expected 1 to {len(p)} splits, the number of images, got {splits}")
    if (p < 0).any() or ((p.sum(1) - 1).abs() > 1e-3).any():
        raise ValueError("expected class probabilities that sum to 1 for each image, got something else")
    if seed is not None:
        p = p[torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))]
    scores = []
    for k in range(splits):
        part = p[k * len(p) // splits : (k + 1) * len(p) // splits]
        mean = part.mean(0)
        divergence = torch.xlogy(part, part).sum(1).mean() - torch.xlogy(mean, mean).sum()
        scores.append(float(divergence.exp()))
    found = torch.tensor(scores, dtype=torch.float64)
    return float(found.mean()), float(found.std(correction=0))


def manifold(features: Tensor, reference: Tensor, *, k: int = 3) -> Manifold:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    An image's neighbourhood is the closed ball to its k-th nearest other image of its own set. Naeem et al. use k = 5.
    Cost: three passes over n m, n^2 and m^2 distances in blocks of :data:`BLOCK`.

    Args:
        features: (n, d), of the images in question.
        reference: (m, d), of real images.
        k: the neighbour.

    Raises:
        ValueError: where a side has not more than k images, or on features that are not finite.
    """
    x, y = _pair(features, reference)
    if not 1 <= k < min(len(x), len(y)):
        raise ValueError(f"expected more than k = {k} images on both sides, k at least 1, got {len(x)} and {len(y)}")
    x, y = x - y.mean(0), y - y.mean(0)  # distances of squares keep more digits near the origin
    of_images, of_reference = _radii(x, k), _radii(y, k)
    precise = inside = 0
    recalled = torch.zeros(len(y), dtype=torch.bool)
    covered = torch.zeros(len(y), dtype=torch.bool)
    for rows, squares in _distances(x, y):
        within = squares <= of_reference
        precise += int(within.any(1).sum())
        inside += int(within.sum())
        covered |= within.any(0)
        recalled |= (squares <= of_images[rows][:, None]).any(0)
    return Manifold(
        precision=precise / len(x),
        recall=float(recalled.double().mean()),
        density=inside / (k * len(x)),
        coverage=float(covered.double().mean()),
    )


def _radii(x: Tensor, k: int) -> Tensor:
    """(n,): the squared distance to the k-th nearest other row."""
    found = torch.empty(len(x), dtype=x.dtype)
    for rows, squares in _distances(x, x):
        squares[torch.arange(len(squares)), torch.arange(rows.start, rows.stop)] = math.inf
        found[rows] = squares.kthvalue(k, dim=1).values
    return found


def _distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances from some rows of x to all of y, block by block."""
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    rows = max(1, BLOCK // len(y))
    for first in range(0, len(x), rows):
        some = slice(first, min(first + rows, len(x)))
        yield some, torch.addmm(y_squares, x[some], y.T, alpha=-2).add_(x_squares[some, None]).clamp_(min=0)


def _pair(features: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    x, y = check_features(features), check_features(reference)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"expected as many features on both sides, got {x.shape[1]} and {y.shape[1]}")
    return x, y
