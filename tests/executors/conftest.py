"""A Ray cluster on this machine, for the tests that need one."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def head():
    """The head of a cluster of real processes, which this process has joined."""
    from noisewright.executors import ray_cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # before the library is loaded
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "include_dashboard": False})
        try:
            ray_cluster.joined(made.address)
            yield made
        finally:
            ray_cluster.left()
            made.shutdown()


@pytest.fixture
def marks(tmp_path):
    """A directory in which processes tell each other what they did."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"
