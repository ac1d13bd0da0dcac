"""What the tests of trust share: a model that may be changed, a hub, a port, and a mark that code leaves."""

import shutil

import pytest

from hostile import hub_in, listening


@pytest.fixture
def marker(tmp_path):
    """A file that is there once somebody's code has run."""
    return tmp_path / "it-ran"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return hub_in(tmp_path / "hub", monkeypatch)


@pytest.fixture
def model(saved, tmp_path):
    """A tiny model on disk that a test may change."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def port():
    with listening() as found:
        yield found
