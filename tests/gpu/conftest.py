"""Tests for a CUDA device; without one they are skipped, or tried on the CPU as far as they go.

``NOISEWRIGHT_GPU_TESTS=cpu`` tries them: what they say of a GPU is then not shown.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

ON_CPU = os.environ.get("NOISEWRIGHT_GPU_TESTS") == "cpu"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device():
    """Where the model computes."""
    if torch.cuda.is_available():
        return "cuda"
    if not ON_CPU:
        pytest.skip("needs a CUDA device")
    return "cpu"


@pytest.fixture
def cuda(device):
    """A CUDA device, where nothing else does."""
    if device != "cuda":
        pytest.skip("needs a CUDA device")
    torch.cuda.empty_cache()
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
