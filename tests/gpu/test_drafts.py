"""Drafts on a GPU: the winner is the full image of its noise, whatever the draft left out."""

import pytest

import noisewright as nw
from noisewright.images.metadata import read_image
from noisewright.replay import replay
from noisewright.run.reading import read_run

SETTINGS = {"verifier": "brightness", "judge": "none", "num_inference_steps": 4, "guidance_scale": 3.0}
KINDS = [
    "steps,n=2", "truncate,at=0.5", "guidance,until=0.5", "cache,every=2", "size,by=2", "dtype,to=bfloat16",
    "dtype,to=bfloat16+cache,every=2+truncate,at=0.5",
]  # fmt: skip
ACROSS = 2  # of 255: sums of another micro-batch are rounded in another order


def pixels(file):
    return read_image(file)[0].astype(int)


@pytest.mark.parametrize("draft", KINDS)
def test_the_winner_is_a_full_image(draft, saved, device, tmp_path):
    given = {"device": device, "dtype": "float32", **SETTINGS}
    found = nw.search(str(saved), "a cat", draft=f"{draft},pilot=0", budget="100 nfe", out=tmp_path / "drafts", **given)
    full = nw.search(str(saved), "a cat", budget=40, out=tmp_path / "full", **given)
    (same,) = (one for one in full.candidates if one.id == found.best.id)
    assert abs(pixels(found.best.file) - pixels(tmp_path / "full" / same.file)).max() <= ACROSS
    assert replay(found.best.file).identical


def test_a_draft_is_proved_on_a_gpu(saved, device, tmp_path):
    found = nw.search(
        str(saved), "a cat", device=device, dtype="float32", draft="truncate,at=0.5", budget="400 nfe", out=tmp_path,
        **SETTINGS,
    )  # fmt: skip
    assert any("over 8 candidates made both ways" in one for one in found.warnings)


def test_auto_is_bfloat16_on_a_gpu(saved, cuda, tmp_path):
    found = nw.search(str(saved), "a cat", device="cuda", dtype="auto", budget=2, out=tmp_path, **SETTINGS)
    assert read_run(tmp_path)["spec"]["sampler"]["dtype"] == "bfloat16"
    assert replay(found.best.file).identical
