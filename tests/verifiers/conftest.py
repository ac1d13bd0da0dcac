"""Reward models on disk that the tests of several verifiers read."""

import pytest

from reward_models import write_clip, write_dino, write_imagereward, write_qwen


@pytest.fixture(scope="session")
def openai(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("openai"), 1, "quick_gelu")


@pytest.fixture(scope="session")
def dino(tmp_path_factory):
    return write_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """ImageReward's directory."""
    return write_imagereward(tmp_path_factory.mktemp("imagereward"))


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    """The directory, the network and the tokenizer of a small vision-language model."""
    directory = tmp_path_factory.mktemp("qwen")
    return directory, *write_qwen(directory, ("Y", "e"), ("Ye", "s"))
