import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisewright.run.budget import Budget, Spent, affordable, parse_budget


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (None, Budget()),
        (64, Budget(images=64)),
        ("64", Budget(images=64)),
        ("64 images", Budget(images=64)),
        ("1 image", Budget(images=1)),
        ("64images", Budget(images=64)),
        ("  64   Images ", Budget(images=64)),
        ("1920 nfe", Budget(nfe=1920)),
        ("1920NFE", Budget(nfe=1920)),
        ("1e3 nfe", Budget(nfe=1000)),
        ("30s", Budget(seconds=30)),
        ("30 sec", Budget(seconds=30)),
        (".5 s", Budget(seconds=0.5)),
        ("1.5 minutes", Budget(seconds=90)),
        ("2m", Budget(seconds=120)),
        ("1 h", Budget(seconds=3600)),
        ("64 images, 30 s", Budget(images=64, seconds=30)),
        (["64 images", "100 nfe, 2 min"], Budget(images=64, nfe=100, seconds=120)),
        (Budget(nfe=3), Budget(nfe=3)),
    ],
)
def test_good_budgets(given_, expected):
    assert parse_budget(given_) == expected


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ("0 images", "above 0 images"),
        ("0", "above 0 images"),
        (0, "above 0 images"),
        (-3, "got -3"),
        ("-5 nfe", "got -5"),
        ("0 s", "above 0 seconds"),
        ("-1 s", "above 0 seconds"),
        ("5 parsecs", "unit 'parsecs'"),
        ("2.5 images", "whole number of images"),
        ("0.5 nfe", "whole number of nfe"),
        ("", "got ''"),
        ("images", "got 'images'"),
        ("ten images", "got 'ten images'"),
        ("1 2 images", "got '1 2 images'"),
        ("nan s", "got 'nan s'"),
        ("inf s", "got 'inf s'"),
        ("1e999 s", "got inf"),
        ("1e999 images", "images"),
        ("64 images, 32 images", "several"),
        ("30 s, 1 min", "several"),
        ("64 images,", "got ''"),
        (True, "got True"),
    ],
)
def test_bad_budgets_say_what_was_wrong(given_, says):
    with pytest.raises(ValueError, match="expected") as caught:
        parse_budget(given_)
    assert says in str(caught.value)


def test_a_budget_prints_what_it_parses():
    budget = Budget(images=4, nfe=100, seconds=2.5)
    assert parse_budget(str(budget)) == budget
    assert str(Budget()) == "no limit"


limits = st.one_of(st.none(), st.integers(1, 500))
used = st.integers(0, 400)


@given(
    limits, limits, st.one_of(st.none(), st.floats(0.1, 500)), used, used, st.floats(0, 400), st.integers(1, 64),
    st.integers(0, 50), st.integers(0, 1), st.floats(0, 9), st.integers(0, 2), st.integers(0, 90), st.floats(0, 9),
)  # fmt: skip
def test_affordable_never_exceeds_a_limit_and_never_wastes_one(
    images, nfe, seconds, spent_images, spent_nfe, spent_seconds, count, nfe_each, images_each, seconds_each,
    kept_images, kept_nfe, kept_seconds,
):  # fmt: skip
    def fits(pieces):
        return (
            (images is None or not images_each or spent_images + kept_images + pieces * images_each <= images)
            and (nfe is None or not nfe_each or spent_nfe + kept_nfe + pieces * nfe_each <= nfe)
            and (seconds is None or spent_seconds + kept_seconds + pieces * seconds_each <= seconds + SLACK * pieces)
        )

    allowed = affordable(
        Budget(images, nfe, seconds), Spent(spent_images, spent_nfe, 0, spent_seconds), count, nfe_each=nfe_each,
        images_each=images_each, seconds_each=seconds_each, reserve=Spent(kept_images, kept_nfe, 0, kept_seconds),
    )  # fmt: skip
    assert 0 <= allowed <= count
    assert allowed == 0 or fits(allowed)
    if allowed < count and (seconds is None or seconds - spent_seconds - kept_seconds > 0):
        assert not fits(allowed + 1) or math.isclose(
            spent_seconds + kept_seconds + (allowed + 1) * seconds_each, seconds or 0, abs_tol=1e-6
        )


SLACK = 1e-6  # seconds: divisions of floats


def test_no_limit_allows_everything():
    assert affordable(Budget(), Spent(9, 9, 9, 9), 7, nfe_each=5, images_each=1, seconds_each=3, reserve=Spent()) == 7


def test_time_that_is_gone_allows_nothing():
    for seconds_each in (0.0, 1.0):
        assert affordable(
            Budget(seconds=5), Spent(seconds=4.6), 7, nfe_each=5, images_each=1, seconds_each=seconds_each,
            reserve=Spent(seconds=0.5),
        ) == 0  # fmt: skip
