"""Where axes are marked, and with what."""

import pytest

from noisewright.evaluate.chart import bounds, named_ticks, whole_ticks


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.9, 2.1, ["1.00", "1.25", "1.50", "1.75", "2.00"]),
        (-4.2, -0.9, ["-4", "-3", "-2", "-1"]),
        (0.47, 0.53, ["0.48", "0.50", "0.52"]),
        (0.0, 120.0, ["0", "25", "50", "75", "100"]),
        (-2e300, 2e300, ["-2e+300", "-1e+300", "0", "1e+300", "2e+300"]),
        (1e-200, 2e-200, ["1e-200", "1.2e-200", "1.4e-200", "1.6e-200", "1.8e-200", "2e-200"]),
    ],
)
def test_marks_say_what_they_stand_at(low, high, texts):
    ticks = named_ticks(low, high)
    assert [text for _, text in ticks] == texts
    assert [float(text) for text in texts] == pytest.approx([tick for tick, _ in ticks])


@pytest.mark.parametrize(
    ("values", "ends"),
    [([0.0, 1.0], (-0.08, 1.08)), ([2.0], (1.9, 2.1)), ([0.0, 0.0], (-0.5, 0.5)), ([1.0, 1.0 + 2e-16], (0.95, 1.05))],
)
def test_values_have_room_around_them(values, ends):
    assert bounds(values) == pytest.approx(ends)


def test_images_are_counted_in_whole_numbers():
    assert whole_ticks(1.0) == [0, 1]
    assert whole_ticks(64.0) == [0, 20, 40, 60]
