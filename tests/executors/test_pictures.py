"""Images are encoded beside each other where they are large, and are what they are one by one."""

import threading

import pytest
import torch

from noisewright.executors import pictures
from noisewright.executors.pictures import LARGE, encoded
from noisewright.images.metadata import encode_png, pixel_hash, pixels_of

SIDES = [8, int(LARGE**0.5)]
ABOUT = {"lineage": [], "versions": {"noisewright": "0"},
         "sampler": {"num_inference_steps": 1, "solver": "ddim", "model": "m", "prompt": "a"}}  # fmt: skip


def recipes(count):
    return [{**ABOUT, "seed": number} for number in range(count)]


@pytest.mark.parametrize("side", SIDES)
def test_every_image_has_its_own_recipe_and_pixels(side, monkeypatch):
    monkeypatch.setattr(pictures.os, "cpu_count", lambda: 4)
    threads = set()

    def noting(array, recipe):
        threads.add(threading.get_ident())
        return encode_png(array, recipe)

    monkeypatch.setattr(pictures, "encode_png", noting)
    images = torch.rand(5, 3, side, side, generator=torch.Generator().manual_seed(0))
    pngs, hashes = encoded(images, recipes(5))
    arrays = pixels_of(images)
    assert hashes == [pixel_hash(one) for one in arrays]
    assert pngs == [encode_png(one, {**recipe, "pixels": pixel_hash(one)})
                    for one, recipe in zip(arrays, recipes(5), strict=True)]  # fmt: skip
    assert (threads == {threading.get_ident()}) == (side * side < LARGE)


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    def failing(array, recipe):
        raise MemoryError("no memory")

    monkeypatch.setattr(pictures.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(pictures, "encode_png", failing)
    with pytest.raises(MemoryError):
        encoded(torch.zeros(2, 3, SIDES[1], SIDES[1]), recipes(2))
