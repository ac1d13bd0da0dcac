"""One greedy choice of the ``fid`` oracle among 64 candidates at 512 features, against direct computation.

Prints, from this process:

- ``choice``: the distances of all candidates by the exact update;
- ``choice and join``: the same, and the winner's joining, with the eigendecomposition wherever one fell due: the mean
  over many slots is the honest price of a slot, the slowest shows a slot with a decomposition in it;
- the direct computation (means and covariances of each candidate's set, two symmetric eigendecompositions), and the
  closed form by the eigenvalues of the product, for a few candidates, times their number;
- the largest relative difference between the update and the direct computation, at the first and at the last slot.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from noisewright.measures.frechet import RunningFrechet, frechet_distance


def features(count: int, width: int, seed: int) -> torch.Tensor:
    """Correlated, with a spectrum that falls over four decades, as those of networks do."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, width, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    return (torch.randn(count, width, dtype=torch.float64, generator=generator) * scale) @ turn


def joined(running: RunningFrechet, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance with ``sample``."""
    offset = sample - running.mean
    count = running.count
    covariance = (running.scatter + count / (count + 1) * torch.outer(offset, offset)) / count
    return running.mean + offset / (count + 1), covariance


def by_eigenvalues(mean_1, covariance_1, mean_2, covariance_2) -> float:
    """The textbook's closed form, with the eigenvalues of the unsymmetric product."""
    values = torch.linalg.eigvals(covariance_1 @ covariance_2)
    apart = (mean_1 - mean_2).square().sum()
    return float(apart + covariance_1.trace() + covariance_2.trace() - 2 * values.sqrt().real.sum())


def difference(running, candidates, mean, covariance, some: int) -> float:
    found = running.distances(candidates)[:some]
    direct = [frechet_distance(*joined(running, one), mean, covariance) for one in candidates[:some]]
    return max(abs(float(a) - b) / b for a, b in zip(found, direct, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512, help="features")
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--start", type=int, default=2000, help="unsearched samples to begin with")
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--direct", type=int, default=8, help="candidates that are computed directly")
    given = parser.parse_args()
    if given.start < 2:
        parser.error("expected --start 2 or more")

    reference = features(10_000, given.width, 2) * 1.1 + 0.05
    mean, covariance = reference.mean(0), reference.T.cov()
    start = features(given.start, given.width, 3)
    began = time.perf_counter()
    scatter = start.T.cov(correction=0) * len(start)
    running = RunningFrechet(mean, covariance, len(start), start.mean(0), scatter)
    print(f"{given.candidates} candidates, {given.width} features, {torch.get_num_threads()} threads, float64")
    print(f"start                      {1e3 * (time.perf_counter() - began):9.2f} ms, once")

    pool = features(given.candidates * given.slots, given.width, 4).reshape(given.slots, given.candidates, -1)
    first = difference(running, pool[0], mean, covariance, given.direct)
    choices, slots = [], []
    used = time.process_time()
    for candidates in pool:
        began = time.perf_counter()
        best = int(running.distances(candidates).argmin())
        choices.append(1e3 * (time.perf_counter() - began))
        running.add(candidates[best])
        slots.append(1e3 * (time.perf_counter() - began))
    used = 1e3 * (time.process_time() - used) / given.slots
    for name, values in {"choice": choices, "choice and join": slots}.items():
        print(
            f"{name:20}mean  {statistics.mean(values):9.2f} ms, median {statistics.median(values):.2f}, "
            f"slowest {max(values):.2f} of {given.slots}"
        )
    print(f"{'':20}mean  {used:9.2f} ms of CPU time a slot; a decomposition every {running.refresh + 1} slots")
    last = difference(running, pool[0], mean, covariance, given.direct)

    for name, function in {"two eigh": frechet_distance, "eigvals of product": by_eigenvalues}.items():
        began = time.perf_counter()
        for one in pool[0][: given.direct]:
            function(*joined(running, one), mean, covariance)
        took = 1e3 * (time.perf_counter() - began) / given.direct
        print(f"direct, {name:18}{took:9.2f} ms a candidate, {took * given.candidates:.0f} ms a choice")
    print(f"largest relative difference: {first:.1e} at the first slot, {last:.1e} after {given.slots}")


if __name__ == "__main__":
    main()
