"""What a comparison takes from a directory that it goes on in: sizes of searches, and nothing else."""

import json

import pytest

import noisewright as nw
from benchmark.made import failed_row, made_results, made_spec
from noisewright.benchmark.compare import equal_cost
from noisewright.benchmark.store import Results, open_results
from noisewright.run.digests import sealed

HOSTILE = """
from pathlib import Path
Path({path!r}).touch()
def score(images, prompt):
    return [0.0] * len(images)
"""


def compared(model, out):
    settings = {"verifier": "brightness", "judge": "none", "num_inference_steps": 4, "no_check": True}
    return nw.compare(["a cat"], "paths", budget="3 images", model=str(model), out=out, **settings)


def rewritten(root, changes):
    """The directory as somebody else would have it, checksum included."""
    held = json.loads((root / "benchmark.json").read_text())
    held.pop("check")
    for one in held["spec"]["axes"][0]["values"]:
        one["changes"].update(changes)
    (root / "benchmark.json").write_bytes(sealed(held))


def test_sizes_stay_as_they_were_fitted(model, tmp_path):
    compared(model, tmp_path / "out")
    axes = open_results(tmp_path / "out").spec.axes
    assert axes[0].values[1].changes["search_args"]["children"] >= 1
    compared(model, tmp_path / "out")
    assert open_results(tmp_path / "out").spec.axes == axes


@pytest.mark.parametrize("key", ["verifier", "judge", "model", "score_cache"])
def test_a_directory_names_nothing_that_is_run(key, model, tmp_path):
    compared(model, tmp_path / "out")
    ran = tmp_path / "ran"
    (tmp_path / "theirs.py").write_text(HOSTILE.format(path=str(ran)))
    named = f"{tmp_path / 'theirs.py'}:score"
    rewritten(tmp_path / "out", {key: [named] if key in ("verifier", "judge") else str(ran)})
    with pytest.raises(ValueError, match="holds another benchmark"):
        compared(model, tmp_path / "out")
    assert not ran.exists()


def test_arguments_of_a_directory_are_held_to_the_search(model, tmp_path):
    compared(model, tmp_path / "out")
    rewritten(tmp_path / "out", {"search_args": {"childern": 2}})
    with pytest.raises(ValueError, match="unknown argument"):
        compared(model, tmp_path / "out")


@pytest.mark.parametrize("failing", [(), ("paths",), ("paths", "zero-order")])
def test_a_search_that_always_fails_hides_no_cost_of_another(failing, tmp_path):
    spec = made_spec({"search": ("random", "zero-order", "paths")}, prompts=8, reference={"search": "random"})
    rows = []
    for row in made_results(tmp_path, spec).rows:
        label, prompt = row["coordinates"]["search"], spec.prompts[row["number"] - 1]
        row = {**row, "nfe": row["nfe"] * 3} if label == "zero-order" else row
        rows.append(failed_row(row["coordinates"], prompt, 0, "no") if label in failing else row)
    said = equal_cost(Results(tmp_path, spec, tuple(rows)), "nfe")
    assert len(said) == (0 if "zero-order" in failing else 1)
    assert all("zero-order takes more NFE than random" in one for one in said)
