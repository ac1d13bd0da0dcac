"""The evidence: the rule of its verdicts, how rows are kept, and that the page says what they say."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _evidence import figures, places
from _evidence.figures import DOES_NOT, HOLDS, LARGE, NO, OPEN, WAITING, YES, check, picked, stated, verdict
from _evidence.grader import serving
from _evidence.kept import Held, Lacking, Pool, Table, read_pool, read_table, write_pool, write_table
from _evidence.page import page, sections
from evidence_rows import ABOUT, NAMES, point, pool, rng
from noisewright import registry
from noisewright.shapes.oracle import grade, to_batch
from noisewright.shapes.prompts import parse, sample_scene
from noisewright.shapes.scene import render

ROOT = Path(__file__).parents[2]


# The rule


@pytest.mark.parametrize(
    ("low", "high", "side", "answer"),
    [(1, 2, "above", YES), (-2, -1, "above", NO), (-1, 1, "above", OPEN), (-2, -1, "below", YES), (1, 2, "below", NO),
     (-1, 1, "below", OPEN), (np.nan, 1, "above", OPEN)],
)  # fmt: skip
def test_a_check_is_where_its_whole_interval_is(low, high, side, answer):
    assert stated("x", 0.0, low, high, 9, **{side: 0.0}).answer == answer


def test_a_threshold_moves_a_check():
    assert stated("x", 3.0, 2.0, 4.0, 9, below=5.0).answer == YES
    assert stated("x", 3.0, 2.0, 4.0, 9, below=1.0).answer == NO
    assert stated("x", 3.0, 2.0, 4.0, 9, above=3.5).answer == OPEN


def test_the_verdict_is_that_of_the_rule():
    one = {kind: replace(stated("x", 0, -1, 1, 9, above=0.0), answer=kind) for kind in (YES, NO, OPEN)}
    assert verdict([one[YES], one[YES]], []) == HOLDS
    assert verdict([one[YES], one[NO], one[OPEN]], []) == DOES_NOT
    assert verdict([one[YES], one[OPEN]], []) == LARGE
    assert verdict([], []) == WAITING
    assert verdict([one[YES], one[OPEN]], ["rows"]) == WAITING
    assert verdict([one[YES], one[NO]], ["rows"]) == DOES_NOT, "no other row can change that"


def test_a_check_is_of_paired_differences_in_its_unit():
    values = rng().normal(0.1, 0.05, 100)
    found = check("x", values, above=0, scale=100, unit="points")
    assert found.answer == YES
    assert found.mean == pytest.approx(100 * values.mean())
    assert found.low < found.mean < found.high
    assert check("x", -values, above=0).answer == NO
    with pytest.raises(Lacking):
        check("x", np.full(3, np.nan), above=0)


# Picks


def test_a_pick_is_the_mean_over_all_sets():
    one = Pool(("shapes-oracle", "v"), np.array([1]), np.array([[[0.2, 1.0], [1.0, 2.0], [0.4, 3.0]]]), ABOUT)
    expected = np.mean([1.0, 0.4, 0.4])  # of the sets {0, 1}, {0, 2}, {1, 2}
    assert picked(one, "v", 2, ["shapes-oracle"])[0, 0] == pytest.approx(expected)
    assert picked(one, "v", 3, ["success"])[0, 0] == 0
    assert picked(one, "shapes-oracle", 3, ["success"])[0, 0] == 1


def test_an_ensemble_picks_by_the_mean_rank():
    scores = np.array([[[1.0, 9.0, 1.0, 1.0], [0.5, 1.0, 2.0, 2.0], [0.5, 2.0, 3.0, 3.0]]])
    one = Pool(NAMES, np.array([1]), scores, ABOUT)
    assert picked(one, "ensemble", 3, ["shapes-clip"])[0, 0] == 2.0  # ranks 2 + 3 + 3 beat 3 + 1 + 1
    same = picked(pool(0.3), "ensemble", 16, ["success"])
    assert np.array_equal(same, picked(pool(0.3), "ensemble", 16, ["success"]))


# How rows are kept


def test_a_pool_comes_back(tmp_path):
    one = pool(0.4)
    one.scores[3, 5, 1] = np.nan
    write_pool(tmp_path / "pool-x.npz", one)
    found = read_pool(tmp_path / "pool-x.npz")
    assert (found.names, found.about) == (one.names, one.about)
    assert np.isnan(found.scores[3, 5, 1])
    np.testing.assert_allclose(found.scores, one.scores, atol=np.ptp(one.of("shapes-reward")) / 2**15)
    assert np.array_equal(found.of("success"), one.of("success"))
    first = (tmp_path / "pool-x.npz").read_bytes()
    write_pool(tmp_path / "pool-x.npz", one)
    assert (tmp_path / "pool-x.npz").read_bytes() == first


def test_a_pool_that_is_being_made_again_leaves_the_larger_one(tmp_path):
    one = pool(0.4)
    write_pool(tmp_path / "pool-x.npz", one)
    some = one.scores.copy()
    some[1:] = np.nan
    write_pool(tmp_path / "pool-x.npz", replace(one, scores=some))
    assert np.isfinite(read_pool(tmp_path / "pool-x.npz").scores).sum() == np.isfinite(one.scores).sum()
    write_pool(tmp_path / "pool-x.npz", replace(one, scores=some, about={**ABOUT, "weights": {"new": "0" * 12}}))
    assert np.isnan(read_pool(tmp_path / "pool-x.npz").scores[1:]).all(), "other weights make another pool"


def test_a_pool_of_some_prompts_is_asked_for_what_it_has():
    one = pool(0.4)
    some = one.only([3, 1], 8)
    assert np.array_equal(some.scores[1], one.scores[0, :8])
    with pytest.raises(Lacking):
        one.only([3, 999])
    with pytest.raises(Lacking):
        one.only([3], 999)


def test_a_table_comes_back(tmp_path):
    one = Table({"steps": 30}, (point({"row": "a"}, number=[1, 2], nfe=[10, np.nan]),))
    write_table(tmp_path / "t.jsonl", one)
    found = read_table(tmp_path / "t.jsonl")
    assert found.about == {"steps": 30}
    np.testing.assert_array_equal(found.at(row="a").of("nfe"), [10, np.nan])
    with pytest.raises(Lacking):
        found.at(row="b")
    with pytest.raises(Lacking):
        found.at(row="a").of("seconds")


def test_rows_of_other_weights_are_not_there(tmp_path):
    one = pool(0.4)
    now = places.weights("shapes-clip")
    write_pool(tmp_path / "pool-new.npz", replace(one, about={**ABOUT, "weights": {"shapes-clip": now}}))
    write_pool(tmp_path / "pool-old.npz", replace(one, about={**ABOUT, "weights": {"shapes-clip": "0" * 12}}))
    assert Held(tmp_path).pool("new").count == 64
    with pytest.raises(Lacking, match="present weights of shapes-clip"):
        Held(tmp_path).pool("old")
    assert Held(tmp_path, any_weights=True).pool("old").count == 64


# The page


def test_without_rows_every_claim_waits_and_says_for_what(tmp_path):
    found = sections(Held(tmp_path))
    assert [one.number for one in found] == list(range(1, 12))
    assert {one.verdict for one in found} == {WAITING}
    assert all(one.missing and one.commands and one.source for one in found)
    text = " ".join(page(Held(tmp_path)).split())
    assert text.count("Verdict: **not measured yet**") == 11
    assert figures.RULE in text


def test_the_page_is_what_the_committed_rows_give():
    assert places.PAGE.read_text(encoding="utf-8") == page(Held()), "python benchmarks/evidence.py write"


def test_the_rows_are_small():
    assert sum(file.stat().st_size for file in places.RESULTS.rglob("*") if file.is_file()) < 2_000_000


def test_the_command_writes_the_page(tmp_path):
    out = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/evidence.py", "write", "--results", str(tmp_path), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("# The evidence")
    wrong = subprocess.run([*command[:3], "--claims", "1,12"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "expected --claims in 1..11, got 1,12" in wrong.stderr


# The grader


def test_the_grader_answers_as_the_oracle_does():
    pytest.importorskip("openai")
    prompt = "a red circle left of a blue square"
    right = render(sample_scene(rng(3), parse(prompt)))
    images = torch.cat([to_batch(right), torch.zeros(1, 3, 64, 64)])
    with serving() as url:
        found = registry.make_verifier(f"vlm:{url}#shapes-oracle")(images, prompt)
        with pytest.raises(urllib.error.HTTPError) as wrong:
            urllib.request.urlopen(f"{url}/chat/completions", json.dumps({"messages": []}).encode())
    assert wrong.value.code == 400
    assert list(found) == pytest.approx([10 * one.score for one in grade(images, prompt)], abs=1e-3)
    assert found[0] == 10
