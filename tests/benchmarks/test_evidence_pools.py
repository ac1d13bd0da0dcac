"""Pools of the evidence: their images are those of the engine; scores are asked anew of other weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import noisewright as nw
from _evidence import places, pools, scoring
from _evidence.grids import CHECKPOINTS, GRIDS, short
from _evidence.kept import Lacking, read_pool
from _evidence.plans import BLOCK, PLANS
from _evidence.stages import STAGES
from noisewright.benchmark.drive import run_benchmark
from noisewright.benchmark.spec import Axis
from noisewright.images.reading import read_image

ROOT = Path(__file__).parents[2]
PLAN = replace(PLANS["shapes-5"], prompts=2, count=4)
ROUNDING = 0.02
"""Mean difference of pixels in [0, 1] of bfloat16 images that were made in other batches."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    found = tmp_path_factory.mktemp("runs")
    for block in PLAN.blocks():
        pools.make(block, found)
        scoring.score(block, found)
    return found


def test_blocks_have_the_seeds_of_runs_and_more_candidates_only_add():
    few, many = (replace(PLANS["shapes-10"], prompts=3, count=count).blocks() for count in (BLOCK, 3 * BLOCK))
    assert many[:3] == [replace(one, plan=many[0].plan) for one in few]
    seeds = [seed for block in many for seed in block.seeds]
    assert len(set(seeds)) == len(seeds) == 9 * BLOCK
    assert few[0].seeds == list(range(1000 * (few[0].prompt.number - 1), 1000 * (few[0].prompt.number - 1) + BLOCK))
    assert len({one.place(Path()) for one in PLANS.values()}) == len(PLANS) - 1  # cifar10-long has cifar10-10's


def test_prompts_are_of_all_kinds_and_few_are_the_first_of_many():
    few, many = places.prompts_of("test", 50), places.prompts_of("test", 200)
    assert many[:50] == few
    assert {one.category for one in few[:5]} == {"single", "count", "relation", "two", "three"}
    assert len({one.number for one in many}) == 200
    assert places.prompts_of("classes", 11)[10].text == "airplane"


def test_stages_make_what_plans_want():
    for one in STAGES:
        if one.kind == "pool":
            plan = PLANS[one.name]
            assert one.prompts <= plan.prompts
            assert one.count <= plan.count
            assert one.count % BLOCK == 0
        assert one.kind != "grid" or one.name in GRIDS
    for name, plan in PLANS.items():
        largest = [one for one in STAGES if (one.kind, one.name) == ("pool", name)][-1]
        assert (largest.prompts, largest.count) == (plan.prompts, plan.count)
    assert {claim for one in STAGES for claim in one.claims} == set(range(1, 12))


@pytest.mark.slow
def test_a_pool_has_the_images_of_a_run(root, tmp_path):
    block = PLAN.blocks()[0]
    found = nw.search(
        PLAN.model, block.prompt.text, verifier="shapes-oracle", judge=[], budget="4 images", out=tmp_path / "run",
        num_inference_steps=PLAN.steps, dtype=PLAN.dtype, seed=block.seeds[0], guidance_scale=PLAN.guidance,
    )  # fmt: skip
    ordered = sorted(found.candidates, key=lambda one: one.seed)
    run = np.stack([read_image(found.run / one.file)[0] for one in ordered]) / 255
    made = pools.images_of(block.file(root)).permute(0, 2, 3, 1).numpy()
    assert np.abs(run - made).mean() < ROUNDING
    scores = scoring.gathered(PLAN, root).of("shapes-oracle")[0]
    assert [one.scores["shapes-oracle"] for one in ordered] == pytest.approx(list(scores), abs=0.5)


@pytest.mark.slow
def test_the_script_for_a_gpu_makes_the_same_pool(root, tmp_path):
    command = [sys.executable, "benchmarks/gpu_evidence.py", "--tiny", "--pools", "shapes-5", "--workers", "1"]
    done = subprocess.run([*command, "--runs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 prompts of 4 candidates scored" in done.stdout
    for block in PLAN.blocks():
        one, other = (pools.images_of(block.file(place)) for place in (root, tmp_path / "tiny"))
        assert (one - other).abs().mean() < ROUNDING
    kept = read_pool(tmp_path / "tiny" / "results" / "pool-shapes-5.npz")
    assert kept.names == scoring.SHAPES_SCORERS
    assert kept.about["weights"]["shapes-clip"] == places.weights("shapes-clip")


@pytest.mark.slow
def test_scores_of_other_weights_are_asked_anew(root, monkeypatch):
    before = scoring.gathered(PLAN, root)
    asked_for = []
    scoring.fingerprint.cache_clear()
    monkeypatch.setattr(scoring, "weights", lambda name: "other" if name == "shapes-clip" else places.weights(name))
    known = scoring.verifier
    other = lambda images, prompt: asked_for.append(prompt) or [7.0] * 4  # noqa: E731
    monkeypatch.setattr(scoring, "verifier", lambda name: other if name == "shapes-clip" else known(name))
    try:
        with pytest.raises(Lacking):
            scoring.gathered(PLAN, root)
        for block in PLAN.blocks():
            scoring.score(block, root)
        after = scoring.gathered(PLAN, root)
    finally:
        scoring.fingerprint.cache_clear()
    assert asked_for == [block.prompt.text for block in PLAN.blocks()]
    assert (after.of("shapes-clip") == 7).all()
    assert np.array_equal(after.of("shapes-reward"), before.of("shapes-reward"))


@pytest.mark.slow
def test_classes_are_read_by_both_networks(tmp_path):
    plan = replace(PLANS["cifar10-10"], prompts=1, count=3, steps=4)
    (block,) = plan.blocks()
    pools.make(block, tmp_path)
    scoring.score(block, tmp_path)
    found = scoring.gathered(plan, tmp_path)
    assert found.scores.shape == (1, 3, 8)
    assert set(np.unique(found.of("judge right"))) <= {0.0, 1.0}
    assert (np.abs(found.of("classifier similarity")) <= 1).all()
    assert not torch.equal(*(pools.images_of(block.file(tmp_path), name) for name in ("images", "previews")))


@pytest.mark.slow
def test_rows_of_a_benchmark_in_short(tmp_path):
    grid = GRIDS["scaling"]
    spec = grid.make(2)
    values = [replace(one, changes={**one.changes, "budget": ["80 nfe"]}) for one in spec.axes[0].values[:2]]
    results = run_benchmark(replace(spec, axes=(Axis("search", tuple(values)),)), tmp_path / "grid")
    found = short(grid, results)
    last = found.at(search="zero-order, N = 2", nfe=str(CHECKPOINTS[1]))
    assert last.of("number").tolist() == [1, 41]
    best = {row["number"]: row["best"]["scores"] for row in results.done if row["coordinates"]["search"] != "random"}
    for name in ("shapes-clip", "shapes-oracle"):
        assert last.of(name).tolist() == pytest.approx([best[1][name], best[41][name]], abs=1e-3)
    first = found.at(search="zero-order, N = 2", nfe=str(CHECKPOINTS[0]))
    assert (first.of("shapes-clip") <= last.of("shapes-clip")).all()
    assert (first.of("seconds") < last.of("seconds")).all()
    assert found.about["weights"]["shapes"] == places.weights("shapes")
