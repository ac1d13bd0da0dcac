import math

import pytest

from noisewright.evaluate.numbers import decimals, gained, written


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([], 2),
        ([None, math.nan], 2),
        ([5.0], 2),
        ([0.5, 0.5], 3),
        ([31.25, 31.87], 3),
        ([77.3, 90.0], 1),
        ([0.12341, 0.12345], 7),
        ([120.0, 5400.0], 0),
        ([31.25, 31.25001], 5),  # no more than 32 bits hold
        ([1e9, 1e9 + 1], 0),
        ([0.0, 1e-30], 8),
        ([-math.inf, 0.1, 0.9, math.nan], 3),
    ],
)
def test_three_digits_of_the_spread(values, places):
    assert decimals(values) == places


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(0.12361, 3, "0.124"), (-0.0001, 2, "0.00"), (-3.0, 1, "-3.0"), (math.nan, 3, "nan"), (None, 3, "nan"),
     (-1.5e300, 2, "-1.5e+300"), (2e-200, 201, "2e-200"), (math.inf, 2, "inf")],
)
def test_written(value, places, text):
    assert written(value, places) == text


@pytest.mark.parametrize(
    ("before", "after", "text"), [(1.0, 1.5, "+0.50"), (1.5, 1.0, "-0.50"), (1.0, 1.0, "+0.00"), (None, 1.0, ""),
                                  (math.nan, 1.0, "")]
)  # fmt: skip
def test_gained(before, after, text):
    assert gained(before, after, 2) == text
