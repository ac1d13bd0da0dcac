import io
import math

import pytest
import torch
from PIL import Image

from noisewright import registry
from noisewright.images.metadata import pixels_of
from noisewright.verifiers.protocol import score

IMAGES = torch.rand(5, 3, 24, 40, generator=torch.Generator().manual_seed(0))
FLOAT = 1e-6  # float32 means of some thousand values in [0, 1]
NAMES = ["brightness", "sharpness", "compressibility", "incompressibility", "compressibility:30", "color:#ff8000"]


def plain(*rgb):
    return torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_batch_mates_and_images_are_not_changed(name):
    verifier, before = registry.make_verifier(name), IMAGES.clone()
    together = score(verifier, IMAGES, "x")
    assert together == pytest.approx([score(verifier, one[None], "x")[0] for one in IMAGES], abs=FLOAT)
    assert len(set(together)) > 1
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("quality", [30, 95])
def test_compressibility_is_minus_the_size_of_the_jpeg(quality):
    sizes = []
    for array in pixels_of(IMAGES):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "JPEG", quality=quality)  # as the official reward writes it
        sizes.append(len(file.getvalue()) / 1000)
    suffix = "" if quality == 95 else f":{quality}"
    assert score(registry.make_verifier(f"incompressibility{suffix}"), IMAGES, "") == sizes
    assert score(registry.make_verifier(f"compressibility{suffix}"), IMAGES, "") == [-size for size in sizes]
    flat = plain(0, 1, 0).repeat(1, 1, 3, 5)
    smooth, noisy = score(registry.make_verifier("compressibility"), torch.cat([flat, IMAGES[:1]]), "")
    assert smooth > noisy


def test_qualities_have_fingerprints_of_their_own():
    made = [
        registry.make_verifier(f"{kind}:{n}") for kind in ("compressibility", "incompressibility") for n in (1, 100)
    ]
    assert len({one.fingerprint for one in made}) == 4


@pytest.mark.parametrize("text", ["0", "101", "-5", "high", "9.5", "٩"])
def test_a_quality_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected a JPEG quality from 1 to 100, got"):
        registry.make_verifier(f"compressibility:{text}")


def test_color_by_hand():
    red = registry.make_verifier("color:#ff0000")
    assert red.name == "color"
    given = torch.cat([plain(1, 0, 0), plain(0, 1, 1), plain(0, 0, 0), plain(1, 1, 1)])
    found = red(given, "")
    assert found == pytest.approx([1, 0, 1 - math.sqrt(1 / 3), 1 - math.sqrt(2 / 3)], abs=FLOAT)
    half = torch.cat([plain(1, 0, 0)[..., :4], plain(0, 0, 0)[..., :4]], dim=-1)  # the mean is (.5, 0, 0)
    assert red(half, "") == pytest.approx([1 - 0.5 / math.sqrt(3)], abs=FLOAT)
    grey = registry.make_verifier("color:808080")
    assert grey(plain(0, 0, 0), "") == pytest.approx([0], abs=FLOAT)
    assert grey(plain(*[128 / 255] * 3), "") == pytest.approx([1], abs=FLOAT)


def test_colors_are_read_in_both_lengths_and_cases():
    same = {registry.make_verifier(f"color:{text}").fingerprint for text in ("#f80", "F80", "#ff8800", "#FF8800")}
    assert len(same) == 1
    assert registry.make_verifier("color:#f81").fingerprint not in same


@pytest.mark.parametrize("text", ["", ":#", ":#ff", ":#ffff", ":#gg0000", ":red", ":##ff0000", ":#ff00000"])
def test_what_is_no_color_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="expected a colour such as color:#ff8000, got") as caught:
        registry.make_verifier(f"color{text}")
    assert "\n" not in str(caught.value)


def test_the_gradient_of_color_is_that_of_its_scores():
    color = registry.make_verifier("color:#2040c0")
    images = IMAGES.double().requires_grad_()
    found = color.gradient_scores(images, "")
    assert found.tolist() == pytest.approx(color(IMAGES, ""), abs=FLOAT)
    (slope,) = torch.autograd.grad(found.sum(), images)
    assert bool((color.gradient_scores(images + 0.1 * slope, "") > found).all())
