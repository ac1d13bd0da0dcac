"""The specs that come with the package: each parses, is a grid of the right size, and names what there is."""

import json
import os
from pathlib import Path

import pytest

from noisewright import registry
from noisewright.benchmark.cells import cells_of, count_cells, points_of
from noisewright.benchmark.plain_spec import spec_from_json, spec_to_json
from noisewright.benchmark.prompt_sets import numbered, read_prompt_set
from noisewright.benchmark.sharing import checked_cells
from noisewright.benchmark.spec_files import builtin_specs, read_spec
from noisewright.registry import trust
from noisewright.request import check_names
from noisewright.trajectory.files import read_schedule_file

DATA = Path(os.environ.get("NOISEWRIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "prompts"
SHAPES, CIFAR10 = "noisewright/shapes", "noisewright/cifar10"

SIZES = {
    # name: model, prompts x seeds x points; and with the bundled model
    "quick": (SHAPES, 5 * 6, SHAPES, 5 * 6),
    "searches": (SHAPES, 100 * 12, SHAPES, 100 * 12),
    "verifiers": (SHAPES, 200 * 6 * 2, SHAPES, 200 * 6 * 2),
    "steps-vs-search": (SHAPES, 100 * 5 * 5, SHAPES, 100 * 5 * 5),
    "ma2025-table2": ("black-forest-labs/FLUX.1-dev", 200 * 4 * 3, SHAPES, 40 * 4 * 3),
    "ma2025-figures": ("black-forest-labs/FLUX.1-dev", 200 * 9 * 6, SHAPES, 40 * 9 * 5),
    "deng-table1": ("stabilityai/stable-diffusion-xl-base-1.0", 4 * 4 * 5, SHAPES, 4 * 4 * 5),
    "vrg-tables": ("facebook/DiT-XL-2-256", 10 * 10 * 3 * 4 * 6, CIFAR10, 10 * 10 * 24 * 3),
}


@pytest.fixture
def drawbench(tmp_path, monkeypatch):
    """A directory with a file in DrawBench's shape, of as many prompts."""
    rows = "".join(f'{n},"Prompt {n}, of a car",Colors\r\n' for n in range(1, 201))
    (tmp_path / "drawbench.csv").write_text(f"No.,Prompts,Category\r\n{rows}")
    monkeypatch.chdir(tmp_path)


def test_all_are_listed_with_their_titles():
    found = builtin_specs()
    assert set(found) == set(SIZES)
    assert all(found.values())


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("bundled", [False, True])
def test_each_is_a_grid_of_known_names(name, bundled, drawbench):
    model, cells, stand_in, fewer = SIZES[name]
    spec = read_spec(name, model=stand_in if bundled else None)
    assert spec.name == name
    assert spec.base["model"] == (stand_in if bundled else model)
    assert count_cells(spec) == (fewer if bundled else cells)
    assert len(checked_cells(cells_of(read_spec(name, model=spec.base["model"], limit=2)))) * len(spec.prompts) \
        == 2 * count_cells(spec)  # fmt: skip
    for _, request in points_of(spec):
        check_names(request)
        registry.check_arguments(request.search, request.search_args)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


@pytest.mark.parametrize("name", SIZES)
def test_the_bundled_models_need_nothing_from_outside(name):
    spec = read_spec(name, model=SIZES[name][2])
    for _, request in points_of(spec):
        assert registry.is_installed(request.model)
        for one in (*request.verifier, *(request.judge or ())):
            trust.check_verifier(one, local=False)


def test_without_drawbench_a_line_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^line \d+ of ma2025-table2: expected a file of prompts, got drawbench.csv, "
                       r"which does not exist: get it from https://[^\n]*$"):  # fmt: skip
        read_spec("ma2025-table2")
    spec = read_spec("ma2025-table2", prompts=(numbered(["a car"]), "mine"))
    assert (count_cells(spec), spec.prompt_set) == (12, "mine")


def test_the_four_rows_of_the_slides_cost_the_same():
    for model in (None, SHAPES):
        spec = read_spec("deng-table1", model=model)
        (rows,) = spec.axes
        assert [one.label for one in rows.values][:4] == [
            "Random noise", "Ensemble + zero-order", "Ensemble + paths", "Ensemble + both",
        ]  # fmt: skip
        assert [one.changes["budget"] for one in rows.values] == ["1 images", *["960 nfe"] * 4]
        assert spec.base["num_inference_steps"] == 30
        assert (len(spec.base["verifier"]), len(spec.base["judge"])) == (3, 1)


def test_the_slides_judge_may_be_a_server():
    spec = read_spec("deng-table1", model=SHAPES, overrides={"judge": ["vlm:http://127.0.0.1:8000/v1#mine"]})
    assert spec.base["judge"] == ["vlm:http://127.0.0.1:8000/v1#mine"]


@pytest.mark.skipif(not (DATA / "drawbench.csv").exists(), reason="needs prompts/drawbench.csv under NOISEWRIGHT_DATA")
def test_the_slides_prompts_are_drawbenchs():
    known = {one.text for one in read_prompt_set(DATA / "drawbench.csv")[0]}
    assert {one.text for one in read_spec("deng-table1").prompts} <= known


def test_the_levels_of_vrg_are_of_the_bundled_model():
    spec = read_spec("vrg-tables", model=CIFAR10)
    levels, _ = spec.axes
    files = [one.changes["schedule"] for one in levels.values if one.label.endswith("VRG")]
    assert len(files) == 12
    for one in levels.values:
        if one.label.endswith("VRG"):
            held = read_schedule_file(one.changes["schedule"])
            assert one.label == f"{held.made['from']}, {held.schedule.steps} steps, VRG"
            assert held.schedule.steps == one.changes["num_inference_steps"]
            assert held.identity["model"] == CIFAR10


def test_quick_is_the_same_however_it_is_asked_for():
    assert read_spec("quick") == read_spec("quick", model=SHAPES)
