"""Sizes of searches: the largest that ends within a budget, counted by what the run itself would count."""

from dataclasses import replace

import pytest

import tiny
from noisewright import registry
from noisewright.benchmark.fitting import SIZES, fits, fitted, worth
from noisewright.evaluate.simulation import simulate
from noisewright.planning import plan
from noisewright.request import Request
from noisewright.run.budget import Budget

STEPS = 6


@pytest.fixture(scope="module")
def planned():
    """A plan of a search on a tiny pipeline, by its name."""
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)

    def make(search, **more):
        request = Request(
            prompt="a cat", search=search, verifier=["brightness"], judge=["none"], num_inference_steps=STEPS, **more
        )
        return plan(request, pipe=pipe, proving=False)

    return make


SIZED = [name for name, size in SIZES.items() if size.argument and name != "gradient"]


def test_every_size_is_an_argument_of_its_search():
    for name, size in SIZES.items():
        known = registry.search_arguments(name)
        assert set(size.given) <= set(known), name
        assert size.argument is None or size.argument in known, name


@pytest.mark.parametrize("search", SIZED)
def test_the_size_is_the_largest_that_ends_within_the_budget(planned, search):
    made, nfe = planned(search), 24 * STEPS
    args = fitted(made, nfe, {})
    size = SIZES[search].argument
    assert args[size] > 1
    assert fits(made, nfe, args)
    assert not fits(made, nfe, {**args, size: args[size] + 1})
    ready = replace(made, search_args=registry.check_arguments(search, args))
    spent = simulate(ready, Budget(nfe=nfe)).spent.nfe
    assert nfe / 2 < spent <= nfe


def test_what_a_person_gave_stays(planned):
    assert fitted(planned("paths"), 24 * STEPS, {"children": 2})["children"] == 2
    args = fitted(planned("paths"), 24 * STEPS, {"rounds": 1})
    assert args["rounds"] == 1
    assert args["children"] > 1


def test_searches_that_go_on_have_no_size(planned):
    assert fitted(planned("random"), 24 * STEPS, {}) == {}
    assert fitted(planned("zero-order"), 24 * STEPS, {"neighbours": 2}) == {"neighbours": 2}
    assert fitted(planned("refine"), 4 * STEPS, {}) == {"population": 4, "elites": 2}


def test_a_budget_that_nothing_fits_gives_the_smallest(planned):
    assert fitted(planned("paths"), STEPS, {})["children"] == 1


def test_arguments_that_a_search_refuses_do_not_fit(planned):
    assert not fits(planned("paths"), 24 * STEPS, {"childern": 2})


def test_what_a_budget_is_worth(planned):
    made = planned("random")
    assert worth(made, Budget(images=8)) == 8 * STEPS
    assert worth(made, Budget(nfe=50)) == 50
    assert worth(made, Budget(seconds=3.0)) >= STEPS
    with pytest.raises(ValueError, match="expected a budget in one unit, got 8 images, 50 nfe"):
        worth(made, Budget(images=8, nfe=50))
