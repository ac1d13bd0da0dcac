"""The Frechet distance between two Gaussians, and its exact change when one sample joins one of them.

The distance (Frechet 1957; FID of Heusel et al. 2017) between (m1, S1) and (m2, S2) is

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S2^1/2 S1 S2^1/2)^1/2.

A sample changes S1 by a rank-one term, so the matrix under the last root, M, becomes M + r z z^T. The change of its
root's trace needs neither the new eigenvalues nor the new vectors. From sqrt(x) = 1/pi * integral over s > 0 of log(1 +
x / s^2) and the determinant lemma det(M + r z z^T + s^2) = det(M + s^2) (1 + r z^T (M + s^2)^-1 z) follows

    tr (M + r z z^T)^1/2 - tr M^1/2 = 1/pi * integral over s > 0 of log(1 + r z^T (M + s^2)^-1 z) ds  [derived].

With s = exp(y) the integrand is analytic for |Im y| < pi/2, so the trapezoidal rule with step h is wrong by about
exp(-pi^2 / h): 76 nodes give ten digits. The integrand is positive: nothing cancels, and repeated or zero
eigenvalues need no special case. For many candidates it is one matrix product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEP = 0.4
"""Of the trapezoidal rule in y: exp(-pi^2 / STEP) is 2e-11."""

LOWEST, HIGHEST = 1e-8, 1e5
"""The nodes s, in units of the largest root; what lies outside is summed as the geometric series that it is there."""


def sqrt_trace(matrix: Tensor) -> tuple[float, Tensor, Tensor]:
    """The trace of a symmetric matrix' root, and its eigenvalues and vectors.

    Eigenvalues below the rounding of the largest are taken as zero: a covariance has none below. The root of what
    rounding leaves of a zero eigenvalue is up to 1e-8 of the largest root: so accurate are singular matrices.
    """
    values, vectors = torch.linalg.eigh(matrix)
    values = _without_noise(values)
    return float(values.sqrt().sum()), values, vectors


def sqrt_matrix(matrix: Tensor) -> Tensor:
    """The root of a symmetric matrix (d, d) without negative eigenvalues beyond rounding."""
    _, values, vectors = sqrt_trace(matrix)
    return (vectors * values.sqrt()) @ vectors.T


def frechet_distance(
    mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor, root: Tensor | None = None
) -> float:
    """The squared Frechet distance (what FID reports) of two Gaussians, by symmetric eigendecompositions.

    Args:
        mean_1: (d,); all in float64 by the caller's care.
        covariance_1: (d, d), symmetric, singular or not.
        mean_2: (d,).
        covariance_2: (d, d).
        root: of ``covariance_2``, as :func:`sqrt_matrix` gives it, where it is known.

    Returns:
        The distance; what rounding takes below zero is 0.

    Raises:
        ValueError: where shapes differ, or values are not finite.
    """
    if mean_1.shape != mean_2.shape or covariance_1.shape != covariance_2.shape:
        raise ValueError(f"expected as many features on both sides, got {len(mean_1)} and {len(mean_2)}")
    if not all(torch.isfinite(one).all() for one in (mean_1, covariance_1, mean_2, covariance_2)):
        raise ValueError("expected finite means and covariances, got nan or inf")
    root = sqrt_matrix(covariance_2) if root is None else root
    product = root @ covariance_1 @ root
    trace = _without_noise(torch.linalg.eigvalsh((product + product.T) / 2)).sqrt().sum()
    apart = (mean_1 - mean_2).square().sum()
    return max(0.0, float(apart + covariance_1.trace() + covariance_2.trace() - 2 * trace))


class RunningFrechet:
    """The distance of a growing sample to a reference: asked of many candidates, told of the one that joined.

    A question to b candidates of d features costs about b d (d + 76 (1 + pending)) multiplications, where pending, the
    samples that joined since the last eigendecomposition, stays below ``refresh``. Between two of those the inverse
    (M + s^2)^-1 at every node is carried on by the Sherman-Morrison formula.

    Args:
        reference_mean: (d,) float64.
        reference_covariance: (d, d) float64.
        count: samples so far.
        mean: (d,), theirs; any where count is 0.
        scatter: (d, d), the sum of (x - mean)(x - mean)^T.
        refresh: after so many samples the eigendecomposition is made anew; by default d / 24, at least 8, about the
            cheapest for 64 candidates a sample.
    """

    def __init__(
        self,
        reference_mean: Tensor,
        reference_covariance: Tensor,
        count: int,
        mean: Tensor,
        scatter: Tensor,
        refresh: int | None = None,
    ) -> None:
        self.reference_mean = reference_mean
        self.reference_trace = float(reference_covariance.trace())
        self.root = sqrt_matrix(reference_covariance)
        self._floor = float(torch.linalg.matrix_norm(reference_covariance)) ** 2
        self.refresh = refresh or max(8, len(reference_mean) // 24)
        self.count = count
        self.mean = mean.clone() if count else torch.zeros_like(reference_mean)
        self.scatter = scatter.clone()
        self._under = self.root @ scatter @ self.root  # M
        self._decompose()

    def distance(self) -> float:
        """To the reference, of the samples so far; with one sample or none their covariance counts as zero."""
        apart = float((self.mean - self.reference_mean).square().sum())
        degrees = max(self.count - 1, 1)
        spread = float(self.scatter.trace()) / degrees
        return max(0.0, apart + spread + self.reference_trace - 2 * self._trace / math.sqrt(degrees))

    def distances(self, candidates: Tensor) -> Tensor:
        """(b,): the distance to the reference if each of ``candidates``, (b, d) float64, joined alone."""
        offsets = candidates - self.mean  # (b, d)
        gains = self._gains(offsets @ self._turn.T)  # (b,)
        count, weight = self.count + 1, self.count / (self.count + 1)
        degrees = max(count - 1, 1)
        apart = (self.mean + offsets / count - self.reference_mean).square().sum(1)
        spread = (self.scatter.trace() + weight * offsets.square().sum(1)) / degrees
        traces = self._trace + gains
        return (apart + spread + self.reference_trace - 2 * traces / math.sqrt(degrees)).clamp(min=0)

    def add(self, sample: Tensor) -> None:
        """``sample``, (d,) float64, joins."""
        offset = sample - self.mean
        weight = self.count / (self.count + 1)
        self.mean = self.mean + offset / (self.count + 1)
        turned = self._turn @ offset  # z, in the basis of the last eigendecomposition
        self._trace += float(self._gains(turned[None]))
        self.count += 1
        if not weight:
            return
        self.scatter.addr_(offset, offset, alpha=weight)
        rooted = self.root @ offset
        self._under.addr_(rooted, rooted, alpha=weight)
        if self._pending == self.refresh:
            self._decompose()
            return
        solved = turned * self._inverse  # (nodes, d): (M + s^2)^-1 z
        before = self._updates[: self._pending]
        for vectors in before:
            solved -= vectors * (vectors @ turned)[:, None]
        # Where a sample comes twice, the smallest nodes have only rounding left: their share of the integral is none.
        self._updates[self._pending] = solved / (1 / weight + (solved @ turned).clamp(min=0)).sqrt()[:, None]
        self._pending += 1

    def _gains(self, turned: Tensor) -> Tensor:
        """(b,): by how much each z of (b, d) raises the trace of the root."""
        inner = turned.square() @ self._inverse.T  # (b, nodes): z^T (M + s^2)^-1 z
        if self._pending:
            before = self._updates[: self._pending].reshape(-1, turned.shape[1])
            inner -= (turned @ before.T).square_().reshape(len(turned), self._pending, -1).sum(1)
        return torch.log1p(self.count / (self.count + 1) * inner.clamp_(min=0)) @ self._weights

    def _decompose(self) -> None:
        """M's eigenvalues and vectors, and what follows from them at each node."""
        self._trace, values, vectors = sqrt_trace(self._under)
        self._turn = vectors.T @ self.root
        unit = math.sqrt(max(float(values[-1]), self._floor, 1e-100))
        nodes, self._weights = _rule(unit)
        self._inverse = 1 / (values + nodes[:, None].square())  # (nodes, d)
        self._updates = self._inverse.new_empty((self.refresh, *self._inverse.shape))
        self._pending = 0


def _without_noise(values: Tensor) -> Tensor:
    """Eigenvalues, ascending, with those that are rounding of the largest set to zero."""
    least = torch.finfo(values.dtype).eps * float(values[-1])
    return torch.where(values > max(least, 0.0), values, 0.0)


def _rule(unit: float) -> tuple[Tensor, Tensor]:
    """Nodes s and weights of 1/pi * integral ds.

    Beyond the ends the integrand in y goes as exp(y) and exp(-y): the end nodes stand for those sums too.
    """
    first, last = math.log(LOWEST), math.log(HIGHEST)
    y = torch.arange(first, last + STEP, STEP, dtype=torch.float64)
    nodes = unit * y.exp()
    weights = nodes * (STEP / math.pi)
    tail = 1 / (1 - math.exp(-STEP))
    weights[0] *= tail
    weights[-1] *= tail
    return nodes, weights
