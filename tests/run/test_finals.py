"""What a budget in seconds keeps back for the best drafts in full, and what is made of it."""

import time

import pytest

from noisewright.run.drafts import prove
from noisewright.samplers.drafts import drafted
from noisewright.samplers.mixture import MixtureSampler
from noisewright.schemas.drafts import read_draft
from noisewright.search.random import random
from runs import STEPS, go, open_run

DRAFT = "truncate,at=0.2"


class Slow(MixtureSampler):
    """Takes a tenth of a second a step and image, and its first call longer, by a clock that only work moves on."""

    now, start = 0.0, 0.0

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        with self.meter.phase("denoise"):
            Slow.now += 0.1 * (stop - start) * len(x) + Slow.start
            Slow.start = 0.0
        return super().denoise(x, start, stop, state, noise, seeds)


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(Slow, "now", 0.0)
    monkeypatch.setattr(Slow, "start", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: Slow.now)


def done(root, seconds, start=0.0, **more):
    Slow.start = start
    final, draft = Slow(steps=STEPS), read_draft(DRAFT).with_steps(STEPS)
    run = open_run(
        root, drafted(final, draft), final=final, draft=draft.text, budget=f"{seconds} s", pictures=False,
        **{"finalists": draft.best, **more},
    )  # fmt: skip
    assert go(run, proved) == "budget"
    return run


def proved(run):
    """What a caller does: the plain image in full, then drafts."""
    prove(run, 0)
    random(run)


def drafts_of(run):
    return [one for one in run.candidates.values() if one.particle.draft is not None]


def full_of(run):
    return [one.id for one in run.candidates.values() if one.particle.draft is None]


def test_time_is_kept_back_for_the_best_three(tmp_path):
    run = done(tmp_path / "run", 10)
    assert len(full_of(run)) in (3, 4)  # the baseline may be one of the best
    assert len(drafts_of(run)) >= 10
    assert Slow.now <= 10
    assert not any("in full" in one for one in run.warnings)
    assert run.best.particle.draft is None


@pytest.mark.parametrize("seconds", [2.4, 2.8, 3.2])
def test_in_a_small_budget_drafts_are_made_and_as_many_in_full_as_there_is_time_for(tmp_path, seconds):
    run = done(tmp_path / "run", seconds, start=0.4)
    best = [one.particle.full.id for one in run.top(drafts_of(run), 3)]
    made = [one in run.candidates for one in best]
    assert len(made) == 3  # three full ones at the pace of the first would leave no time for as many drafts
    assert made[0]
    assert any(one.endswith(" of the best 3 drafts in full") for one in run.warnings) == (not all(made))
    assert Slow.now <= seconds
    assert run.best.particle.draft is None


def test_of_a_list_of_winners_each_is_made_in_full(tmp_path):
    run = done(tmp_path / "run", 5.0, start=0.4, winners=3, finalists=5)
    best = run.top(drafts_of(run), 3)
    assert len(best) == 3
    assert all(one.particle.full.id in run.candidates for one in best)


def test_a_run_that_is_opened_again_at_its_end_makes_no_more_in_full_than_there_is_time_for(tmp_path):
    run = done(tmp_path / "run", 2.4, start=0.4)
    full = full_of(run)
    assert any(one.endswith(" of the best 3 drafts in full") for one in run.warnings)
    Slow.now = 0.0
    assert full_of(done(tmp_path / "run", 2.4)) == full  # there is half a second, and each would take more


def test_a_full_image_that_was_lost_is_made_again_whatever_the_time(tmp_path):
    run = done(tmp_path / "run", 10)
    lost = run.candidates[full_of(run)[-1]]
    (tmp_path / "run" / lost.file).unlink()
    Slow.now = 0.0
    assert lost.id in done(tmp_path / "run", 9).candidates  # 0.3 s are left, and it takes 0.6
    assert (tmp_path / "run" / lost.file).is_file()
