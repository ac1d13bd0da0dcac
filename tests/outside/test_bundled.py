"""Which directories are bundled models, and which of them have their other parts from another one."""

import shutil

import pytest

from noisewright.outside.bundled import LENDERS, MODELS, bundled, lender


@pytest.mark.parametrize(("name", "whole"), LENDERS.items())
def test_a_bundled_model_without_all_parts_has_the_others_of_a_whole_one(name, whole, monkeypatch):
    assert lender(MODELS / name) == bundled(f"noisewright/{whole}")
    assert lender(str(MODELS / whole / ".." / name)) == MODELS / whole
    monkeypatch.chdir(MODELS / name)
    assert lender(".") == MODELS / whole
    assert whole not in LENDERS, "what lends has all its parts"
    for part in (MODELS / name).iterdir():
        assert part.is_file() or (MODELS / whole / part.name).is_dir()


def test_nothing_else_has_parts_elsewhere(tmp_path, monkeypatch):
    shutil.copytree(MODELS / "shapes-small", tmp_path / "models" / "shapes-small")
    monkeypatch.chdir(tmp_path / "models")
    copies = "shapes-small", tmp_path / "models" / "shapes-small"
    names = "noisewright/shapes-small", "owner/shapes-small", "", "\0/shapes-small", "x" * 5000
    for place in (*copies, *names, MODELS, MODELS / "shapes", MODELS / "shapes-small" / "unet"):
        assert lender(place) is None
