"""The reference statistics of FID: mean and covariance of the classifier's features over the training pictures."""

from pathlib import Path

import numpy as np

from noisewright.measures.statistics import FeatureStatistics
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.fid import REFERENCE

AT_ONCE = 500


def write(folder: Path, pictures: np.ndarray) -> FeatureStatistics:
    """Writes them into the classifier's own directory, with its fingerprint: other weights need other statistics.

    Args:
        folder: of the classifier.
        pictures: (count, 32, 32, 3) uint8, all of the training set, each once and as it is.
    """
    network = FeatureNetwork(folder)
    found = FeatureStatistics(network.fingerprint)
    for start in range(0, len(pictures), AT_ONCE):
        found.add(network(list(pictures[start : start + AT_ONCE])).features)
    found.save(folder / REFERENCE)
    return found
