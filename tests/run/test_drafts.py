"""Drafts in a run: the same noise as the full images, kept apart from them, proved before they are used."""

import itertools

import pytest
import torch

from noisewright.diffusion.solvers import Ddim
from noisewright.executors.local import LocalExecutor
from noisewright.run import drafts as proving
from noisewright.run.drafts import both_ways, finish_in_full, in_words, prove, too_small
from noisewright.run.particle import Particle, from_lineage, noise_particle
from noisewright.run.verbs import Target
from noisewright.samplers.drafts import drafted
from noisewright.samplers.mixture import MixtureSampler
from noisewright.schemas.drafts import read_draft
from noisewright.search.evolution import evolution
from noisewright.search.halving import halving
from noisewright.search.random import random
from noisewright.search.refine import refine
from noisewright.search.zero_order import zero_order
from runs import STEPS, Killed, content, go, kill_at, lines, open_run

HALF = "truncate,at=0.5"
"""Three of six steps, and the clean estimate there: four evaluations."""

CHEAP, DEAR = "steps,n=2", "truncate,at=0.75"
"""Two and five evaluations of six."""


def begin(root, text=HALF, final=None, steps=STEPS, **more):
    final = final or MixtureSampler(steps=steps)
    draft = read_draft(text).with_steps(steps)
    more.setdefault("finalists", draft.best)
    return open_run(root, drafted(final, draft), final=final, draft=draft.text, **more)


def of(run, draft):
    """The candidates that are drafts, or that are none."""
    return [one for one in run.candidates.values() if (one.particle.draft is not None) == draft]


# Particles


def test_a_draft_has_the_noise_of_its_full_image_and_a_name_of_its_own():
    draft, full = noise_particle(3, 4, "truncate,at=0.5", 6), noise_particle(3, 6)
    assert draft.full == full
    assert draft.key == full.id != draft.id
    assert (draft.kind, full.kind) == ((4, "truncate,at=0.5"), (6, None))
    assert from_lineage(draft.lineage()) == draft


def test_what_is_done_to_a_draft_is_done_to_its_full_image(tmp_path):
    run = begin(tmp_path)
    (first,) = run.noise(1)
    (turned,) = run.vary(first, 1, 0.9)
    (back,) = run.renoise(run.denoise([turned], 3)[0], 1)
    blended = run.blend([first, turned], [1, 2])
    for one in (turned, back, blended):
        assert one.draft == "truncate,at=0.5"
        assert one.full.draft is None
        assert torch.equal(run.state(one), run.state(one.full)), one.verb
    run.store.close()


def test_a_draft_of_fewer_steps_that_was_touched_on_its_way_has_no_full_image(tmp_path):
    run = begin(tmp_path, "steps,n=3")
    with pytest.raises(ValueError, match="cannot search with fewer steps"):
        _ = run.renoise(run.denoise(run.noise(1), 2)[0], 1)[0].full
    run.store.close()


# Runs


@pytest.mark.parametrize(("text", "nfe"), [(HALF, 4), ("steps,n=2", 2), ("steps,n=4+truncate,at=0.5", 3)])
def test_the_best_drafts_are_made_in_full_and_the_best_of_those_is_the_result(tmp_path, text, nfe):
    run = begin(tmp_path, text)
    go(run, n=8)
    short, full = of(run, True), of(run, False)
    assert len(short) == 8
    top = [one.particle.full for one in run.top(short, 3)]
    assert {one.particle for one in full} == {*top, run.baseline.particle}
    assert run.best == run.top(full)[0]
    assert run.baseline.seed == 0
    assert run.spent.nfe == 8 * nfe + len(full) * STEPS
    assert run.curve()[0].candidate == short[0].id


def test_a_truncated_draft_is_the_decoded_clean_estimate(tmp_path):
    run = begin(tmp_path)
    (found,) = run.finish(run.noise(1))
    model = MixtureSampler(steps=STEPS)
    x, _ = model.denoise(model.noise([0]), 0, 3)
    assert found.scores["brightness"] == pytest.approx(float(model.decode(model.predict(x, 3)).mean()), abs=1e-6)
    run.store.close()


@pytest.mark.parametrize("text", [HALF, "steps,n=3"])
def test_a_run_with_drafts_that_is_killed_at_any_write_goes_on_to_the_same_end(tmp_path, text):
    whole = begin(tmp_path / "whole", text)
    prove(whole, 0)
    go(whole, n=5)
    wanted = content(tmp_path / "whole")
    for number in itertools.count(1):
        place = tmp_path / str(number)
        run = begin(place, text)
        kill_at(run.store, number, after=number % 2 == 0)
        try:
            prove(run, 0)
            go(run, n=5)
            break
        except Killed:
            run.store.close()
        again = begin(place, text)
        prove(again, 0)
        go(again, n=5)
        assert {one["verb"] for one in content(place)} == {one["verb"] for one in wanted}
        assert {key: one.pixels for key, one in again.candidates.items()} == {
            key: one.pixels for key, one in whole.candidates.items()
        }
        assert again.best == whole.best
    assert number > 6


@pytest.mark.parametrize(
    ("search", "text", "args"),
    [
        (zero_order, HALF, {"neighbours": 3, "rounds": 2}),
        (zero_order, "steps,n=3", {"neighbours": 3, "rounds": 2}),
        (refine, HALF, {"population": 3, "generations": 2, "elites": 2}),
        (evolution, "truncate,at=0.6", {"population": 4, "at": (0.0, 0.4)}),
        (halving, "steps,n=6", {"n": 8, "pilot": 4}),
        (halving, "truncate,at=0.75", {"n": 8, "pilot": 4}),
    ],
)
def test_searches_take_drafts(tmp_path, search, text, args):
    final = MixtureSampler(steps=12)
    run = begin(tmp_path, text, final, steps=12)
    prove(run, 0)
    go(run, search, **args)
    short, full = of(run, True), of(run, False)
    assert len(short) >= 5
    assert {one.particle.full.id for one in run.top(short, 3)} | {run.baseline.id} == {one.id for one in full}
    assert run.best in full


def test_an_image_in_full_is_where_refine_starts_from_with_drafts(tmp_path):
    run = begin(tmp_path)
    lineage = noise_particle(7, STEPS).lineage()
    go(run, refine, start=lineage, population=2, generations=1, elites=2)
    assert next(iter(run.candidates.values())).seed == 7


def test_step_noise_of_a_draft_is_that_of_its_full_image(tmp_path):
    run = begin(tmp_path, final=MixtureSampler(steps=STEPS, solver=Ddim(0.8)))
    (one,) = run.noise(1)
    (fork,) = run.fork(one, 1)
    for particle in (one, fork):
        assert torch.equal(run.state(*run.denoise([particle], 3)), run.state(particle_at(particle.full, 3)))
    run.store.close()


def particle_at(particle, index):
    return Particle("denoise", (particle,), {"to": index}, index, particle.steps)


class Looks:
    """A verifier that wants to see what candidates looked like on the way."""

    name = fingerprint = "looks"
    preview_sigma = 0.4

    def __call__(self, images, prompt, previews):
        return [-float((one - other).abs().mean()) for one, other in zip(images, previews, strict=True)]


@pytest.mark.parametrize("text", [HALF, "truncate,at=0.9"])
def test_a_verifier_is_shown_previews_of_drafts_and_of_full_images(tmp_path, text):
    run = begin(tmp_path / "drafts", text, verifiers=[Looks()])
    go(run, n=5)
    index = min(run.schedule.nearest(0.4), run.steps - 1)  # of what is cut short, its end at the latest
    spent = run.final.meter.nfe
    for one in of(run, True):
        noise = run.sampler.noise([one.seed])
        preview = run.sampler.decode(run.sampler.predict(run.sampler.denoise(noise, 0, index)[0], index))
        image = run.sampler.decode(run.sampler.denoise(noise, 0, run.steps)[0])
        assert one.scores["looks"] == pytest.approx(-float((image - preview).abs().mean()), abs=1e-2)
        assert (one.scores["looks"] == 0) == (text == HALF)
    plain = open_run(tmp_path / "plain", verifiers=[Looks()])
    go(plain, n=5)
    for one in of(run, False):
        assert one.scores["looks"] == pytest.approx(plain.candidates[one.id].scores["looks"], abs=1e-6)
    assert run.spent.nfe == spent


# The budget


@pytest.mark.parametrize("budget", ["10 images", "50 nfe"])
def test_a_budget_with_drafts_is_never_overdrawn(tmp_path, budget):
    run = begin(tmp_path, budget=budget)
    prove(run, 0)
    assert go(run) == "budget"
    assert run.spent.images <= (run.budget.images or 99)
    assert run.spent.nfe <= (run.budget.nfe or 999)
    assert len(of(run, False)) in (3, 4)


def test_what_branches_in_full_costs_is_kept_back(tmp_path):
    final = MixtureSampler(steps=12)
    run = begin(tmp_path, "truncate,at=0.6", final, steps=12, budget="160 nfe")
    prove(run, 0)
    go(run, evolution, population=6, at=(0.0, 0.25, 0.5))
    assert run.spent.nfe <= 160
    assert run.best in of(run, False)


# Targets


def test_a_draft_reaches_no_target_but_its_full_image_does(tmp_path):
    plain = open_run(tmp_path / "plain")
    go(plain, n=12)
    goal = sorted(one.scores["brightness"] for one in plain.candidates.values())[-7]
    run = begin(tmp_path / "drafts", "truncate,at=0.75", target=Target({"brightness": goal}), batch_size=1)
    prove(run, 0)
    assert go(run, n=12) == "target"
    assert run.best.particle.draft is None
    assert run.best.scores["brightness"] >= goal
    assert len(of(run, True)) < 12


# The proof


@pytest.fixture
def seconds(monkeypatch):
    """What is measured of drafts and of full images."""
    took = {"draft": 1.0, "full": 2.0}
    monkeypatch.setattr(
        proving, "seconds_each_of", lambda run, kind: took["draft" if kind[1] else "full"]
    )
    return took


def test_a_draft_that_ranks_well_and_is_cheap_is_used_and_the_run_says_why(tmp_path, seconds):
    seconds["draft"] = 0.5
    run = begin(tmp_path, "truncate,at=0.75", budget="60 s, 100 images")
    prove(run, 8)
    (line,) = lines(tmp_path, "prove")
    assert line["used"]
    assert line["correlation"] > 0.8
    assert line["ratio"] == 0.25
    assert line["gain"] > line["gain_in_full"]
    assert any("draft truncate,at=0.75 is used: over 8 candidates" in text for text in run.warnings)
    go(run)
    assert len(of(run, True)) > 20


@pytest.mark.parametrize(
    ("text", "budget", "used"),
    [
        (CHEAP, "60 images", False),
        (CHEAP, "400 nfe", True),
        (CHEAP, "400 nfe, 60 images", False),
        (CHEAP, "60 s, 100 images", True),
        (CHEAP, "60 s, 200 nfe, 36 images", False),
        (DEAR, "400 nfe", False),
        (DEAR, "60 s, 100 images", True),
    ],
)
def test_a_draft_counts_by_what_it_costs_of_each_limit(tmp_path, monkeypatch, seconds, text, budget, used):
    """An image is an image, and NFE are those that were asked, however few seconds it takes."""
    seconds["draft"] = 0.25
    monkeypatch.setattr(proving, "rank_correlation", lambda one, other: 0.9)
    run = begin(tmp_path, text, budget=budget)
    prove(run, 8)
    (line,) = lines(tmp_path, "prove")
    assert line["used"] == used, line
    left = {"images": run.budget.images, "nfe": run.budget.nfe, "seconds": run.budget.seconds}
    each = {"images": (1, 1), "nfe": (2 if text == CHEAP else 5, STEPS), "seconds": (0.25, 2.0)}
    spent = {"images": run.spent.images, "nfe": run.spent.nfe, "seconds": 0}
    kinds = [kind for kind, limit in left.items() if limit is not None]
    full = min((left[kind] - spent[kind]) / each[kind][1] for kind in kinds)
    drafts = min((left[kind] - spent[kind] - 3 * each[kind][1]) / each[kind][0] for kind in kinds)
    assert line["full"] == pytest.approx(full, rel=0.05)
    assert line["drafts"] == pytest.approx(drafts, rel=0.05)
    run.store.close()


class Many(LocalExecutor):
    """Counts as several workers."""

    def __init__(self, workers):
        super().__init__()
        self.workers = workers


@pytest.mark.parametrize(("more", "full"), [({}, 120), ({"target": Target({"brightness": 2.0})}, 30)])
def test_seconds_are_those_of_all_workers_but_with_a_target(tmp_path, seconds, more, full):
    run = begin(tmp_path, budget="60 s", executor=Many(4), **more)
    prove(run, 4)
    assert lines(tmp_path, "prove")[0]["full"] == pytest.approx(full, rel=0.05)
    run.store.close()
    small = begin(tmp_path / "small", budget="2000 s, 12 nfe", executor=Many(4))
    assert too_small(small, 8)
    small.store.close()


@pytest.mark.parametrize("budget", ["14 images", "84 nfe"])
def test_a_run_that_is_killed_anywhere_in_its_pilot_decides_as_it_would_have(tmp_path, seconds, budget):
    """A budget with room for the pilot, and too little for one once a part of it is spent."""
    whole = begin(tmp_path / "whole", "steps,n=4", budget=budget)
    prove(whole, 4)
    go(whole)
    wanted = [line["pilot"] for line in lines(tmp_path / "whole", "prove")]
    assert wanted == [4]
    for number in itertools.count(1):
        place = tmp_path / str(number)
        run = begin(place, "steps,n=4", budget=budget)
        kill_at(run.store, number, after=number % 2 == 0)
        try:
            prove(run, 4)
            break
        except Killed:
            run.store.close()
        again = begin(place, "steps,n=4", budget=budget)
        prove(again, 4)
        go(again)
        assert [without_time(line) for line in lines(place, "prove")] == [
            without_time(line) for line in lines(tmp_path / "whole", "prove")
        ]
        assert list(again.candidates) == list(whole.candidates)
        assert again.best == whole.best
    run.store.close()
    assert number > 15


def without_time(line):
    return {key: value for key, value in line.items() if key != "elapsed"}


@pytest.mark.parametrize("made", [{"full": 0.9}, {"draft": 2.0}])
def test_a_draft_that_costs_as_much_is_not_used_and_the_search_goes_on_in_full(tmp_path, seconds, made):
    seconds.update(made)
    run = begin(tmp_path, budget="40 images")
    prove(run, 4)
    assert not lines(tmp_path, "prove")[0]["used"]
    assert any("is not used" in text for text in run.warnings)
    go(run)
    assert len(of(run, True)) == 4
    assert len(of(run, False)) == 36
    assert run.best == run.top(of(run, False))[0]
    assert len(run.curve()) == 36


def test_what_was_decided_stands_when_a_run_goes_on(tmp_path, seconds):
    seconds["draft"] = 3.0
    run = begin(tmp_path, budget="30 images")
    prove(run, 4)
    run.store.close()
    seconds["draft"] = 0.1
    again = begin(tmp_path, budget="30 images")
    prove(again, 4)
    assert len(lines(tmp_path, "prove")) == 1
    go(again)
    assert len(of(again, True)) == 4
    assert again.spent.images == 30


def test_a_target_makes_the_micro_batches_of_a_pilot_no_smaller(tmp_path, seconds):
    """What they take says what the search's own would."""
    places = {"plain": {}, "target": {"target": Target({"brightness": 9.0})}}
    for place, more in places.items():
        run = begin(tmp_path / place, budget="60 images", **more)
        prove(run, 8)
        run.store.close()
    sizes = [[len(line["ids"]) for line in lines(tmp_path / place, "finish")] for place in places]
    assert sizes[0] == sizes[1]


def test_a_budget_too_small_for_a_pilot_is_searched_in_full(tmp_path):
    run = begin(tmp_path, budget="12 images")
    prove(run, 8)
    assert lines(tmp_path, "prove")[0]["pilot"] == 0
    assert any("too small to prove it" in text for text in run.warnings)
    go(run)
    assert not of(run, True)
    assert len(of(run, False)) == 12


def test_the_pilot_is_in_the_search(tmp_path, seconds):
    run = begin(tmp_path, budget="60 images")
    short, full = both_ways(run, 4)
    assert [one.seed for one in short] == [one.seed for one in full] == [0, 1, 2, 3]
    spent = run.spent.nfe
    assert run.finish(run.noise(4)) == short
    assert finish_in_full(run, run.noise(0)) == []
    assert run.spent.nfe == spent
    run.store.close()


def test_seconds_of_drafts_and_of_full_images_are_measured_apart(tmp_path):
    run = begin(tmp_path)
    finish_in_full(run, [run.noise_of(0)])
    both_ways(run, 4)
    warming = [one for one in run.ledger.timed if one[0] == (run.baseline.id,)]
    assert len(warming) == 2  # made and scored
    short = sum(took for ids, took in run.ledger.timed if run.ledger.particles[ids[0]].draft) / 4
    assert proving.seconds_each_of(run, run.kind) == pytest.approx(short)
    assert proving.seconds_each_of(run, run.full_kind) > 0
    run.store.close()


def test_scores_that_do_not_vary_prove_nothing():
    for one, other, found in (
        ([1, 2, 3], [10, 20, 90], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 1, 2, 3], [1, 1, 5, 6], 1),
        ([1, 1, 1], [1, 2, 3], 0), ([], [], 0), ([1.0], [2.0], 0), ([1, 2, 3, float("nan")], [1, 2, 3, 0], 1),
    ):  # fmt: skip
        assert proving.rank_correlation(one, other) == pytest.approx(found)


def test_words_without_scores():
    said = in_words({"draft": "x", "used": False, "pilot": 2})
    assert said == "draft x is not used: too few candidates have a score, and the search goes on in full"


def test_a_search_in_full_draws_the_same_noises(tmp_path):
    run = begin(tmp_path / "one")
    run.search_in_full()
    go(run, random, n=3)
    plain = open_run(tmp_path / "other")
    go(plain, n=3)
    assert list(run.candidates) == list(plain.candidates)
