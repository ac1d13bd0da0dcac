import io

import torch
from PIL import Image

from noisewright.images.previews import SIDE, preview_jpeg
from noisewright.run.store import Store

STEP = 12
"""Of 255, what a JPEG of one colour may be off by."""


def test_a_preview_is_a_small_picture_of_what_it_is_given():
    image = torch.zeros(3, 600, 300)
    image[0] = 1.0
    with Image.open(io.BytesIO(preview_jpeg(image))) as opened:
        assert (opened.format, opened.size) == ("JPEG", (SIDE // 2, SIDE))
        red, green, blue = opened.convert("RGB").getpixel((20, 20))
    assert red > 255 - STEP
    assert max(green, blue) < STEP


def test_a_small_one_keeps_its_size():
    with Image.open(io.BytesIO(preview_jpeg(torch.rand(3, 64, 48)))) as opened:
        assert opened.size == (48, 64)


def test_where_it_cannot_be_written_the_run_goes_on(tmp_path):
    store = Store.create(tmp_path / "run", {}, {"noisewright": "0"}, "now")
    store.save_preview("a" * 16, b"one")
    assert (tmp_path / "run" / "previews" / f"{'a' * 16}.jpg").read_bytes() == b"one"
    (tmp_path / "elsewhere").mkdir()
    other = Store.create(tmp_path / "other", {}, {"noisewright": "0"}, "now")
    (tmp_path / "other" / "previews").symlink_to(tmp_path / "elsewhere")
    other.save_preview("a" * 16, b"one")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    for one in (store, other):
        one.close()
