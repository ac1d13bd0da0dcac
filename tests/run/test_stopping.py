"""Runs that are ended early: from another thread, or by Ctrl-C in the very first micro-batch."""

import threading

import pytest
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler

import noisewright as nw
import tiny
from noisewright.diffusion.solvers import Ddim, DpmPlusPlus
from noisewright.errors import Stopped
from noisewright.executors.protocol import Interrupted
from noisewright.progress import RunProgress
from noisewright.run.reading import read_run
from noisewright.run.store import ask_to_stop
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.search.halving import halving
from noisewright.search.random import random
from runs import STEPS, content, go, lines, open_run


class InterruptedAt(MixtureSampler):
    """Ctrl-C before the guided evaluation of this number, from 1, and of those that are named after it."""

    def __init__(self, *at, **more):
        super().__init__(**more)
        self.at, self.evaluations = at, 0

        def count(images):
            self.evaluations += 1
            if self.evaluations in self.at:
                raise KeyboardInterrupt

        self.meter.on_step = count


SOLVERS = {"plain": Ddim, "noisy": lambda: Ddim(0.6), "multistep": DpmPlusPlus}


def searched(run, search=random, **args):
    """What the caller of a search does at Ctrl-C; whether it came."""
    try:
        go(run, search, **args)
    except (KeyboardInterrupt, Stopped):
        run.finish_one()
        run.store.close()
        return True
    return False


# From outside


def test_a_run_is_stopped_from_another_thread_after_the_micro_batch_in_flight(tmp_path):
    def stop(run):
        thread = threading.Thread(target=run.stop)
        thread.start()
        thread.join()

    run = open_run(tmp_path / "run", budget="30 images", on_progress=stop)
    with pytest.raises(Stopped):
        random(run)
    run.store.close()
    assert len(run.candidates) == 3
    again = open_run(tmp_path / "run", budget="7 images")
    go(again)
    whole = open_run(tmp_path / "whole", budget="7 images")
    go(whole)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_run_is_stopped_by_who_asks_its_directory(tmp_path):
    run = open_run(tmp_path / "run", budget="30 images", on_progress=lambda run: ask_to_stop(tmp_path / "run"))
    with pytest.raises(Stopped):
        random(run)
    run.store.close()
    assert len(run.candidates) == 3


def test_a_run_that_was_stopped_before_its_first_image_makes_one(tmp_path):
    run = open_run(tmp_path / "run", budget="30 images")
    run.stop()
    assert searched(run)
    assert [one.seed for one in run.candidates.values()] == [0]
    assert run.spent.nfe == STEPS
    assert run.best.id == run.baseline.id


# Ctrl-C with nothing finished


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("at", [2, 4, STEPS])
def test_ctrl_c_in_the_first_micro_batch_leaves_a_picture_and_pays_nothing_twice(tmp_path, at, name):
    sampler = InterruptedAt(at, steps=STEPS, solver=SOLVERS[name]())
    run = open_run(tmp_path / "run", sampler, budget="6 images")
    assert searched(run)
    assert [one.seed for one in run.candidates.values()] == [0]
    (kept,) = lines(tmp_path / "run", "denoise")
    assert kept["to"] == at - 1
    assert len(kept["ids"]) == 3
    # the evaluation that Ctrl-C met is lost, and counted
    assert run.spent.nfe == sampler.meter.nfe == 3 * at + (STEPS - at + 1)
    fresh = MixtureSampler(steps=STEPS, solver=SOLVERS[name]())
    again = open_run(tmp_path / "run", fresh, budget="6 images")
    assert go(again) == "budget"
    assert fresh.meter.nfe == 2 * (STEPS - at + 1) + 3 * STEPS, "states that were reached are made again"
    whole = open_run(tmp_path / "whole", MixtureSampler(steps=STEPS, solver=SOLVERS[name]()), budget="6 images")
    go(whole)
    assert {one.id: one.pixels for one in again.candidates.values()} == {
        one.id: one.pixels for one in whole.candidates.values()
    }
    assert again.best.id == whole.best.id


def test_ctrl_c_before_the_first_step_is_done_leaves_a_picture(tmp_path):
    run = open_run(tmp_path / "run", InterruptedAt(1, steps=STEPS), budget="6 images")
    assert searched(run)
    assert [one.seed for one in run.candidates.values()] == [0]
    assert not lines(tmp_path / "run", "denoise")


def test_a_second_ctrl_c_ends_at_once_and_keeps_the_states(tmp_path):
    sampler = InterruptedAt(4, 6, steps=STEPS)
    run = open_run(tmp_path / "run", sampler, budget="6 images")
    with pytest.raises(KeyboardInterrupt):
        searched(run)
    run.store.close()
    assert not run.candidates
    assert [one["to"] for one in lines(tmp_path / "run", "denoise")] == [3, 4]
    again = open_run(tmp_path / "run", MixtureSampler(steps=STEPS), budget="6 images")
    assert go(again) == "budget"
    assert len(again.candidates) == 6


def test_ctrl_c_in_a_search_by_previews_leaves_a_picture(tmp_path):
    sampler = InterruptedAt(8, steps=STEPS)  # within the second micro-batch of the first cut
    run = open_run(tmp_path / "run", sampler, budget="300 nfe", batch_size=4)
    assert searched(run, halving)
    assert [one.seed for one in run.candidates.values()] == [0]
    again = open_run(tmp_path / "run", MixtureSampler(steps=STEPS), budget="300 nfe", batch_size=4)
    go(again, halving)
    whole = open_run(tmp_path / "whole", MixtureSampler(steps=STEPS), budget="300 nfe", batch_size=4)
    go(whole, halving)
    assert again.best.id == whole.best.id


def test_with_fewer_search_steps_the_picture_is_the_draft(tmp_path):
    final = InterruptedAt(2, steps=20)
    run = open_run(tmp_path / "run", final.with_steps(4), budget="9 images", final=final)
    assert searched(run)
    assert run.best.id == run.draft_baseline.id
    assert run.baseline is None


def test_ctrl_c_later_keeps_to_whole_micro_batches(tmp_path):
    run = open_run(tmp_path / "run", InterruptedAt(STEPS + 3, steps=STEPS), budget="6 images")
    with pytest.raises(Interrupted):
        go(run)
    run.finish_one()
    run.store.close()
    assert len(run.candidates) == 3
    assert not lines(tmp_path / "run", "denoise")
    again = open_run(tmp_path / "run", MixtureSampler(steps=STEPS), budget="6 images")
    go(again)
    whole = open_run(tmp_path / "whole", MixtureSampler(steps=STEPS), budget="6 images")
    go(whole)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


# On a pipeline


class Counted:
    """Ctrl-C at the guided evaluation of this number, from 1, whoever else counts them."""

    def __init__(self, at):
        self.at, self.evaluations = at, 0

    def __call__(self, images):
        self.evaluations += 1
        if self.evaluations == self.at:
            raise KeyboardInterrupt


def pipeline_sampler(scheduler=None):
    return PipelineSampler(tiny.sd(scheduler), "a cat", num_inference_steps=6, guidance_scale=3.0)


@pytest.mark.slow
def test_ctrl_c_in_the_first_micro_batch_of_a_pipeline_leaves_a_picture(tmp_path):
    sampler = pipeline_sampler()
    sampler.meter.on_step = Counted(4)
    run = open_run(tmp_path / "run", sampler, budget="4 images", batch_size=4)
    assert searched(run)
    assert [one.seed for one in run.candidates.values()] == [0]
    assert [one["to"] for one in lines(tmp_path / "run", "denoise")] == [3]
    assert run.spent.nfe == sampler.meter.nfe == 4 * 4 + 3
    fresh = pipeline_sampler()
    again = open_run(tmp_path / "run", fresh, budget="4 images", batch_size=4)
    go(again)
    assert fresh.meter.nfe == 3 * 3
    whole = open_run(tmp_path / "whole", pipeline_sampler(), budget="4 images", batch_size=4)
    go(whole)
    for key, one in whole.candidates.items():
        assert again.candidates[key].scores["brightness"] == pytest.approx(one.scores["brightness"], abs=1 / 255 / 100)


def test_where_a_pipeline_cannot_tell_the_picture_is_made_from_the_start(tmp_path):
    own = EulerAncestralDiscreteScheduler.from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config)
    sampler = pipeline_sampler(own)
    sampler.meter.on_step = Counted(4)
    run = open_run(tmp_path / "run", sampler, budget="4 images", batch_size=4)
    assert searched(run)
    assert [one.seed for one in run.candidates.values()] == [0]
    assert run.best.id == run.baseline.id


@pytest.mark.slow
def test_a_search_that_is_interrupted_at_once_ends_with_a_result(tmp_path):
    out = tmp_path / "run"
    interrupted = Interrupting()
    result = nw.search(
        tiny.sd(), "a cat", verifier="brightness", budget=4, num_inference_steps=6, batch_size=4, out=out,
        progress=interrupted,
    )  # fmt: skip
    assert result.interrupted
    assert result.best.id == result.baseline.id
    assert (out / "best.png").exists()
    assert read_run(out)["status"] == "interrupted"


class Interrupting(RunProgress):
    """Ctrl-C at the fourth step."""

    def __init__(self):
        super().__init__(lambda *told: None)

    def __call__(self, run):
        pass

    def conclude(self):
        pass

    def follow(self, run, nfe=None):
        run.sampler.meter.on_step = Counted(4)
