"""Intervals that the benchmark of schedules rests on, and how it keeps what it has measured."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from noisewright.diffusion.schedule import Schedule
from noisewright.evaluate.distribution import fid_change_interval, fid_interval
from noisewright.measures.bootstrap import interval
from noisewright.measures.statistics import FeatureStatistics

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import _schedules_model as model
import _schedules_text as tables
from _schedules_store import BLOCK, Part, Rows, hashed, parts_of
from _schedules_work import Arm, Job

WIDTH = 3
HALF, THIRD = 0.5, 0.3  # shifts: FIDs 0.75 and 0.27 of N(shift, 1) to N(0, 1) in three dimensions


def drawn(count, seed, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) + shift


@pytest.fixture(scope="module")
def reference():
    known = FeatureStatistics()
    known.count, known.mean = 10**9, torch.zeros(WIDTH, dtype=torch.float64)
    known.scatter = torch.eye(WIDTH, dtype=torch.float64) * (known.count - 1)
    return known


@pytest.mark.slow
def test_the_interval_of_a_change_of_fid_holds_the_change(reference):
    truth, hits = WIDTH * (THIRD**2 - HALF**2), 0
    for seed in range(30):
        noise = drawn(300, seed)
        low, high = fid_change_interval(noise + THIRD, noise + HALF, reference, resamples=60, seed=seed)
        assert high < 0
        hits += low < truth < high
    assert hits >= 25


def test_a_change_of_fid_is_paired(reference):
    noise = drawn(400, 1)
    low, high = fid_change_interval(noise + THIRD, noise + HALF, reference)
    apart = [fid_interval(noise + shift, reference) for shift in (THIRD, HALF)]
    assert high - low < 0.6 * sum(b - a for a, b in apart)
    turned = fid_change_interval(noise + HALF, noise + THIRD, reference)
    assert turned == pytest.approx((-high, -low), abs=1e-9)
    assert fid_change_interval(noise, noise, reference) == pytest.approx((0, 0), abs=1e-12)
    with pytest.raises(ValueError, match="same images"):
        fid_change_interval(noise, noise[:-1], reference)


def test_an_interval_over_groups_is_that_of_their_means():
    means = np.random.default_rng(0).normal(size=25)
    values, labels = np.repeat(means, 8), np.repeat(np.arange(25), 8)
    low, high = interval(values, groups=labels)
    assert (low, high) == pytest.approx(interval(means), abs=1e-12)
    alone = interval(values)
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx(8**0.5, rel=0.1)
    with pytest.raises(ValueError, match="labels"):
        interval(values, groups=labels[1:])


def test_groups_weigh_by_their_size_and_lose_their_missing_values():
    values, labels = [1.0, 1.0, 1.0, float("nan"), 5.0], ["a", "a", "a", "b", "b"]
    assert interval(values, groups=labels, resamples=4000) == (1.0, 5.0)
    assert interval([2.0] * 5, groups=labels) == (2.0, 2.0)


def test_larger_counts_only_add_parts_and_sets_share_no_seed():
    few, many = parts_of("test", 50, 10), parts_of("test", 90, 10)
    assert many[: len(few)] == few
    assert len({part.prompt for part in few}) == 10
    seeds = [seed for part in parts_of("test", 200, 10) for seed in part.seeds]
    assert len(seeds) == len(set(seeds)) == 200
    ranges = [{s for p in parts_of(name, 2000) for s in p.seeds} for name in BLOCK]
    assert sum(map(len, ranges)) == len(set.union(*ranges))


def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = Rows(file)
    rows.add({"key": "a", "values": [1]})
    with file.open("a") as opened:
        opened.write('{"key": "b", "val')
    again = Rows(file)
    assert "a" in again
    assert "b" not in again
    again.add({"key": "c"})
    last = Rows(file)
    assert [row["key"] for row in last] == ["a", "c"]
    assert json.loads(file.read_text().splitlines()[-1]) == {"key": "c"}


def test_every_setting_of_a_row_is_in_its_key(tmp_path, monkeypatch):
    monkeypatch.setattr(model, "fingerprint", lambda: "f")
    monkeypatch.setattr(model, "teacher_levels", lambda steps: levels(steps))
    base = dict(kind="distance", schedule=levels(3), solver="ddim", guidance=4.0, part=Part("test", 0), teacher=200)
    others = [
        {"schedule": levels(4)}, {"solver": "deis-2"}, {"guidance": 1.0}, {"part": Part("test", 1)},
        {"part": Part("test", 0, 1)}, {"part": Part("dev", 0)}, {"teacher": 100},
    ]  # fmt: skip
    keys = [Job(tmp_path, **{**base, **other}).key for other in ({}, {}, *others)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 1 + len(others)
    arms = [Arm("x", levels(3), "ddim", 3), Arm("x", levels(4), "ddim", 4), Arm("x", None, None, 25)]
    names = {arm.key("p", 0, limit, 4.0) for arm in arms for limit in (20.0, 30.0)}
    assert len(names) == 6
    assert hashed("vrg", 0.1) != hashed("vrg", 0.2)


def levels(steps):
    sigma = tuple(1 - k / steps for k in range(steps + 1))
    return Schedule(sigma[:-1], tuple(1 - one for one in sigma), sigma)


def test_correlations_say_how_many_fits_they_rest_on():
    line = np.stack([np.arange(20.0), 2 * np.arange(20.0)], 1)
    assert tables.correlation(line) == "correlation +1.00 [+1.00, +1.00] over 20 fits"
    assert "too few fits" in tables.correlation(line[:4])
    mixed = np.random.default_rng(3).normal(size=(40, 2))
    text = tables.correlation(mixed)
    low, high = json.loads(text[text.index("[") : text.index("]") + 1].replace("+", ""))
    assert low < np.corrcoef(mixed.T)[0, 1] < high
    assert high - low > 0.2
