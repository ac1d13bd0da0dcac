"""What several rooms' tests stand on: a tiny model on disk, a quiet one in memory, and no model at all."""

import pytest
import torch

import tiny
from reward_models import write_vit

torch.set_num_threads(1)  # two workers of pytest-xdist on two cores would wait for each other's threads


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny Stable Diffusion on disk; to be read, or copied first."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.sd().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def model(saved):
    """The same; the tests of ``registry`` have one of their own that they may change."""
    return saved


@pytest.fixture(scope="module")
def pipe():
    """A tiny Stable Diffusion in memory, without progress bars."""
    made = tiny.sd()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A tiny ViT of random weights, with its image processor: 4 classes, 16 features."""
    return write_vit(tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The directory that a test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_model(here, monkeypatch):
    """Whatever loads the weights of a pipeline fails; relative paths are the test's own."""
    import diffusers

    def refuse(*given, **more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", refuse)


@pytest.fixture
def no_account(monkeypatch):
    """No key and no address of a server in the environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
