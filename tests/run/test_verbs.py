"""Runs on the exact mixture sampler: budgets, verbs, failures, and resuming after a kill at any point."""

import copy
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import warm
from noisewright.diffusion.noise import gaussian, renoise, rotate
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import BudgetExhausted, RunInterrupted, TargetReached, VerifierFailed
from noisewright.executors.steps import StepNoises
from noisewright.run.budget import parse_budget
from noisewright.run.particle import Particle, from_lineage, noise_particle
from noisewright.run.reserve import SAVING_SECONDS
from noisewright.run.states import States
from noisewright.run.store import Store
from noisewright.run.verbs import Run, Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.gradient import gradient
from noisewright.search.random import random
from noisewright.search.zero_order import zero_order
from noisewright.verifiers.pixels import Brightness, Sharpness
from runs import (
    SEARCHES,
    STEPS,
    Killed,
    Recorded,
    Scripted,
    content,
    go,
    kill_at,
    lines,
    open_run,
    sde,
    start,
    total,
    tree,
)  # fmt: skip

EQUAL = 1e-6  # scores in [0, 1] of 8-bit images; a batch sums in another order


# Budgets


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("unit", ["images", "nfe"])
def test_budgets_are_used_up_exactly(tmp_path, count, unit):
    budget = f"{count} images" if unit == "images" else f"{count * STEPS} nfe"
    run = open_run(tmp_path / "run", budget=budget)
    assert go(run) == "budget"
    assert run.spent.images == len(run.candidates) == count
    assert run.spent.nfe == total(tmp_path / "run", "nfe") == count * STEPS
    assert run.spent.forwards == total(tmp_path / "run", "forwards") == count * STEPS
    assert total(tmp_path / "run", "decodes") == count
    assert [one.seed for one in run.candidates.values()] == list(range(count))


def test_a_rest_of_the_nfe_that_makes_no_image_is_left(tmp_path):
    run = open_run(tmp_path / "run", budget=f"{3 * STEPS + STEPS - 1} nfe")
    go(run)
    assert run.spent.nfe == 3 * STEPS


def test_the_first_limit_that_runs_out_ends_it(tmp_path):
    run = open_run(tmp_path / "run", budget="9 images, 24 nfe, 100 s")
    go(run)
    assert run.spent.images == 4


@pytest.mark.parametrize("budget", ["2 images", "3 images", "9 images", "40 nfe", "41 nfe", "55 nfe, 9 images"])
def test_short_steps_keep_back_the_final_rendering_and_the_baseline(tmp_path, budget):
    final = MixtureSampler(steps=20)
    run = open_run(tmp_path / "run", final.with_steps(4), budget=budget, final=final)
    go(run)
    limits = parse_budget(budget)
    assert limits.images is None or run.spent.images <= limits.images
    assert limits.nfe is None or run.spent.nfe <= limits.nfe
    assert run.spent.nfe == total(tmp_path / "run", "nfe")
    drafts = [one for one in run.candidates.values() if one.particle.steps == 4]
    room = min((limits.images or 10**9) - 2, ((limits.nfe or 10**9) - 40) // 4)
    assert len(drafts) == room
    full = [one for one in run.candidates.values() if one.particle.steps == 20]
    assert run.baseline in full
    assert run.best in full
    if drafts:
        assert run.top(drafts)[0].seed in {one.seed for one in full}


class Slow(MixtureSampler):
    """Takes ``pause`` seconds a step and image, by a clock that only work moves on."""

    pause = 0.02
    now = 0.0

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        Slow.now += self.pause * (stop - start) * len(x)
        return super().denoise(x, start, stop, state, noise, seeds)


@pytest.fixture
def clock(monkeypatch):
    """What a busy machine cannot change."""
    monkeypatch.setattr(Slow, "now", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: Slow.now)


def test_a_budget_in_seconds_ends_in_time_with_a_valid_best(tmp_path, clock):
    limit = SAVING_SECONDS + 1.0
    run = open_run(tmp_path / "run", Slow(steps=2), budget=f"{limit} s")
    assert go(run) == "budget"
    took = Slow.now
    micro_batch = 3 * 2 * Slow.pause
    assert run.best is not None
    assert run.baseline is not None
    assert took <= limit + micro_batch
    assert took >= limit - SAVING_SECONDS - 3 * micro_batch  # and it was used
    assert run.elapsed >= took - 0.1


def test_no_time_is_kept_back_for_pictures_that_nobody_draws(tmp_path, clock):
    limit = SAVING_SECONDS + 1.0
    micro_batch = 3 * 2 * Slow.pause
    for pictures in (True, False):
        began = Slow.now
        go(open_run(tmp_path / f"run-{pictures}", Slow(steps=2), budget=f"{limit} s", pictures=pictures))
        kept_back = SAVING_SECONDS if pictures else 0.0
        assert limit - kept_back - 3 * micro_batch <= Slow.now - began <= limit - kept_back + micro_batch


def test_seconds_count_over_processes(tmp_path, clock):
    run = open_run(tmp_path / "run", Slow(steps=2), budget="4 images")
    go(run)
    spent = lines(tmp_path / "run")[-1]["elapsed"]
    again = open_run(tmp_path / "run", Slow(steps=2), budget=f"{spent + 0.01:.3f} s")
    assert again.elapsed >= spent > 0.1
    go(again)
    assert len(again.candidates) == 4


# Targets, ranks and curves


def test_target_stops_after_the_micro_batch_that_reached_it(tmp_path):
    run = open_run(
        tmp_path / "run", None, [Scripted(0, 1, 2, 3, 4, 5, 6, 7)], "8 images", target=Target({"scripted": 4})
    )
    assert go(run) == "target"
    assert run.spent.images == 1 + 1 + 2 + 3
    assert run.best.scores["scripted"] == 6


@pytest.mark.parametrize(
    ("search", "args", "sizes"),
    [(random, {}, [1, 1, 2, 4, 8, 8, 7]), (zero_order, {"neighbours": 6}, [1, 1, 2, 3, 6, 6, 6, 6])],
)
def test_with_a_target_micro_batches_double_from_one_image_on(tmp_path, search, args, sizes):
    """What reaches it has at most as many beside it as were made before, and the candidates are those without one."""
    whole = open_run(tmp_path / "whole", budget="31 images", batch_size=8)
    go(whole, search, **args)
    run = open_run(tmp_path / "run", budget="31 images", batch_size=8, target=Target({"brightness": 9.0}))
    go(run, search, **args)
    assert [len(line["ids"]) for line in lines(tmp_path / "run", "finish")] == sizes
    assert list(run.candidates) == list(whole.candidates)
    scores = [one.scores["brightness"] for one in whole.candidates.values()]
    assert [one.scores["brightness"] for one in run.candidates.values()] == pytest.approx(scores, abs=EQUAL)


def test_all_targets_must_be_reached_by_one_candidate():
    target = Target({"a": 1.0, "b": 2.0})
    assert target.reached({"a": 1.0, "b": 2.5})
    assert not target.reached({"a": 5.0, "b": 1.0})
    assert not target.reached({"a": math.nan, "b": 3.0})
    assert not target.reached({"a": 3.0})
    assert not Target().reached({"a": 9.0})


def test_the_best_is_the_highest_and_ties_go_to_the_earlier(tmp_path):
    run = open_run(tmp_path / "run", None, [Scripted(1, 3, 2, 3, 0)], "5 images")
    go(run)
    assert run.best.seed == 1
    assert [one.seed for one in run.top(list(run.candidates.values()), 5)] == [1, 3, 2, 0, 4]
    assert run.baseline.seed == 0


def test_nan_ranks_last_and_is_reported(tmp_path):
    run = open_run(tmp_path / "run", None, [Scripted(math.nan, -5, math.inf, -9, math.nan)], "5 images")
    go(run)
    assert [one.seed for one in run.top(list(run.candidates.values()), 5)] == [1, 3, 0, 2, 4]
    assert run.failures() == ["verifier scripted gave NaN for 3 of 5 images; they rank last"]
    assert "NaN" not in (tmp_path / "run" / "journal.jsonl").read_text()
    assert [point.value for point in run.curve()] == [-5, -5, -5, -5]
    again = open_run(tmp_path / "run", None, [Scripted()], "5 images")
    assert math.isnan(again.baseline.scores["scripted"])
    assert again.failures() == run.failures()
    again.store.close()


def test_only_nan_is_a_failed_verifier(tmp_path):
    run = open_run(tmp_path / "run", None, [Scripted(*[math.nan] * 30)], "30 images")
    with pytest.raises(VerifierFailed, match="NaN"):
        random(run)
    run.store.close()
    assert run.spent.images == 18  # the first micro-batch that brings it to 16
    few = open_run(tmp_path / "few", None, [Scripted(*[math.nan] * 4)], "4 images")
    with pytest.raises(VerifierFailed, match="NaN"):
        go(few)
    few.store.close()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_first_image_without_a_score_is_not_the_end(tmp_path, batch_size):
    verifier = Scripted(math.nan, 1, 2, 3)
    run = open_run(tmp_path / "run", None, [verifier], "4 images", batch_size=batch_size)
    go(run)
    assert run.best.seed == 3


def test_the_curve_never_falls_and_ends_at_the_best(tmp_path):
    for name, verifiers in (("one", [Brightness()]), ("two", [Brightness(), Sharpness()])):
        run = open_run(tmp_path / name, None, verifiers, "14 images")
        go(run)
        curve = run.curve()
        assert [point.images for point in curve] == list(range(1, 15))
        assert all(a.value <= b.value for a, b in itertools.pairwise(curve))
        assert curve[-1].candidate == run.best.id
        assert curve[0].candidate == run.baseline.id
        assert curve[-1].nfe == 14 * STEPS


def test_several_verifiers_rank_within_the_pool(tmp_path):
    class Other(Scripted):
        name = "other"

    run = open_run(tmp_path / "run", None, [Scripted(100, 1, 2), Other(0, 1, 2)], "3 images")
    go(run)
    # mean ranks: (1 + 0) / 2, (0 + .5) / 2, (.5 + 1) / 2
    assert run.value(list(run.candidates.values())) == [0.5, 0.25, 0.75]
    assert run.best.seed == 2


# What a candidate is does not depend on how it is computed


def test_micro_batches_change_nothing(tmp_path):
    found = {}
    for size in (1, 3, 16):
        sampler = MixtureSampler(steps=STEPS, solver=Ddim(0.5))
        run = open_run(tmp_path / str(size), sampler, [Brightness()], "16 images", batch_size=size)
        go(run)
        found[size] = run
    for size in (3, 16):
        assert list(found[size].candidates) == list(found[1].candidates)
        for one, other in zip(found[size].candidates.values(), found[1].candidates.values(), strict=True):
            assert one.scores["brightness"] == pytest.approx(other.scores["brightness"], abs=EQUAL)
        assert found[size].best.id == found[1].best.id
    assert [len(one["ids"]) for one in lines(tmp_path / "16", "finish")] == [16]


def test_candidate_k_is_the_sampler_run_by_hand(tmp_path):
    sampler = MixtureSampler(steps=STEPS)
    run = open_run(tmp_path / "run", sampler, budget="4 images", seed=40)
    go(run)
    x, _ = sampler.denoise(sampler.noise([40, 41, 42, 43]), 0, STEPS)
    expected = Brightness()(sampler.decode(x), "")
    assert [one.scores["brightness"] for one in run.candidates.values()] == pytest.approx(expected, abs=EQUAL)
    assert [one.seed for one in run.candidates.values()] == [40, 41, 42, 43]
    for one in run.candidates.values():
        assert run.store.image(one.file, one.pixels) is not None


# The verbs


TREE_NFE = 4 * 3 + 4 + 3 * 3 + 3 * 2 + 3 * STEPS + 4 * (3 - 1)  # the step after a preview asks nothing again
TREE_IMAGES = 3 + 3 + 4


def test_verbs_cost_what_they_say(tmp_path):
    run = open_run(tmp_path / "run", sde())
    seen = tree(run)
    assert run.spent.nfe == total(tmp_path / "run", "nfe") == TREE_NFE
    assert run.spent.images == TREE_IMAGES
    assert len(set(seen["second"])) == 3  # drawing twice gives new children
    assert len(set(seen["branches"])) == 3
    before = run.spent.nfe
    run.finish([run.candidates[key].particle for key in seen["first"]])
    run.denoise([noise for noise in (run.noise(0))], 3)
    assert run.spent.nfe == before
    run.store.close()


def test_verbs_are_the_formulas(tmp_path):
    sampler = MixtureSampler(steps=STEPS, solver=Ddim(0.6))
    run = open_run(tmp_path / "run", sampler)
    (start,) = run.noise(1)
    (half,) = run.denoise([start], 3)
    (back,) = run.renoise(half, 1)
    (varied,) = run.vary(start, 1, 0.8)
    x = sampler.noise([0])
    shape = x.shape[1:]

    def noise_of(particle):
        return lambda index: StepNoises(particle, shape).at(index)[None]

    at_half, _ = sampler.denoise(x, 0, 3, None, noise_of(start))
    at_back = renoise(at_half, sampler.schedule, 3, 1, gaussian((1, *shape), back.id))
    turned = rotate(x, gaussian((1, *shape), varied.id), 0.8)
    for particle, expected in ((half, at_half), (back, at_back), (varied, turned)):
        torch.testing.assert_close(run.state(particle), expected, rtol=0, atol=EQUAL)
    (done, other) = run.finish([back, varied])
    for one, state, particle, first in ((done, at_back, back, 1), (other, turned, varied, 0)):
        y, _ = sampler.denoise(state, first, STEPS, None, noise_of(particle))
        expected = Brightness()(sampler.decode(y), "")[0]
        assert one.scores["brightness"] == pytest.approx(expected, abs=1 / 255 / 3)  # a pixel may round the other way
    (preview,) = run.preview([half])
    expected = Brightness()(sampler.decode(sampler.predict(at_half, 3)), "")[0]
    assert preview.scores["brightness"] == pytest.approx(expected, abs=1 / 255 / 3)
    run.store.close()


def test_a_second_process_looks_everything_up(tmp_path):
    run = open_run(tmp_path / "run", sde())
    seen = tree(run)
    run.store.close()
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    again = open_run(tmp_path / "run", sde())
    assert tree(again) == seen
    assert again.sampler.meter.nfe == 0
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before
    assert again.spent.nfe == TREE_NFE
    again.store.close()


def test_states_come_from_the_disk_and_lost_ones_from_their_lineage(tmp_path):
    run = open_run(tmp_path / "run", sde())
    half = run.denoise(run.noise(4), 3)
    expected = [run.state(p) for p in half]
    run.store.close()
    (tmp_path / "run" / "states" / f"{half[3].id}.safetensors").write_bytes(b"damaged")  # the second micro-batch
    again = open_run(tmp_path / "run", sde())
    half = again.denoise(again.noise(4), 3)
    assert again.sampler.meter.nfe == 0
    again.finish(half[:1])
    assert again.sampler.meter.nfe == 3
    for particle, state in zip(half, expected, strict=True):
        torch.testing.assert_close(again.state(particle), state, rtol=0, atol=EQUAL)
    assert again.sampler.meter.nfe == 3 + 3
    again.finish(half)
    assert again.spent.nfe == total(tmp_path / "run", "nfe") == again.sampler.meter.nfe + 4 * 3
    again.store.close()


def test_inputs_are_never_changed(tmp_path):
    run = open_run(tmp_path / "run", sde())
    starts = run.noise(3)
    before = copy.deepcopy(starts)
    run.denoise(starts, 2)
    run.preview(starts)
    run.vary(starts[0], 2, 0.5)
    run.finish(starts)
    run.finish([starts[0], starts[0], starts[2]])
    assert starts == before
    assert run.spent.images == 3
    run.store.close()


def test_wrong_indices_are_refused(tmp_path):
    run = open_run(tmp_path / "run")
    (start,) = run.noise(1)
    (half,) = run.denoise([start], 3)
    for call in (
        lambda: run.denoise([half], 2), lambda: run.denoise([half], STEPS), lambda: run.denoise([start], 0),
        lambda: run.renoise(half, 4), lambda: run.renoise(half, -1), lambda: run.vary(half, 1, 0.5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            call()
    run.store.close()


@pytest.mark.parametrize("limit", range(0, TREE_NFE + 2 * STEPS, 7))
def test_no_verb_ever_goes_over_the_budget(tmp_path, limit):
    limit = max(limit, STEPS)
    run = open_run(tmp_path / "run", sde(), budget=f"{limit} nfe")
    go(run, tree)
    assert run.spent.nfe <= limit
    assert run.baseline is not None
    assert run.best is not None


@pytest.mark.slow
def test_a_multistep_history_survives_the_disk_and_other_batch_mates(tmp_path):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    import tiny
    from noisewright.samplers.pipeline import PipelineSampler

    scheduler = DPMSolverMultistepScheduler.from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config)
    sampler = PipelineSampler(tiny.sd(scheduler), "a cat", num_inference_steps=5, guidance_scale=3.0)
    straight = open_run(tmp_path / "a", sampler)
    (one, two) = straight.finish(straight.noise(2))
    straight.store.close()
    split = open_run(tmp_path / "b", sampler)
    split.denoise(split.noise(2), 2)
    split.store.close()
    again = open_run(tmp_path / "b", sampler, batch_size=1)
    half = again.denoise(again.noise(2), 2)
    found = again.finish(half)
    assert again.spent.nfe == 2 * 5
    for a, b in zip(found, (one, two), strict=True):
        assert a.scores["brightness"] == pytest.approx(b.scores["brightness"], abs=1 / 255 / 100)
    again.store.close()


# Judges


def test_judges_are_asked_once_about_best_and_baseline(tmp_path):
    class Judge(Scripted):
        name = "judge"
        asked = 0

        def __call__(self, images, prompt):
            self.asked += len(images)
            return [0.25 * (n + 1) for n in range(len(images))]

    judge = Judge()
    run = open_run(tmp_path / "run", None, [Scripted(1, 2, 3)], "3 images", judges=[judge])
    random_stopped(run)
    first = run.judge()
    assert first == {run.baseline.id: {"judge": 0.25}, run.best.id: {"judge": 0.5}}
    assert run.judge() == first
    run.store.close()
    again = open_run(tmp_path / "run", None, [Scripted()], "3 images", judges=[judge])
    assert again.judge() == first
    assert judge.asked == 2
    again.store.close()


def random_stopped(run):
    with pytest.raises(BudgetExhausted):
        random(run)
    run.render()


# Failures


def test_out_of_memory_halves_and_is_remembered_after_a_resume(tmp_path):
    sampler = Recorded(steps=STEPS)
    sampler.most = 3
    run = open_run(tmp_path / "run", sampler, budget="9 images", batch_size=16)
    go(run)
    assert run.spent.images == 9
    assert [one["batch_size"] for one in lines(tmp_path / "run", "shrink")] == [4, 2]
    assert [size for _, _, size in sampler.calls] == [2, 2, 2, 2, 1]
    assert run.spent.nfe == 9 * STEPS
    assert any("out of memory" in one for one in run.warnings)
    sampler.calls.clear()
    again = open_run(tmp_path / "run", sampler, budget="15 images", batch_size=16)
    assert again.batch_size == 2
    go(again)
    assert [size for _, _, size in sampler.calls] == [2, 2, 2]
    assert [one["batch_size"] for one in lines(tmp_path / "run", "shrink")] == [4, 2]


def test_memory_that_holds_no_single_image_is_an_error(tmp_path):
    sampler = Recorded(steps=STEPS)
    sampler.most = 0
    run = open_run(tmp_path / "run", sampler, budget="9 images")
    with pytest.raises(torch.OutOfMemoryError):
        random(run)
    run.store.close()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda images, prompt: [1.0], "expected 3 scores, got 1"),
        (lambda images, prompt: [1.0] * 5, "expected 3 scores, got 5"),
        (lambda images, prompt: None, "expected 3 numbers"),
        (lambda images, prompt: ["good"] * 3, "expected 3 numbers"),
        (lambda images, prompt: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_broken_verifier_loses_no_image(tmp_path, function, says):
    class Broken(Brightness):
        def __call__(self, images, prompt):
            return function(images, prompt)

    run = open_run(tmp_path / "run", None, [Broken()], "6 images")
    with pytest.raises(VerifierFailed, match=says) as caught:
        random(run)
    run.store.close()
    assert "\n" not in str(caught.value)
    assert len(list((tmp_path / "run" / "images").iterdir())) == 3
    sampler = Recorded(steps=STEPS)
    again = open_run(tmp_path / "run", sampler, [Brightness()], "6 images")
    assert go(again) == "budget"
    assert [size for _, _, size in sampler.calls] == [3]  # the first three were only scored
    assert again.spent.images == 6
    assert again.spent.nfe == 6 * STEPS
    whole = open_run(tmp_path / "whole", None, [Brightness()], "6 images")
    go(whole)
    assert {k: c.scores for k, c in again.candidates.items()} == {k: c.scores for k, c in whole.candidates.items()}
    assert again.best.id == whole.best.id


def test_a_verifier_that_fails_on_the_first_image_alone_does_not_stop_the_run(tmp_path):
    class Late(Brightness):
        failures = 2

        def __call__(self, images, prompt):
            if self.failures:
                self.failures -= 1
                raise OSError("no answer")
            return super().__call__(images, prompt)

    run = open_run(tmp_path / "run", None, [Late()], "5 images", batch_size=1)
    assert go(run) == "budget"
    scores = [one.scores["brightness"] for one in run.candidates.values()]
    assert [math.isnan(one) for one in scores] == [True, True, False, False, False]
    assert any("no answer" in one for one in run.warnings)
    again = open_run(tmp_path / "run", None, [Late()], "5 images", batch_size=1)
    written = [{key: str(one.scores) for key, one in made.candidates.items()} for made in (run, again)]
    assert written[0] == written[1]
    assert again.best.id == run.best.id
    again.store.close()


@pytest.mark.parametrize(("budget", "made"), [("3 images", 3), ("30 images", 16)])
def test_a_verifier_that_fails_on_every_single_image_stops_the_run_and_loses_none(tmp_path, budget, made):
    class Broken(Brightness):
        def __call__(self, images, prompt):
            raise OSError("no answer")

    run = open_run(tmp_path / "run", None, [Broken()], budget, batch_size=1)
    with pytest.raises(VerifierFailed, match="no answer"):
        go(run)
    run.store.close()
    assert run.spent.images == made
    again = open_run(tmp_path / "run", Recorded(steps=STEPS), [Brightness()], budget, batch_size=1)
    assert not again.candidates, "what nobody scored stands in the journal as scored"
    go(again)
    assert not any(math.isnan(one.scores["brightness"]) for one in again.candidates.values())
    whole = open_run(tmp_path / "whole", None, [Brightness()], budget, batch_size=1)
    go(whole)
    assert {k: c.scores for k, c in again.candidates.items()} == {k: c.scores for k, c in whole.candidates.items()}


@pytest.mark.parametrize("size", [1, 3])
def test_a_verifier_that_fails_on_some_images_does_not_stop_the_run(tmp_path, size):
    class Moody(Brightness):
        asked = 0

        def __call__(self, images, prompt):
            if len(images) > 1:
                raise RuntimeError("one by one")
            self.asked += 1
            if self.asked in (2, 4, 5, 6):
                raise RuntimeError("no")
            return super().__call__(images, prompt)

    run = open_run(tmp_path / "run", None, [Moody(), Sharpness()], "7 images", batch_size=size)
    assert go(run) == "budget"
    scores = [one.scores for one in run.candidates.values()]
    assert [math.isnan(one["brightness"]) for one in scores] == [False, True, False, True, True, True, False]
    assert not any(math.isnan(one["sharpness"]) for one in scores)
    assert run.failures() == ["verifier brightness gave NaN for 4 of 7 images; they rank last"]
    again = open_run(tmp_path / "run", None, [Moody(), Sharpness()], "7 images", batch_size=size)
    assert again.best.id == run.best.id
    assert [math.isnan(one.scores["brightness"]) for one in again.candidates.values()].count(True) == 4
    again.store.close()


def test_weights_sort_the_run_and_every_score_is_kept(tmp_path):
    weights = "brightness=-2.0,sharpness=0.5"
    run = open_run(tmp_path / "run", None, [Brightness(), Sharpness()], "6 images", ensemble=weights)
    go(run)
    pool = list(run.candidates.values())
    sums = [-2 * one.scores["brightness"] + 0.5 * one.scores["sharpness"] for one in pool]
    assert run.value(pool) == pytest.approx(sums)
    assert run.best.id == pool[sums.index(max(sums))].id
    assert all(set(one.scores) == {"brightness", "sharpness"} for one in pool)
    assert run.curve()[-1].value == pytest.approx(max(sums))


def test_a_lost_image_is_made_again(tmp_path):
    run = open_run(tmp_path / "run", budget="5 images")
    go(run)
    lost = list(run.candidates.values())[2]
    (tmp_path / "run" / lost.file).unlink()
    again = open_run(tmp_path / "run", budget="9 images")
    go(again)
    assert again.store.image(lost.file, lost.pixels) is not None
    assert again.candidates[lost.id].scores == lost.scores


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n half of it"])
def test_a_damaged_image_is_made_again_and_counted_once(tmp_path, damage):
    run = open_run(tmp_path / "run", budget="5 images")
    go(run)
    (tmp_path / "run" / run.best.file).write_bytes(damage)
    for _ in range(2):
        again = open_run(tmp_path / "run", budget="5 images")
        go(again)
        assert again.best.id == run.best.id
        assert again.store.image(run.best.file, run.best.pixels) is not None
        assert again.spent.images == 5
    assert total(tmp_path / "run", "nfe") == 6 * STEPS  # what was spent is not hidden


def test_a_judge_that_fails_is_reported_and_loses_nothing(tmp_path):
    class Broken(Brightness):
        name = "broken"

        def __call__(self, images, prompt):
            raise RuntimeError("no")

    run = open_run(tmp_path / "run", budget="3 images", judges=[Broken(), Sharpness()])
    random_stopped(run)
    judged = run.judge()
    assert set(judged[run.best.id]) == {"sharpness"}
    assert any("judge broken raised RuntimeError: no" in one for one in run.warnings)
    run.store.close()


def test_the_time_of_the_judges_is_kept_back_of_a_budget_in_seconds(tmp_path, clock):
    class Asked(Sharpness):
        def __call__(self, images, prompt):
            Slow.now += 0.4 * len(images)
            return super().__call__(images, prompt)

    run = open_run(tmp_path / "run", Slow(steps=2), budget="3 s", judges=[Asked()])
    random_stopped(run)
    left = 3 - run.elapsed
    assert left >= SAVING_SECONDS + 0.4
    run.store.close()


def test_images_with_nan_are_saved_and_warned_of(tmp_path):
    class Broken(MixtureSampler):
        def decode(self, x):
            images = super().decode(x)
            images[0] = math.nan
            return images

    run = open_run(tmp_path / "run", Broken(steps=STEPS), budget="3 images")
    go(run)
    assert any("NaN" in one for one in run.failures())
    assert run.spent.images == 3


def test_wrong_use_of_a_run(tmp_path):
    for verifiers, says in (([Brightness(), Brightness()], "distinct"),):
        with pytest.raises(ValueError, match=says):
            open_run(tmp_path / "run", None, verifiers)
    store = Store.open(tmp_path / "run")
    with pytest.raises(ValueError, match="at least one verifier"):
        Run(store, MixtureSampler(steps=STEPS), [])
    store.close()


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", SEARCHES)
def test_killed_at_every_write_and_resumed_equals_never_killed(tmp_path, name, after):
    search, whole = start(tmp_path / "whole", name)
    counted = kill_at(whole.store, 0, after=False)
    stopped = go(whole, search)
    expected, writes = content(tmp_path / "whole"), counted()
    assert writes > 10
    for number in range(1, writes + 1, 2):  # after one is before the next: all are met
        root = tmp_path / str(number)
        _, run = start(root, name)
        kill_at(run.store, number, after=after)
        with pytest.raises(Killed):
            go(run, search)
        run.store.close()
        kept = content(root)
        assert kept == expected[: len(kept)]
        _, again = start(root, name)
        assert go(again, search) == stopped
        assert content(root) == expected, f"killed at write {number} of {writes}"
        assert again.best.id == whole.best.id
        assert again.best.scores == whole.best.scores
        assert (again.spent.nfe, again.spent.images) == (whole.spent.nfe, whole.spent.images)
        finished = [key for one in lines(root, "finish") for key in one["ids"]]
        assert len(finished) == len(set(finished))


def test_a_journal_cut_at_any_line_or_inside_one_resumes(tmp_path):
    search, whole = start(tmp_path / "whole", "tree")
    go(whole, search)
    expected = content(tmp_path / "whole")
    raw = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    ends = [n + 1 for n, byte in enumerate(raw) if byte == 10]
    for end in ends:
        for cut in (end, end - 1, end - 7):
            root = tmp_path / str(cut)
            _, run = start(root, "tree")
            run.store.close()
            (root / "journal.jsonl").write_bytes(raw[:cut])
            for folder in ("images", "states"):
                for file in (tmp_path / "whole" / folder).iterdir():
                    (root / folder / file.name).write_bytes(file.read_bytes())
            _, again = start(root, "tree")
            go(again, search)
            assert content(root) == expected


def test_a_target_reached_before_the_kill_is_not_searched_past(tmp_path):
    scores = [0.1, 0.9, 0.2]
    run = open_run(tmp_path / "run", None, [Scripted(*scores)], "30 images", target=Target({"scripted": 0.9}))
    with pytest.raises(TargetReached):
        random(run)
    run.store.close()  # killed before it could say so
    again = open_run(tmp_path / "run", None, [Scripted()], "30 images", target=Target({"scripted": 0.9}))
    assert go(again) == "target"
    assert again.spent.images == 2
    higher = open_run(tmp_path / "run", None, [Scripted(*[1.0] * 2)], "30 images", target=Target({"scripted": 0.95}))
    assert go(higher) == "target"
    assert higher.spent.images == 4


def test_a_full_disk_interrupts_and_the_run_goes_on_from_there(tmp_path, monkeypatch):
    whole = open_run(tmp_path / "whole", budget="8 images")
    go(whole)
    run = open_run(tmp_path / "run", budget="8 images")
    original, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunInterrupted, match="noisewright resume"):
            random(run)
    run.store.close()
    assert content(tmp_path / "run") == content(tmp_path / "whole")[:3]
    again = open_run(tmp_path / "run", budget="8 images")
    go(again)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import runs

search, run = runs.start({root!r}, "tree")
count, append = 0, run.store.append

def counted(record):
    global count
    count += 1
    if count < {number}:
        return append(record)
    if {how!r} == "after":
        append(record)
    if {how!r} == "torn":
        with open({root!r} + "/journal.jsonl", "ab") as file:
            file.write(b'{{"verb": "fin')
    os.kill(os.getpid(), signal.SIGKILL)

run.store.append = counted
runs.go(run, search)
"""


@pytest.mark.slow
def test_sigkill_and_resume_equals_never_killed(tmp_path):
    search, whole = start(tmp_path / "whole", "tree")
    go(whole, search)
    expected = content(tmp_path / "whole")
    processes = {}
    for number, how in ((2, "before"), (5, "torn"), (8, "after")):
        program = PROGRAM.format(tests=str(Path(__file__).parents[1]), root=str(tmp_path / how), number=number, how=how)
        processes[number, how] = warm.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    for (number, how), process in processes.items():
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said.decode()
        root = tmp_path / how
        assert len(content(root)) == number - (how != "after")
        _, again = start(root, "tree")
        go(again, search)
        assert content(root) == expected
        assert again.best.id == whole.best.id
        assert again.best.scores == whole.best.scores
        assert again.spent.nfe == whole.spent.nfe


class Looks:
    """A verifier that wants to see what candidates looked like on the way."""

    name = fingerprint = "looks"
    preview_sigma = 0.4

    def __call__(self, images, prompt, previews):
        return [-float((one - other).abs().mean()) for one, other in zip(images, previews, strict=True)]


def test_previews_for_a_verifier_cost_nothing_where_the_step_can_use_them(tmp_path):
    run = open_run(tmp_path / "run", verifiers=[Looks()])
    go(run, n=4)
    assert run.spent.nfe == total(tmp_path / "run", "nfe") == run.sampler.meter.nfe == 4 * STEPS
    index = run.schedule.nearest(0.4)
    sampler = MixtureSampler(steps=STEPS)
    for one in run.candidates.values():
        state, _ = sampler.denoise(sampler.noise([one.seed]), 0, index)
        preview = sampler.decode(sampler.predict(state, index))
        image = run.store.image(one.file, one.pixels)
        assert one.scores["looks"] == pytest.approx(-float((image - preview[0]).abs().mean()), abs=1e-6)
    assert not list((tmp_path / "run" / "states").glob("*preview*")), "previews are kept after they were scored"


def test_previews_of_states_that_are_past_them_and_of_those_that_begin_after(tmp_path):
    run = open_run(tmp_path / "run", verifiers=[Looks(), Brightness()])
    index = run.schedule.nearest(0.4)
    late = run.denoise(run.noise(2), index + 1)
    found = run.finish(late)
    fresh = open_run(tmp_path / "fresh", verifiers=[Looks(), Brightness()])
    assert [one.scores for one in found] == [one.scores for one in fresh.finish(fresh.noise(2))]
    assert run.spent.nfe == run.sampler.meter.nfe == total(tmp_path / "run", "nfe") == 2 * (STEPS + index + 1)
    later = run.finish(run.renoise(found[0].particle, index + 1, 1))
    assert math.isnan(later[0].scores["looks"])
    assert not math.isnan(later[0].scores["brightness"])
    assert any("NaN" in line for line in run.warnings)


def test_previews_survive_a_kill_between_image_and_score(tmp_path):
    run = open_run(tmp_path / "run", verifiers=[Looks()])
    kill_at(run.store, 5, after=False)  # previews, two images, their line, and no score
    with pytest.raises(Killed):
        run.finish(run.noise(2))
    run.store.close()
    again = open_run(tmp_path / "run", verifiers=[Looks()])
    found = again.finish(again.noise(2))
    whole = open_run(tmp_path / "whole", verifiers=[Looks()])
    for one, other in zip(found, whole.finish(whole.noise(2)), strict=True):
        assert one.scores["looks"] == pytest.approx(other.scores["looks"], abs=1e-6)
    assert again.sampler.meter.nfe == 0


# Work that fails, and images that are none


class Forgetful(MixtureSampler):
    """Runs out of memory for more than ``most``, in the step ``at`` of a way, or where it decodes."""

    most, at = 1, 0

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        if len(x) > self.most and self.at is not None:
            super().denoise(x, start, start + self.at, state, noise, seeds)
            raise torch.OutOfMemoryError("no memory left")
        return super().denoise(x, start, stop, state, noise, seeds)

    def decode(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no memory left")
        return super().decode(x)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_failed_work_is_paid_from_the_budget(tmp_path, at, most):
    sampler = Forgetful(steps=4)
    sampler.most, sampler.at = most, at
    run = open_run(tmp_path / "run", sampler, budget="60 nfe", batch_size=8)
    go(run)
    assert sampler.meter.nfe == run.spent.nfe == total(tmp_path / "run", "nfe") <= 60
    failed = sum(one.get("nfe", 0) for one in lines(tmp_path / "run", "shrink"))
    assert failed > 0
    assert run.spent.nfe == failed + 4 * run.spent.images
    assert 60 - run.spent.nfe < 4  # and all the rest is used
    again = open_run(tmp_path / "run", Forgetful(steps=4), budget="60 nfe", batch_size=8)
    assert again.spent.nfe == run.spent.nfe
    assert again.batch_size <= most
    again.store.close()


def test_memory_that_runs_out_in_decoding_loses_no_step(tmp_path):
    sampler = Forgetful(steps=4)
    sampler.at = None
    run = open_run(tmp_path / "run", sampler, budget="32 nfe", batch_size=8)
    go(run)
    assert run.spent.nfe == 32
    assert run.spent.images == 8
    whole = open_run(tmp_path / "whole", MixtureSampler(steps=4), budget="32 nfe", batch_size=8)
    go(whole)
    assert [one.pixels for one in run.candidates.values()] == [one.pixels for one in whole.candidates.values()]


def test_a_budget_that_failed_work_used_up_still_leaves_a_baseline(tmp_path):
    sampler = Forgetful(steps=4)
    sampler.most, sampler.at = 1, 3
    run = open_run(tmp_path / "run", sampler, budget="12 nfe", batch_size=8)
    go(run)
    assert run.baseline is not None
    assert run.spent.nfe == sampler.meter.nfe == total(tmp_path / "run", "nfe")
    assert any("ran out of memory counts" in one for one in run.warnings)


class Unsafe(MixtureSampler):
    """A pipeline whose safety checker blacks out every second image of a batch, and whose third has NaN."""

    def decode(self, x):
        images = super().decode(x)
        self.flagged = [row % 2 == 1 for row in range(len(x))]
        for row, flag in enumerate(self.flagged):
            if flag:
                images[row] = 0.0
        if len(x) > 2:
            images[2, 0, 0, 0] = math.nan
        return images


class LikesBlack:
    name, fingerprint = "darkness", "darkness"

    def __init__(self):
        self.asked = 0

    def __call__(self, images, prompt):
        self.asked += len(images)
        return [1 - float(one.mean()) for one in images]


def test_images_that_are_none_are_not_scored_and_rank_last(tmp_path):
    judge = LikesBlack()
    judge.name = "judge"
    first, second = LikesBlack(), LikesBlack()
    second.name = "other"
    run = open_run(tmp_path / "run", Unsafe(steps=4), [first, second], budget="12 images", batch_size=4, judges=[judge])
    search_stopped = None
    try:
        random(run)
    except BudgetExhausted:
        search_stopped = "budget"
    run.render()
    assert search_stopped == "budget"
    assert first.asked == second.asked == 3
    broken = [one for one in run.candidates.values() if math.isnan(one.scores["darkness"])]
    assert len(broken) == 9
    assert all(math.isnan(one.scores["other"]) for one in broken)
    assert run.best not in broken
    ranked = run.top(list(run.candidates.values()), 12)
    assert {one.id for one in ranked[3:]} == {one.id for one in broken}
    said = run.failures()
    assert any("6 of 12 images were blacked out" in one for one in said)
    assert any("3 of 12 images have NaN" in one for one in said)
    assert len(said) == 2
    flags = [flag for line in lines(tmp_path / "run", "finish") for flag in line["nsfw_content_detected"]]
    assert flags == [row % 2 == 1 for row in range(12)]
    run.judge()
    assert judge.asked <= 2
    run.store.close()
    again = open_run(tmp_path / "run", Unsafe(steps=4), [LikesBlack(), second], budget="12 images", batch_size=4)
    assert again.failures() == said
    assert again.best.id == run.best.id
    again.store.close()


def test_previews_that_are_none_rank_last_unasked(tmp_path):
    verifier = LikesBlack()
    run = open_run(tmp_path / "run", Unsafe(steps=4), [verifier], batch_size=4)
    found = run.preview(run.denoise(run.noise(4), 2))
    assert [math.isnan(one.scores["darkness"]) for one in found] == [False, True, True, True]
    assert verifier.asked == 1
    assert run.top(found)[0] is found[0]
    run.store.close()


def test_where_every_image_is_none_it_is_said(tmp_path):
    class Black(MixtureSampler):
        def decode(self, x):
            self.flagged = [True] * len(x)
            return super().decode(x) * 0

    run = open_run(tmp_path / "run", Black(steps=2), budget="40 images", batch_size=4)
    with pytest.raises(VerifierFailed, match="blacked out by the pipeline's safety checker"):
        go(run)
    run.store.close()


# Long ancestries


def deep(verb, count, **args):
    particle = noise_particle(0, STEPS)
    for number in range(count):
        particle = Particle(verb, (particle,), {**args, "draw": number}, 0, STEPS)
    return particle


@pytest.mark.slow
def test_a_state_at_the_end_of_a_long_ancestry_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.run.states.CACHED_STATES_BYTES", 4096)
    run = open_run(tmp_path / "run")
    far = deep("vary", 3000, cosine=0.99)
    state = run.state(far)
    expected, now = run.sampler.noise([0]), noise_particle(0, STEPS)
    for number in range(3000):
        now = Particle("vary", (now,), {"cosine": 0.99, "draw": number}, 0, STEPS)
        expected = rotate(expected, gaussian(expected.shape, now.id), 0.99)
    torch.testing.assert_close(state, expected, rtol=0, atol=0)
    run.store.close()


def test_the_bound_of_states_in_memory_counts_the_solver(tmp_path, monkeypatch):
    """A state with its history takes four kilobytes here: of twenty, the last two are held."""
    run = open_run(tmp_path / "run")
    monkeypatch.setattr("noisewright.run.states.CACHED_STATES_BYTES", 10_000)
    states = States(run.store)
    moved = run.vary(run.noise(1)[0], 20, 0.9)
    for one in moved:
        states.remember({one.id: (torch.zeros(1, 4), {"history": [torch.zeros(1, 1000)]})})
    assert [one.id in states.known([one])[1] for one in moved] == [False] * 18 + [True] * 2
    run.store.close()


def climb(run, rounds, **more):
    """A chain of neighbours, each of the last."""
    found = run.finish(run.noise(1))[0]
    for _ in range(rounds):
        found = run.finish(run.vary(found.particle.start, 1, 0.95))[0]


@pytest.mark.slow
def test_a_journal_names_ancestors_and_does_not_repeat_them(tmp_path):
    sizes = []
    for rounds in (50, 200):
        run = open_run(tmp_path / str(rounds), MixtureSampler(steps=1))
        go(run, climb, rounds=rounds)
        sizes.append((tmp_path / str(rounds) / "journal.jsonl").stat().st_size / rounds)
        assert len(from_lineage(run.best.particle.lineage()).lineage()) <= rounds + 2
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.slow
def test_a_long_gradient_ascent_ends_and_goes_on(tmp_path):
    class Climbable(Brightness):
        def gradient_scores(self, images, prompt):
            return images.flatten(1).mean(1)

    run = open_run(tmp_path / "run", MixtureSampler(steps=1), [Climbable()])
    go(run, gradient, iterations=1100, every=550)
    assert len(run.candidates) == 3
    again = open_run(tmp_path / "run", MixtureSampler(steps=1), [Climbable()])
    assert go(again, gradient, iterations=1100, every=550) == "finished"
    assert again.sampler.meter.nfe == 0
    assert again.best.id == run.best.id


def test_an_ascended_state_that_is_damaged_is_made_again(tmp_path):
    class Climbable(Brightness):
        def gradient_scores(self, images, prompt):
            return images.flatten(1).mean(1)

    run = open_run(tmp_path / "run", MixtureSampler(steps=1), [Climbable()])
    go(run, gradient, iterations=6, every=2)
    (tmp_path / "run" / run.best.file).unlink()
    file = sorted((tmp_path / "run" / "states").iterdir())[0]
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    again = open_run(tmp_path / "run", MixtureSampler(steps=1), [Climbable()])
    go(again, gradient, iterations=6, every=2)
    assert {key: one.pixels for key, one in again.candidates.items()} == {
        key: one.pixels for key, one in run.candidates.items()
    }
