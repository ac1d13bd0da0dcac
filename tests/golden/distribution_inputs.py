"""Features and logits that numpy's seeds give again anywhere; shared by the test and the script of its golden file."""

import numpy as np

CASES = {"many": (500, 420, 24), "wide": (300, 300, 128), "apart": (200, 200, 16)}
"""Images, reference images, features."""

SPLITS, NEIGHBOURS = 10, (3, 5)


def features(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) and (m, d) float64, non-negative as after a ReLU, correlated, with another mean and spread."""
    n, m, d = CASES[name]
    random = np.random.RandomState(d)
    mix = random.randn(d, d) / np.sqrt(d)
    shift = 0.8 if name == "apart" else 0.1
    first = np.maximum(random.randn(n, d) @ mix + shift, 0)
    second = np.maximum(1.2 * random.randn(m, d) @ mix, 0)
    return first, second


def logits() -> np.ndarray:
    """(603, 10), of which the splits differ in size."""
    return 3 * np.random.RandomState(7).randn(603, 10)
