"""What a dry run says against what the run then costs, and budgets that do not fit the search."""

import pytest

import noisewright as nw
from noisewright import registry
from noisewright.api import planned as plan_of
from noisewright.diffusion.solvers import Ddim, Heun
from noisewright.evaluate.enough import too_small
from noisewright.evaluate.forecast import expected_nfe, forecast
from noisewright.registry.builtins import STEP_NOISE
from noisewright.run.budget import Budget
from noisewright.run.reserve import SAVING_SECONDS
from noisewright.samplers.mixture import MixtureSampler

STEPS = 20
SEARCHES = registry.names("search")
BUDGETS = ("7 images", "90 nfe", "700 nfe", ["9 images", "250 nfe"])
DEPENDS = ("fk", "svdd", "rbf", "halving")
"""Searches whose images and NFE depend on the scores."""


def given(search, **more):
    eta = 1.0 if STEP_NOISE in registry.entry("search", search).needs else 0.0
    sampler = MixtureSampler(steps=STEPS, solver=more.pop("solver", Ddim(eta)))
    return sampler, {"prompt": "a mixture", "verifier": "brightness", "search": search, **more}


def planned(search, **more):
    sampler, arguments = given(search, **more)
    return plan_of(sampler, **arguments)


def ran(search, **more):
    sampler, arguments = given(search, **more)
    return nw.search(sampler, pictures=False, **arguments)


@pytest.mark.sampled(11)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_dry_run_is_what_the_run_costs(search, budget):
    plan = planned(search, budget=budget)
    said, found = forecast(plan), ran(search, budget=budget)
    least = said["least"]
    for unit, value in (("images", found.images), ("nfe", found.nfe), ("forwards", found.forwards)):
        assert least[unit] <= value <= said[unit], unit
        if search not in DEPENDS:
            assert least[unit] == said[unit]
    if search not in DEPENDS:
        assert (said["limit"] == "search") == (found.stopped == "finished")
    assert plan.sampler.meter.decodes <= 2 * plan.batch_size  # what was timed, and nothing else


@pytest.mark.parametrize(
    ("search", "more"),
    [
        ("random", {"search_args": {"n": 5}, "budget": "64 images"}),
        ("random", {"search_steps": 4, "budget": "11 images"}),
        ("random", {"search_steps": 4, "budget": "100 nfe"}),
        ("zero-order", {"search_steps": 4, "budget": "20 images", "keep": 3}),
        ("zero-order", {"search_args": {"rounds": 2, "neighbours": 3}, "budget": "64 images"}),
        ("zero-order", {"solver": Heun(), "budget": "500 nfe"}),
        ("refine", {"search_args": {"method": "cmaes", "dimensions": 3}, "budget": "21 images"}),
        ("evolution", {"search_args": {"population": 30, "elites": 3}, "budget": "200 images"}),
        ("halving", {"search_args": {"n": 40}, "budget": "200 images", "batch_size": 3}),
    ],
)
@pytest.mark.sampled(3)
def test_arguments_and_settings_are_counted(search, more):
    said, found = forecast(planned(search, **more)), ran(search, **more)
    for unit, value in (("images", found.images), ("nfe", found.nfe)):
        assert said["least"][unit] <= value <= said[unit], unit


def test_an_ensemble_and_a_verifier_of_previews_are_counted():
    class Preview:
        name, fingerprint, preview_sigma = "preview", "1", 0.4

        def __call__(self, images, prompt, previews):
            return previews.mean(dim=(1, 2, 3)).tolist()

    more = {"verifier": ["brightness", Preview()], "budget": "150 nfe"}
    said, found = forecast(planned("zero-order", **more)), ran("zero-order", **more)
    assert (said["images"], said["nfe"]) == (found.images, found.nfe)


def test_a_budget_in_seconds_is_turned_into_what_fits():
    plan = planned("paths", budget="1000 s")
    said = forecast(plan)
    assert said["limit"] == "search"
    assert (said["images"], said["nfe"]) == (ran("paths", budget="100 images").images, said["least"]["nfe"])
    tiny = forecast(planned("paths", budget=f"{SAVING_SECONDS} s"))
    assert (tiny["limit"], tiny["images"]) == ("seconds", 1)
    assert tiny["smallest"]["nfe"] > tiny["nfe"]


@pytest.mark.slow
def test_a_run_too_long_to_simulate_is_gone_on_with_in_proportion():
    said = forecast(planned("random", budget="100000 images"))
    assert said["images"] == 100_000
    assert said["nfe"] == pytest.approx(100_000 * STEPS, rel=0.01)


def test_progress_knows_what_a_search_of_its_own_end_will_cost():
    assert expected_nfe(planned("paths", budget="64 images")) == ran("paths", budget="64 images").nfe
    assert expected_nfe(planned("random", budget="64 images")) == 64 * STEPS
    assert expected_nfe(planned("random", budget="64 s")) is None


# Budgets that do not fit the search

FITTING = [name for name in SEARCHES if name != "random"]


@pytest.mark.slow
@pytest.mark.parametrize("search", FITTING)
def test_a_budget_too_small_for_a_search_is_warned_of_with_the_smallest_that_is_not(search):
    plan = planned(search, budget="1 image")
    smallest = too_small(plan)
    (text,) = [one for one in plan.warnings if "the smallest that does not" in one]
    assert f"{smallest.nfe} nfe, or {smallest.images} images" in text
    for unit, least in (("images", smallest.images), ("nfe", smallest.nfe)):
        assert too_small(plan, Budget(**{unit: least})) is None
        assert least == 1 or too_small(plan, Budget(**{unit: least - 1})) is not None


FIRST = {
    "zero-order": "vary", "paths": "renoise", "zero-order+paths": "renoise", "evolution": "renoise", "refine": "vary",
    "gradient": "ascend",
}  # fmt: skip
"""What makes these what they are; what the others branch or choose depends on the scores."""


@pytest.mark.sampled(4)
@pytest.mark.parametrize("unit", ["images", "nfe"])
@pytest.mark.parametrize("search", FIRST)
def test_with_the_smallest_budget_the_run_does_what_makes_it_itself(search, unit):
    smallest = too_small(planned(search, budget="1 image"))
    found = ran(search, budget=f"{getattr(smallest, unit)} {unit}")
    assert FIRST[search] in {one.particle.origin.verb for one in found.candidates}
    assert not [text for text in found.warnings if "the smallest" in text]


@pytest.mark.parametrize(("search", "budget"), [("paths", "90 nfe"), ("evolution", "160 nfe")])
def test_dry_run_and_run_say_it_alike(search, budget):
    said = forecast(planned(search, budget=budget))
    found = ran(search, budget=budget)
    told = [text for text in found.warnings if "the smallest that does not" in text]
    assert told
    assert set(told) <= set(said["warnings"])
    assert len(said["warnings"]) == len(set(said["warnings"]))


def test_a_budget_in_seconds_that_was_too_short_is_warned_of_at_the_end():
    found = ran("evolution", budget="0.01 s")
    assert [text for text in found.warnings if "ends evolution before it" in text]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("search", SEARCHES)
def test_an_ample_budget_is_no_matter_of_warnings(search):
    assert too_small(planned(search, budget="64 images")) is None
    assert too_small(planned(search, budget=f"{64 * STEPS} nfe")) is None


def test_a_search_that_fails_is_left_to_say_so_itself():
    def broken(run):
        run.finish(run.noise(1))
        raise LookupError("of its own")

    plan = planned("random", budget="4 images")
    plan.search, plan.search_args = broken, {}
    plan.spec["search"] = "broken"
    assert too_small(plan) is None
    assert forecast(plan)["images"] == 4
