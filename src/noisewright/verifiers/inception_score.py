"""The Inception Score oracle of Ma et al. 2025: the probability of the class that was asked for, under a classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from noisewright.verifiers.classifier import find_label
from noisewright.verifiers.features import Features, feature_network
from noisewright.verifiers.protocol import is_lasting


class InceptionScoreVerifier:
    """The classifier's probability, 0 to 1, of the class that the prompt names.

    The Inception Score itself is of a population; this is the per-image quantity that raises it (Ma et al. 2025). The
    classifier that chose must not be the one that measures. Of a directory these are the scores of
    ``classifier:MODEL,output=probability``, from the network that FID and IS are measured with.

    Args:
        model: a directory or a hub id of an ``AutoModelForImageClassification``, or any callable ``images -> Features``
            with ``labels`` and a ``fingerprint``.
        name: what the scores are called.
        device: where the classifier runs.

    Raises:
        ValueError: where the model cannot be loaded, or has no classes.
    """

    def __init__(
        self,
        model: str | Path | Callable[[Tensor], Features],
        *,
        name: str = "inception-score",
        device: str | torch.device = "cpu",
    ) -> None:
        self.network = feature_network(model, device)
        self.device = torch.device(device)
        self.labels: list[str] = [self.network.labels[number] for number in sorted(self.network.labels)]
        if not self.labels:
            raise ValueError(f"verifier {name}: expected a classifier, got {str(model)!r}, which has no classes")
        self.name = name
        self.fingerprint = hashlib.sha256(f"{self.network.fingerprint} {self.labels!r}".encode()).hexdigest()[:16]

    @property
    def lasting(self) -> bool:
        return is_lasting(self.network)

    def check(self, prompt: str) -> None:
        """Raise a ValueError, before anything is spent, where the prompt names no class."""
        find_label(prompt, self.labels)

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        """Scores of (n, 3, height, width) in [0, 1].

        Raises:
            ValueError: where the prompt names no class (see :func:`noisewright.verifiers.classifier.find_label`).
        """
        number = find_label(prompt, self.labels)
        return self.network(images).probabilities[:, number].tolist()
