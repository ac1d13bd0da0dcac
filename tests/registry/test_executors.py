"""Executors as they are typed, and with other options."""

import pytest

from noisewright.registry.executors import check_executor, with_options


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("ray", {"workers": 2}, "ray:workers=2"),
        ("ray:workers=2", {"workers": 1}, "ray:workers=1"),
        ("ray:auto,workers=4", {"workers": 2}, "ray:auto,workers=2"),
        ("ray:h:6379,workers=4,cpus_per_worker=1", {"workers": 2}, "ray:h:6379,cpus_per_worker=1,workers=2"),
        ("ray:h:6379, workers = 4", {"gpus_per_worker": 0.5}, "ray:h:6379, workers = 4,gpus_per_worker=0.5"),
        ("ray:10.0.0.1:6379, workers = 4", {"workers": 3, "verifier_workers": 1},
         "ray:10.0.0.1:6379,workers=3,verifier_workers=1"),
        ("ray:workers=2", {"workers": None}, "ray:workers=2"),
        ("local", {"workers": None}, "local"),
    ],
)  # fmt: skip
def test_an_option_takes_the_place_of_what_the_text_says_of_it(text, options, found):
    assert with_options(text, **options) == found


def test_an_option_of_this_process_is_refused():
    with pytest.raises(ValueError, match="expected --gpus-per-worker with --executor ray, got it with local"):
        with_options("local", gpus_per_worker=1)


def test_what_comes_of_it_can_be_made():
    pytest.importorskip("ray")
    check_executor(with_options("ray:workers=2", workers=1, verifier_workers=1))
