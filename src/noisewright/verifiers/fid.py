"""The greedy FID oracle (Ma et al. 2025): the candidate that brings the running statistics nearest to the reference."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.measures.frechet import RunningFrechet
from noisewright.measures.statistics import FeatureStatistics, check_features, check_same_network
from noisewright.verifiers.features import Features, feature_network
from noisewright.verifiers.weights import CONFIG, files_of

log = logging.getLogger("noisewright")

REFERENCE, START = "reference.safetensors", "start.safetensors"
"""The statistics that a network's directory may hold: of real images, and of unsearched samples."""


class FidVerifier:
    """Minus the Frechet distance to the reference that the set so far would have with the image added.

    The set is the statistics of ``start`` and of every image that was given to :meth:`accept`, so the score depends on
    what was accepted before: fix the order of the slots and the seeds. Within a slot, between two calls of ``accept``,
    it is a plain verifier: its scores depend neither on batch mates nor on order. The distances are exact (rank-one
    updates, see :mod:`noisewright.measures.frechet`).

    Ma et al. do not say what the set begins with. Below about as many images as features the first choices only follow
    the mean: begin with a few thousand unsearched samples. A population's measure that is chosen by is no longer a
    measure of quality: report others beside it. For the same reason its scores are not kept on disk.

    Args:
        model: a directory or a hub id for :class:`~.FeatureNetwork`, or any callable ``images ->
            Features`` with a ``fingerprint``.
        reference: statistics of real images, or their file; by default ``reference.safetensors`` in the model's
            directory.
        start: statistics of unsearched samples, or their file; by default ``start.safetensors`` in the model's
            directory where there is one, else nothing.
        name: what the scores are called.
        device: where the network runs.

    Raises:
        ValueError: where the model or a file cannot be loaded, or statistics are of another network.
    """

    def __init__(
        self,
        model: str | Path | Callable[[Tensor], Features],
        reference: Any = None,
        start: Any = None,
        *,
        name: str = "fid",
        device: str | torch.device = "cpu",
    ) -> None:
        here = None if callable(model) else files_of(model, [CONFIG], f"{name}:DIR")
        if reference is None:
            reference = _beside(here, REFERENCE)
            if reference is None:
                raise ValueError(
                    f"verifier {name}: expected statistics of real images, reference=FILE or a {REFERENCE} beside the "
                    "model's own files: noisewright evaluate IMAGES --features MODEL --save-statistics FILE makes them"
                )
        if start is None:
            start = _beside(here, START)
        self.name = name
        self._reference = _statistics(reference)
        first = None if start is None else _statistics(start)
        self.network = feature_network(model, device)
        self.device = torch.device(device)
        for one in (self._reference, first):
            if one is not None:
                check_same_network(FeatureStatistics(self.network.fingerprint), one)
        self._running = (first or FeatureStatistics(self.network.fingerprint)).running(self._reference)

    @property
    def fingerprint(self) -> str:
        """Changes with the network, the reference, and every accepted image."""
        parts = f"fid-1 {self._reference.digest()} {self.statistics.digest()}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def statistics(self) -> FeatureStatistics:
        """Of the set so far; to be saved, and given as ``start`` to go on later."""
        return _gathered(self._running, self.network.fingerprint)

    @property
    def distance(self) -> float:
        """Of the set so far to the reference."""
        return self._running.distance()

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        features = self.network(images.clone()).features.double()
        good = torch.isfinite(features).all(1)
        scores = torch.full((len(features),), math.nan, dtype=torch.float64)
        if good.any():
            scores[good] = -self._running.distances(features[good])
        return scores.tolist()

    def accept(self, image: Tensor) -> None:
        """The slot's winner, (3, height, width) in [0, 1], joins the set.

        Raises:
            ValueError: where its features are not finite.
        """
        self._running.add(check_features(self.network(image[None].clone()).features)[0])

    def choose(self, images: Tensor, prompt: str = "") -> int:
        """The number of the best of a slot's candidates, (n, 3, height, width) in [0, 1]; it joins the set.

        Raises:
            ValueError: where no candidate has finite features.
        """
        scores = [-math.inf if math.isnan(one) else one for one in self(images, prompt)]
        best = max(range(len(scores)), key=scores.__getitem__)
        self.accept(images[best])
        return best

    def keep_in(self, directory: str | Path | None) -> None:
        """Keeps no scores, wherever: they change with every accepted image."""
        if directory is not None:
            log.warning("scores of %s are not kept on disk: they change with every accepted image", self.name)


def _gathered(running: RunningFrechet, fingerprint: str) -> FeatureStatistics:
    """A copy of what a running distance has gathered."""
    found = FeatureStatistics(fingerprint)
    if running.count:
        found.count, found.mean, found.scatter = running.count, running.mean.clone(), running.scatter.clone()
    return found


def _beside(directory: Path | None, file: str) -> Path | None:
    return directory / file if directory is not None and (directory / file).is_file() else None


def _statistics(given: FeatureStatistics | str | Path) -> FeatureStatistics:
    return given if isinstance(given, FeatureStatistics) else FeatureStatistics.load(given)
