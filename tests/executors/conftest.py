"""A Ray cluster on this machine, for the tests that need one."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _ray_for_tests():
    """What Ray reads from the environment, before it is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # by default workers give way to whatever else a machine does
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="session")
def head():
    """The head of a cluster of real processes, which this process has joined."""
    from ray.cluster_utils import Cluster

    from noisewright.executors import ray_cluster

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
