"""The script that times the page: what it makes is a run as any other; and the size of an update, which it prints."""

import sys
from pathlib import Path

import pytest

import noisewright as nw
from noisewright.evaluate.overview import overview
from noisewright.run.reading import read_run

pytest.importorskip("fastapi", reason='no fastapi here (pip install "noisewright[web]")')
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import page


@pytest.fixture(scope="module")
def small(saved, tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "run"
    nw.search(str(saved), page.PROMPT, verifier="brightness", judge="sharpness", budget="3 images",
              num_inference_steps=page.STEPS, out=root, progress=False)  # fmt: skip
    return root


def test_its_runs_are_read_as_any_other(small, tmp_path):
    page.write_runs(small, tmp_path, 3)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run-0000", "run-0001", "run-0002"]
    assert read_run(tmp_path / "run-0002")["spec"]["sampler"]["prompt"].endswith("number 2")
    root = page.write_run(small, tmp_path / "many", 20, verifiers=3, judges=3)
    found = overview(root)
    assert [len(found["candidates"]), len(found["verifiers"]), len(found["judges"])] == [20, 3, 3]
    assert len(list((root / "images").iterdir())) == 20


@pytest.mark.slow
def test_an_update_says_what_is_new_alone(small, tmp_path):
    """Its size hangs on the micro-batch and not on the run, but for the values of an ensemble, which all change."""
    sizes = {}
    for name, (verifiers, judges) in page.UPDATES.items():
        for count in (40, 400):
            root = page.write_run(small, tmp_path / f"{verifiers}-{judges}-{count}", count, verifiers, judges, False)
            found, sizes[name, count] = page.updates(root, count, verifiers, judges, 3, pause=0)
            assert len(found) == 3
    for name, (verifiers, _) in page.UPDATES.items():
        grew = sizes[name, 400] - sizes[name, 40]
        assert grew < (12 * 360 if verifiers > 1 else 200), name


def test_the_page_s_weight_is_within_its_aim(capsys):
    page.print_weight()
    said = capsys.readouterr().out
    assert float(said.split("kB): ")[1].split(" kB")[0]) < page.WEIGHT_KB
