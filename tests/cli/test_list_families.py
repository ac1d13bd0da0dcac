"""``noisewright list models --families``: which pipelines were tried, and what was found."""

import json

from commands import done, refused
from noisewright.registry.families import pipeline_families


def test_families_of_pipelines_are_listed_with_what_was_found(capsys):
    rows = json.loads(done(capsys, ["list", "models", "--families", "--json"]))
    assert rows == pipeline_families()
    assert {"stable-diffusion", "sdxl", "dit"} <= {row["name"] for row in rows}
    text = done(capsys, ["list", "models", "--families"])
    assert "StableDiffusionXLPipeline" in text
    assert "holds: parity, splits" in text


def test_families_are_of_models_alone(capsys):
    refused(capsys, ["list", "searches", "--families"], "expected --families with models, got it with searches")
