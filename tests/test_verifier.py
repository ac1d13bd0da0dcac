import math

import numpy as np
import pytest
import torch

from noisewright.errors import VerifierFailed
from noisewright.verifier import FunctionVerifier, Verifier, as_verifier, score
from noisewright.verifiers.pixels import Brightness, Sharpness

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = 1e-6  # float32 means of some hundred values in [0, 1]


class Fixed:
    name, fingerprint = "fixed", "1"

    def __init__(self, function):
        self.function = function

    def __call__(self, images, prompt):
        return self.function(images)


@pytest.mark.parametrize(
    "given", [[0.0, 1, 2, 3, 4], range(5), torch.arange(5.0), torch.arange(5.0)[:, None], np.arange(5.0)]
)
def test_every_kind_of_numbers_is_taken(given):
    assert score(Fixed(lambda images: given), IMAGES, "") == [0, 1, 2, 3, 4]


def test_a_score_may_carry_a_gradient():
    weight = torch.ones(1, requires_grad=True)
    assert score(Fixed(lambda images: images.mean((1, 2, 3)) * 0 + weight), IMAGES, "") == [1] * 5


def test_what_is_no_finite_number_is_nan():
    found = score(Fixed(lambda images: [math.nan, math.inf, -math.inf, 1, 2]), IMAGES, "")
    assert [math.isnan(one) for one in found] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda images: [1.0] * 4, "expected 5 scores, got 4"),
        (lambda images: torch.ones(6), "expected 5 scores, got 6"),
        (lambda images: torch.ones(5, 2), "expected 5 scores, got 10"),
        (lambda images: 0.5, "expected 5 numbers, got float"),
        (lambda images: None, "expected 5 numbers, got NoneType"),
        (lambda images: ["a"] * 5, "expected 5 numbers, got list"),
        (lambda images: {}["x"], "raised KeyError: 'x'"),
        (lambda images: exec("raise RuntimeError('first line\\nsecond line')"), "raised RuntimeError: first line"),
        (lambda images: exec("raise AssertionError"), "raised AssertionError"),
    ],
)
def test_a_broken_verifier_is_named_in_one_line(function, says):
    with pytest.raises(VerifierFailed) as caught:
        score(Fixed(function), IMAGES, "")
    assert str(caught.value).startswith("verifier fixed")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_out_of_memory_halves_and_keeps_the_order():
    sizes = []

    def limited(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return images.mean((1, 2, 3))

    assert score(Fixed(limited), IMAGES, "") == pytest.approx(Brightness()(IMAGES, ""), abs=FLOAT)
    assert sizes == [5, 3, 2, 1, 2]


def test_out_of_memory_for_one_image_is_a_failure():
    def never(images):
        raise MemoryError

    with pytest.raises(VerifierFailed, match="out of memory for a single image"):
        score(Fixed(never), IMAGES, "")


@pytest.mark.parametrize("bad", [{0}, {4}, {1, 3}, {0, 1, 2, 3}])
def test_an_image_that_a_verifier_fails_on_costs_only_its_own_score(bad, caplog):
    sizes = []

    def moody(images):
        sizes.append(len(images))
        if any(torch.equal(one, IMAGES[n]) for n in bad for one in images):
            raise RuntimeError("too red\nby far")
        return images.mean((1, 2, 3))

    found = score(Fixed(moody), IMAGES, "")
    wanted = Brightness()(IMAGES, "")
    assert [math.isnan(one) for one in found] == [n in bad for n in range(5)]
    assert [one for one in found if one == one] == pytest.approx([wanted[n] for n in range(5) if n not in bad])
    assert sizes == [5, 1, 1, 1, 1, 1]
    assert caplog.messages == [f"verifier fixed raised RuntimeError: too red (NaN for {len(bad)} of 5 images)"]


def test_a_verifier_that_fails_on_every_image_failed():
    sizes = []

    def broken(images):
        sizes.append(len(images))
        raise RuntimeError(f"no {len(sizes)}")

    with pytest.raises(VerifierFailed, match="raised RuntimeError: no 2"):
        score(Fixed(broken), IMAGES, "")
    assert sizes == [5, 1, 1, 1, 1, 1]


def test_a_verifier_that_has_given_up_by_itself_is_not_asked_again(caplog):
    sizes = []

    def tired(images):
        sizes.append(len(images))
        raise VerifierFailed("verifier fixed: no server")

    with pytest.raises(VerifierFailed, match=r"^verifier fixed: no server$"):
        score(Fixed(tired), IMAGES, "")
    assert sizes == [5]


def test_out_of_memory_in_one_half_leaves_the_other(caplog):
    def limited(images):
        if len(images) > 2 or any(torch.equal(one, IMAGES[0]) for one in images):
            raise torch.OutOfMemoryError
        return images.mean((1, 2, 3))

    found = score(Fixed(limited), IMAGES, "")
    assert [math.isnan(one) for one in found] == [True, False, False, False, False]
    assert caplog.messages == ["verifier fixed is out of memory for a single image (NaN for 1 of 2 images)"]


def test_an_interrupt_is_no_verifier_failure():
    def interrupted(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(Fixed(interrupted), IMAGES, "")


def redness(images, prompt):
    return images[:, 0].mean((1, 2)) * len(prompt)


def test_functions_become_verifiers():
    one = as_verifier(redness)
    assert isinstance(one, Verifier)
    assert one.name == "redness"
    assert score(one, IMAGES, "ab") == pytest.approx((IMAGES[:, 0].mean((1, 2)) * 2).tolist(), abs=FLOAT)
    other = as_verifier(lambda images, prompt: [0] * len(images))
    assert other.name == "lambda"
    assert other.fingerprint != one.fingerprint == FunctionVerifier(redness, "another name").fingerprint
    built_in = Brightness()
    assert as_verifier(built_in) is built_in
    with pytest.raises(TypeError, match="expected a verifier name, a function"):
        as_verifier(3)


def test_brightness_and_sharpness_by_hand():
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert Brightness()(torch.cat([black, white, white / 4]), "") == [0, 1, 0.25]
    point = black.clone()
    point[..., 1, 1] = 1  # the Laplacian is -4 there and 1 at its four neighbours: 8 over 16 pixels
    assert Sharpness()(torch.cat([black, white, point]), "") == pytest.approx([0, 0, 0.5], abs=FLOAT)


@pytest.mark.parametrize("verifier", [Brightness(), Sharpness()])
def test_scores_do_not_depend_on_batch_mates_and_images_are_not_changed(verifier):
    before = IMAGES.clone()
    together = score(verifier, IMAGES, "x")
    alone = [score(verifier, IMAGES[n : n + 1], "x")[0] for n in range(5)]
    assert together == pytest.approx(alone, abs=FLOAT)
    assert score(verifier, IMAGES.flip(0), "x") == pytest.approx(together[::-1], abs=FLOAT)
    assert torch.equal(IMAGES, before)
