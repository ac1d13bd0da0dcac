"""The small protocols of what a verifier, a sampler or a solver may have, and who has them."""

import copy
import pickle

import pytest
import torch

from noisewright.diffusion.solvers import Ddim, DpmPlusPlus, Heun, Splitting, eta_of, memory, splits
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.optional import begins_anywhere, can_preview, flags_of, warnings_of
from noisewright.verifiers.pixels import Brightness, Sharpness
from noisewright.verifiers.protocol import (
    AcceptsImages,
    Billed,
    ChecksPrompt,
    DifferentiableVerifier,
    GivesDetails,
    KeepsAnswers,
    WantsPreviews,
    is_lasting,
    usage_of,
)
from noisewright.verifiers.timeout import with_timeout

PARTS = {
    ChecksPrompt: "check",
    GivesDetails: "details",
    Billed: "usage",
    KeepsAnswers: "keep_in",
    WantsPreviews: "preview_sigma",
    DifferentiableVerifier: "gradient_scores",
    AcceptsImages: "accept",
}


class Plain:
    """A verifier with nothing besides."""

    name, fingerprint = "plain", "1"

    def __call__(self, images, prompt):
        return [0.0] * len(images)


def method(self, *given):
    """Any of the methods."""
    return given


@pytest.mark.parametrize("protocol", PARTS, ids=lambda one: one.__name__)
def test_a_part_is_had_by_its_name_alone_and_with_a_deadline_too(protocol):
    part = PARTS[protocol]
    value = {"usage": "paid", "preview_sigma": 0.4}.get(part, method)
    able = type("Able", (Plain,), {part: value})()
    for one, kept in ((able, True), (Plain(), False)):
        for held in (one, with_timeout(one, 60), copy.copy(with_timeout(one, 60))):
            assert isinstance(held, protocol) is kept
            others = [other for other in PARTS if other is not protocol and isinstance(held, other)]
            assert not others
            defined = any(part in vars(kind) for kind in type(held).__mro__)
            assert defined is kept, "found by __getattr__ alone, which does not count from Python 3.12 on"


def test_a_verifier_with_a_deadline_is_pickled_with_its_parts():
    one = pickle.loads(pickle.dumps(with_timeout(Brightness(), 60)))
    assert isinstance(one, DifferentiableVerifier)
    assert (one.name, one.seconds, is_lasting(one)) == ("brightness", 60.0, True)
    assert not isinstance(pickle.loads(pickle.dumps(with_timeout(Sharpness(), 60))), DifferentiableVerifier)


def test_a_verifier_that_asks_no_server_has_no_usage():
    assert usage_of(Brightness()) is None
    assert usage_of(type("Free", (Plain,), {"usage": None})()) is None
    assert usage_of(type("Paid", (Plain,), {"usage": "two requests"})()) == "two requests"


def test_what_holds_of_a_sampler_that_says_nothing():
    sampler = MixtureSampler(steps=2)
    assert warnings_of(sampler) == []
    assert flags_of(sampler, 2) == [False, False]
    assert can_preview(sampler)
    assert begins_anywhere(sampler)


def test_what_holds_of_a_sampler_that_says_it():
    class Saying(MixtureSampler):
        warnings, flagged, can_preview, begins_anywhere = ["eta has no effect"], [True, False], False, False
        prediction = "v"

    sampler = Saying(steps=2)
    assert warnings_of(sampler) == ["eta has no effect"]
    warnings_of(sampler).append("not its own list")
    assert sampler.warnings == ["eta has no effect"]
    assert flags_of(sampler, 2) == [True, False]
    assert not can_preview(sampler)
    assert not begins_anywhere(sampler)


def test_what_a_solver_says_of_itself():
    assert [memory(one) for one in (Ddim(), DpmPlusPlus(order=2))] == [0, 1]
    assert [splits(one) for one in (None, Ddim(), Splitting())] == [False, False, True]
    assert [eta_of(one) for one in (None, Ddim(0.5), Heun())] == [None, 0.5, None]


def test_a_part_that_is_called_is_the_verifier_s_own():
    class Told(Plain):
        def check(self, prompt):
            raise ValueError(f"expected no {prompt}")

        def details(self, images, prompt):
            return [prompt] * len(images)

        def keep_in(self, directory):
            self.place = directory

        def accept(self, image):
            self.seen = image

    inner = Told()
    one = with_timeout(inner, 60)
    with pytest.raises(ValueError, match="expected no cat"):
        one.check("cat")
    images = torch.zeros(2, 3, 4, 4)
    assert one.details(images, "cat") == ["cat", "cat"]
    one.keep_in("here")
    one.accept(images[0])
    assert inner.place == "here"
    assert inner.seen.shape == (3, 4, 4)
