"""A third party's package, installed as pip lays it out, adds a search that holds the contract."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisewright import registry
from noisewright.testing import CONTRACT, Case

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGIN))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("check", CONTRACT.values(), ids=CONTRACT)
def test_contract(check, installed, tmp_path):
    arguments = registry.check_arguments("example-tournament", {"pairs": 2})
    case = Case(registry.make_search("example-tournament"), arguments, nfe=lambda steps: steps * 2 * (2 + 2))
    check(case, tmp_path)


def test_its_arguments_are_checked_as_ours(installed):
    with pytest.raises(ValueError, match="did you mean pairs"):
        registry.check_arguments("example-tournament", {"pair": 2})
    assert registry.make_verifier("example-redness").name == "example-redness"


@pytest.mark.slow
def test_on_the_command_line(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}

    def noisewright(*words):
        return subprocess.run(
            [sys.executable, "-m", "noisewright", *words], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "example-tournament" in noisewright("list", "searches")
    found = json.loads(
        noisewright(
            "generate", "one red circle", "--search", "example-tournament", "--search-arg", "pairs=1", "--verifier",
            "example-redness", "--steps", "2", "--out", str(tmp_path / "run"), "--json",
        )
    )  # fmt: skip
    assert found["nfe"] == 2 * (2 + 2)
    assert set(found["best"]["scores"]) >= {"example-redness"}
