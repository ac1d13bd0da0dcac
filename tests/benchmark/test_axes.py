"""What values of an axis are called."""

import pytest

from noisewright.benchmark.axes import label_of


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("/home/me/models/mine", "mine"), ("/home/me/models/mine/", "mine"), ("./mine.py:warmth", "mine.py:warmth"),
        ("~/v.py:warmth,factor=3", "v.py:warmth,factor=3"), ("clip:/home/me/clip", "clip:clip"), ("/", "/"),
        ("owner/name", "owner/name"), ("clip:owner/name", "clip:owner/name"), (["../a/b", "clip"], "b + clip"),
        ("vlm:http://host/v1#m", "vlm:http://host/v1#m"), ("http://host:8000/v1", "http://host:8000/v1"), (10, "10"),
        ("none", "none"), (True, "yes"), (0.5, "0.5"), ({"neighbours": 2}, "neighbours 2"),
    ],
)  # fmt: skip
def test_a_path_of_this_machine_is_called_by_its_name(value, label):
    assert label_of(value) == label
