import asyncio
import itertools
import math
import re
import signal
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from noisewright.errors import TargetReached, VerifierFailed
from noisewright.run.follow import Watch
from noisewright.verifiers.pixels import Brightness, Sharpness
from noisewright.verifiers.protocol import (
    FunctionVerifier,
    Verifier,
    as_verifier,
    details_of,
    gradient_of,
    is_lasting,
    let_check,
    score,
    score_whole,
)
from runs import content, go, open_run

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = 1e-6  # float32 means of some hundred values in [0, 1]


class Own(BaseException):
    """Caught by no ``except Exception``."""


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even a text")


class Loud:
    def __float__(self):
        sys.exit(1)


def deep(n):
    return deep(n + 1)


class Fixed:
    name, fingerprint = "fixed", "1"

    def __init__(self, function):
        self.function = function

    def __call__(self, images, prompt):
        return self.function(images)


@pytest.mark.parametrize(
    "given",
    [
        [0.0, 1, 2, 3, 4],
        range(5),
        torch.arange(5.0),
        torch.arange(5.0)[:, None],
        torch.arange(5.0)[None],
        torch.arange(5),
        torch.arange(5).bfloat16(),
        np.arange(5.0),
        np.arange(5.0)[:, None],
        np.array([0, 1, 2, 3, 4], object),
        [[0], [1], [2], [3], [4]],
        list(torch.arange(5.0)),
        list(torch.arange(5.0)[:, None]),
        list(np.arange(5)[:, None]),
        [Fraction(0), Decimal(1), 2, np.float16(3), np.int64(4)],
        (0, True, 2, 3.0, 4),
    ],
)
def test_every_kind_of_numbers_is_taken(given):
    assert score(Fixed(lambda images: given), IMAGES, "") == [0, 1, 2, 3, 4]


def test_a_score_may_carry_a_gradient():
    weight = torch.ones(1, requires_grad=True)
    assert score(Fixed(lambda images: images.mean((1, 2, 3)) * 0 + weight), IMAGES, "") == [1] * 5


def test_what_is_no_finite_number_is_nan():
    found = score(Fixed(lambda images: [math.nan, math.inf, -math.inf, 10**400, 2]), IMAGES, "")
    assert [math.isnan(one) for one in found] == [True, True, True, True, False]


@pytest.mark.parametrize("odd", [None, "0.5", 1j, {}, [1, 2], torch.ones(2), np.complex64(1), b"1"])
def test_a_score_that_is_no_number_is_nan_for_its_image_alone(odd, caplog):
    found = score(Fixed(lambda images: [1, 2, odd, 4, 5]), IMAGES, "")
    assert [one for one in found if one == one] == [1, 2, 4, 5]
    assert math.isnan(found[2])
    assert len(caplog.messages) == 1
    assert "NaN for 1 of 5 images" in caplog.messages[0]


def test_generators_are_gone_through():
    assert score(Fixed(lambda images: (float(n) for n, _ in enumerate(images))), IMAGES, "") == [0, 1, 2, 3, 4]


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
        (lambda images: sys.exit(3), "raised SystemExit: 3"),
        (lambda images: sys.exit(), "raised SystemExit"),
        (lambda images: exec("raise GeneratorExit"), "raised GeneratorExit"),
        (lambda images: exec("raise StopIteration"), "raised StopIteration"),
        (lambda images: exec("raise asyncio.CancelledError", {"asyncio": asyncio}), "raised CancelledError"),
        (lambda images: exec("raise Own('mine')", {"Own": Own}), "raised Own: mine"),
        (lambda images: exec("raise Mute", {"Mute": Mute}), "raised Mute"),
        (lambda images: deep(0), "raised RecursionError"),
        (lambda images: exec("raise TargetReached", {"TargetReached": TargetReached}), "raised TargetReached"),
        (lambda images: (exec("raise KeyError('late')") for _ in images), "raised KeyError: 'late'"),
        (lambda images: (sys.exit(1) for _ in images), "raised SystemExit: 1"),
        (lambda images: itertools.repeat(0.5), "expected 5 scores, got more"),
        (lambda images: iter([0.5] * 4), "expected 5 scores, got 4"),
        (lambda images: dict.fromkeys(range(5), 0.5), "expected 5 numbers, got dict"),
        (lambda images: set(range(5)), "expected 5 numbers, got set"),
        (lambda images: "01234", "expected 5 numbers, got str"),
        (lambda images: b"01234", "expected 5 numbers, got bytes"),
        (lambda images: ["0.5"] * 5, "expected 5 numbers, got list"),
        (lambda images: [None] * 5, "expected 5 numbers, got list"),
        (lambda images: [1j] * 5, "expected 5 numbers, got list"),
        (lambda images: np.full(5, 1j), "expected 5 numbers, got ndarray"),
        (lambda images: [np.complex64(1j)] * 5, "expected 5 numbers, got list"),
        (lambda images: torch.full((5,), 1j), "expected 5 numbers, got Tensor"),
        (lambda images: np.array([None] * 5), "expected 5 numbers, got ndarray"),
        (lambda images: np.array([{}] * 5), "expected 5 numbers, got ndarray"),
        (lambda images: np.array(["0.5"] * 5), "expected 5 numbers, got ndarray"),
        (lambda images: np.zeros(5, "datetime64[ns]"), "expected 5 numbers, got ndarray"),
        (lambda images: [[0.1, 0.2]] * 5, "expected 5 numbers, got list"),
        (lambda images: [torch.ones(2)] * 5, "expected 5 numbers, got list"),
        (lambda images: np.ones((5, 2)), "expected 5 scores, got 10"),
        (lambda images: [Loud()] * len(images), "raised SystemExit"),
        (lambda images: 10**400, "expected 5 numbers, got int"),
        (lambda images: torch.empty(len(images), device="meta"), "raised NotImplementedError"),
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
    (line,) = caplog.messages
    said = r"verifier fixed raised RuntimeError: too red \(test_protocol.py, line \d+\)"
    assert re.fullmatch(rf"{said} \(NaN for {len(bad)} of 5 images\)", line)


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


def test_what_a_handler_of_a_signal_raises_is_no_verifier_failure():
    def leave(number, frame):
        sys.exit(7)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        with pytest.raises(SystemExit):
            score(Fixed(lambda images: signal.raise_signal(signal.SIGUSR1)), IMAGES, "")
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(VerifierFailed, match="raised SystemExit: 7"):
        score(Fixed(lambda images: leave(0, None)), IMAGES, "")


# A verifier's tensors are its own


def shift(images):
    """A common idiom: to [-1, 1] in place."""
    return images.sub_(0.5).div_(0.5)


def ruin(images):
    images.fill_(math.nan)
    images.resize_(0)


class Looking:
    """A verifier that looks back and does what it likes to all that it is given."""

    name, fingerprint, preview_sigma = "looking", "1", 0.4

    def __init__(self, harm):
        self.harm = harm

    def __call__(self, images, prompt, previews):
        found = (images - previews).mean((1, 2, 3))
        self.harm(images)
        self.harm(previews)
        return found


@pytest.mark.parametrize("harm", [shift, ruin, torch.Tensor.zero_, lambda images: images.requires_grad_()])
def test_whatever_a_verifier_does_to_its_images_nobody_else_sees(harm):
    kept, previews = IMAGES.clone(), IMAGES.flip(0).clone()
    images = kept.clone()

    def careless(given):
        found = given.mean((1, 2, 3)).tolist()
        harm(given)
        if len(given) > 2:
            raise RuntimeError("asked again, in parts")
        return found

    wanted = Brightness()(kept, "")
    assert score(Fixed(careless), images, "") == pytest.approx(wanted, abs=FLOAT)
    looked = score(Looking(harm), images, "", previews)
    assert looked == pytest.approx((kept - kept.flip(0)).mean((1, 2, 3)).tolist(), abs=FLOAT)
    with torch.inference_mode():
        assert score(Fixed(careless), images, "") == pytest.approx(wanted, abs=FLOAT)
    assert torch.equal(images, kept)
    assert torch.equal(previews, kept.flip(0))
    assert not images.requires_grad


def test_out_of_memory_after_a_change_in_place():
    def limited(images):
        shift(images)
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return images.mean((1, 2, 3))

    wanted = [2 * one - 1 for one in Brightness()(IMAGES, "")]
    assert score(Fixed(limited), IMAGES, "") == pytest.approx(wanted, abs=FLOAT)


def test_what_a_verifier_returned_it_may_change_later():
    mine, tensor = [1.0, 2, 3, 4, 5], torch.ones(5)
    found, other = score(Fixed(lambda images: mine), IMAGES, ""), score(Fixed(lambda images: tensor), IMAGES, "")
    mine[:] = [0.0] * 5
    tensor.zero_()
    assert (found, other) == ([1, 2, 3, 4, 5], [1] * 5)


def test_the_grad_mode_stays_as_it_was():
    def careless(images):
        torch.set_grad_enabled(False)
        return [0] * 5

    score(Fixed(careless), IMAGES, "")
    assert torch.is_grad_enabled()


# Broken images


@pytest.mark.parametrize("bad", [set(), {0}, {1, 4}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_broken_images_get_nan_and_are_not_shown(bad, kind):
    seen = []

    def watching(images):
        seen.extend(images)
        return images.mean((1, 2, 3))

    images = IMAGES.clone()
    images[sorted(bad)] = math.nan
    flags = kind([n not in bad for n in range(5)])
    found = score_whole(Fixed(watching), images, "", flags)
    assert [math.isnan(one) for one in found] == [n in bad for n in range(5)]
    wanted = Brightness()(IMAGES, "")
    assert [one for one in found if one == one] == pytest.approx([wanted[n] for n in range(5) if n not in bad])
    assert len(seen) == 5 - len(bad)
    looked = score_whole(Looking(ruin), images, "", flags, IMAGES.flip(0))
    assert [math.isnan(one) for one in looked] == [n in bad for n in range(5)]
    told = details_of(Telling(lambda some: [float(one.mean()) for one in some]), images, "", flags)
    assert (told or [None] * 5) == [None if n in bad else pytest.approx(wanted[n], abs=FLOAT) for n in range(5)]


def test_as_many_flags_as_images():
    for ask in (score_whole, details_of):
        with pytest.raises(ValueError, match="expected 5 flags of whole images, got 4"):
            ask(Telling(lambda images: []), IMAGES, "", [True] * 4)


def test_no_images_are_no_question():
    assert score(Fixed(lambda images: sys.exit(1)), IMAGES[:0], "") == []


# What else a verifier may have


class Telling(Fixed):
    def details(self, images, prompt):
        return self.function(images)


def test_details_are_copies():
    mine = [{"a": [n]} for n in range(5)]
    found = details_of(Telling(lambda images: (shift(images), mine)[1]), images := IMAGES.clone(), "")
    mine[0]["a"].append("changed")
    assert found == [{"a": [n]} for n in range(5)]
    assert torch.equal(images, IMAGES)
    assert details_of(Brightness(), IMAGES, "") is None


def test_details_of_any_numbers_can_be_read_back(tmp_path):
    huge = {"a": [10**400, -(2**63), 7, True, 1e308, float("inf")]}

    class Huge(Brightness):
        def details(self, images, prompt):
            return [huge] * len(images)

    go(open_run(tmp_path, verifiers=[Huge()], budget="2 images"))
    watch = Watch(tmp_path)
    watch.look()
    assert watch.ledger.spent.images == 2
    told = ["a number of 401 digits", "a number of 19 digits", 7, True, 1e308, None]
    assert content(tmp_path)[-1]["details"]["brightness"] == [{"a": told}] * 2


@pytest.mark.parametrize(
    "function",
    [
        lambda images: sys.exit(1),
        lambda images: {}["x"],
        lambda images: [object()] * 5,
        lambda images: [{}] * 4,
        lambda images: {"a": 1},
        lambda images: None,
        lambda images: images,
    ],
)
def test_details_that_fail_cost_a_line(function, caplog):
    assert details_of(Telling(function), IMAGES, "") is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("verifier fixed")


class Climbed(Fixed):
    def gradient_scores(self, images, prompt):
        return self.function(images)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5)])
def test_a_gradient_leads_back_whatever_is_done_in_place(shape):
    images = IMAGES.clone().requires_grad_()
    traced = images * 1.0
    found = gradient_of(Climbed(lambda given: shift(given).mean((1, 2, 3)).view(shape)), traced, "")
    assert found.shape == (5,)
    (slope,) = torch.autograd.grad(found.sum(), images)
    assert torch.allclose(slope, torch.full_like(slope, 2 / images[0].numel()))
    assert torch.equal(traced, IMAGES)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda images: images.mean(), r"got \(\)"),
        (lambda images: images.mean((2, 3)), r"got \(5, 3\)"),
        (lambda images: images.mean((1, 2, 3)).detach(), "got one without"),
        (lambda images: [0.0] * 5, "got list"),
        (lambda images: torch.ones(5, dtype=torch.long), "got torch.int64"),
        (lambda images: sys.exit(2), "raised SystemExit: 2"),
        (lambda images: {}["x"], "raised KeyError"),
    ],
)
def test_a_gradient_that_is_none_is_a_failure(function, says):
    with pytest.raises(VerifierFailed, match=says):
        gradient_of(Climbed(function), IMAGES.clone().requires_grad_(), "")


def test_out_of_memory_in_a_gradient_is_the_run_s_to_handle():
    with pytest.raises(torch.OutOfMemoryError):
        gradient_of(Climbed(lambda images: exec("raise torch.OutOfMemoryError", {"torch": torch})), IMAGES, "")


def test_a_check_may_refuse_and_no_more():
    one = Fixed(None)
    let_check(one, "x")
    one.check = lambda prompt: exec("raise ValueError('no class')")
    with pytest.raises(ValueError, match=r"^no class$"):
        let_check(one, "x")
    one.check = lambda prompt: sys.exit(0)
    with pytest.raises(VerifierFailed, match="raised SystemExit: 0"):
        let_check(one, "x")


def test_what_lasts_says_so_in_its_own_class():
    class Mine(Brightness):
        def __call__(self, images, prompt):
            return super().__call__(1 - images, prompt)

    class Told(Mine):
        lasting = True

    assert is_lasting(Brightness())
    assert is_lasting(Told())
    for one in (Mine(), Fixed(None), FunctionVerifier(redness), lambda images, prompt: [0]):
        assert not is_lasting(one)


@pytest.mark.parametrize("what", ["name", "fingerprint"])
@pytest.mark.parametrize("value", ["x" * 501, "\ud800", "a\0b"], ids=["long", "half a pair", "nul"])
def test_a_verifier_whose_name_cannot_be_kept_is_refused(what, value):
    verifier = Fixed(shift)
    setattr(verifier, what, value)
    with pytest.raises(ValueError, match=f"expected the {what} of a verifier"):
        as_verifier(verifier)
    shift_of_a_long_name = lambda images, prompt: shift(images)  # noqa: E731
    shift_of_a_long_name.__name__ = "x" * 501
    with pytest.raises(ValueError, match="expected the name of a verifier of at most 500 characters, got 501"):
        as_verifier(shift_of_a_long_name)


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
