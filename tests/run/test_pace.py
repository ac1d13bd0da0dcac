"""How long a micro-batch is expected to take, by those that were timed."""

import pytest

from noisewright.run.pace import Pace


def pace(*timed):
    made = Pace()
    for count, seconds in timed:
        made.note(count, seconds)
    return made


COLD, AFFINE = (1, 2.0), ((1, 2.0), (8, 9.0), (8, 9.0))


@pytest.mark.parametrize(
    ("timed", "count", "seconds"),
    [
        ((), 4, 0.0),
        ((COLD,), 1, 2.0),
        ((COLD,), 4, 8.0),  # an upper bound, in proportion
        ((COLD, (1, 1.0)), 1, 1.0),
        ((COLD, (1, 1.0)), 4, 4.0),  # which is forgotten once its size is known
        (AFFINE, 8, 9.0),
        (AFFINE, 16, 18.0),
        (AFFINE, 1, 2.0),  # nothing smaller was timed than the cold one
        (AFFINE, 4, 5.0),
        (((1, 20.0), (8, 9.0)), 1, 9.0),  # a start that took longer than a micro-batch of eight
        (((1, 20.0), (8, 9.0)), 4, 9.0),
        (((8, 20.0), (4, 6.0)), 8, 12.0),
        (((4, 20.0), (4, 6.0), (8, 10.0)), 2, 6.0),
        (((4, 20.0), (4, 6.0), (8, 10.0)), 6, 8.0),
    ],
)
def test_an_estimate_goes_by_what_was_timed(timed, count, seconds):
    assert pace(*timed).seconds(count) == pytest.approx(seconds)


def test_of_several_of_a_size_the_middle_one_counts():
    assert pace(COLD, (4, 3.0), (4, 50.0), (4, 3.5)).seconds(4) == 3.5
