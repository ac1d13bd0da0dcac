"""``noisewright/shapes-small``, a bundled model that has parts of another one, through every command that loads it."""

import json

import numpy as np
import pytest

from commands import done, refused
from noisewright.images.reading import read_image
from noisewright.run.digests import sealed

NAME = "noisewright/shapes-small"
CALL = ("--verifier", "brightness", "--judge", "none", "--steps", "3", "--device", "cpu", "--batch-size", "1")
GENERATE = ("generate", "two red circles", "--model", NAME, *CALL, "--out", "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_listed(capsys):
    listed = {one["name"] for one in json.loads(done(capsys, ["list", "models", "--json"]))}
    assert {NAME, "noisewright/shapes"} <= listed
    assert "noisewright/shapes-small" in refused(capsys, ["generate", "a", "--model", "noisewright/shapes-smal"])


@pytest.mark.slow
def test_a_run_goes_on_is_made_again_and_needs_no_noisewright(here, capsys):
    first = json.loads(done(capsys, [*GENERATE, "--budget", "2 images", "--json"]))
    more = json.loads(done(capsys, ["resume", "run", "--budget", "3 images", "--json"]))
    assert (first["images"], more["images"]) == (2, 3)
    request = json.loads((here / "run" / "run.json").read_text())["request"]
    assert request["model"] == NAME
    assert json.loads(done(capsys, ["replay", "run/best.png", "--out", "again.png", "--json"]))["identical"] is True
    code = done(capsys, ["show", "run", "--diffusers"])
    assert "shapes-small" in code
    assert "noisewright." not in code.replace("noisewright/models", "")
    exec(compile(code, "lines", "exec"), {})
    best, again, plain = (read_image(here / one)[0] for one in ("run/best.png", "again.png", "best.png"))
    assert np.array_equal(best, again)
    assert np.array_equal(best, plain)


@pytest.mark.slow
def test_a_run_of_one_model_is_not_gone_on_with_the_other(here, capsys):
    done(capsys, [*GENERATE, "--budget", "2 images"])
    run = here / "run" / "run.json"
    held = json.loads(run.read_text())
    held.pop("check")
    held["request"]["model"] = "noisewright/shapes"
    run.write_bytes(sealed(held))
    refused(capsys, ["resume", "run", "--budget", "3 images"], "fingerprint")


@pytest.mark.slow
def test_it_is_checked_by_its_name(here, capsys):
    found = json.loads(done(capsys, ["check", NAME, "--steps", "3", "--seconds", "0", "--json"]))
    assert found["model"] == NAME
    assert found["refused"] is None
