"""A directory of runs and a server over it, for the tests of the page."""

import shutil

import pytest

pytest.importorskip("fastapi", reason='no fastapi here (pip install "noisewright[web]")')

from browser import browser  # noqa: F401 - a fixture
from serving import served, settings_of, talking_to

PROMPT = "a red circle and <b>two</b> blue stars"


@pytest.fixture(scope="session")
def made(saved, tmp_path_factory):
    """A finished zero-order run on a tiny model; to be copied."""
    import noisewright as nw

    root = tmp_path_factory.mktemp("made") / "first"
    nw.search(str(saved), PROMPT, verifier="brightness", judge="sharpness", search="zero-order", budget="9 images",
              search_args={"neighbours": 2}, num_inference_steps=2, batch_size=2, out=root, progress=False)  # fmt: skip
    return root


@pytest.fixture
def runs(made, tmp_path):
    """A directory with one run, ``first``."""
    folder = tmp_path / "runs"
    shutil.copytree(made, folder / "first")
    return folder


@pytest.fixture
def settings(runs, tmp_path):
    return settings_of(runs, tmp_path)


@pytest.fixture
def client(settings):
    """Who asks a server from this machine."""
    with talking_to(settings) as client:
        yield client


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    """A directory with one run, ``first``, for all tests of a file, which take away what they put there."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    shutil.copytree(made, runs / "first")
    return runs


@pytest.fixture(scope="module")
def address(folder):
    """Of a server over it in a process of its own, for a browser."""
    with served(folder, "--verifier", "brightness", "--verifier", "sharpness") as (found, _):
        yield found
