"""The checks for authors of plug-ins: the package's own things hold them, and each finds what it is for."""

import copy
from dataclasses import dataclass

import pytest
import torch

import tiny
from noisewright import registry
from noisewright.diffusion.schedules import RULES, karras
from noisewright.diffusion.solvers import Ddim, DpmPlusPlus, Heun
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.testing import check_sampler, check_schedule_rule, check_solver, check_verifier
from noisewright.verifiers.pixels import Brightness, Sharpness

# Verifiers


class Scorer:
    """A verifier of a function of images."""

    fingerprint = "1"

    def __init__(self, function, **parts):
        self.function, self.name = function, "scorer"
        for name, value in parts.items():
            setattr(self, name, value)

    def __call__(self, images, prompt):
        return self.function(images)


def climbing(function, gradient):
    """The same with a gradient."""
    kind = type("Climbing", (Scorer,), {"gradient_scores": lambda self, images, prompt: gradient(images)})
    return kind(function)


def mean(images):
    return images.mean((1, 2, 3))


@pytest.mark.parametrize("one", [Brightness(), Sharpness(), lambda images, prompt: mean(images).tolist()])
def test_verifiers_that_hold(one):
    check_verifier(one)


def test_the_bundled_verifiers_hold():
    for name in ("shapes-oracle", "color:#ff0000", "compressibility"):
        check_verifier(registry.make_verifier(name))


CALLS = []


def counting(images):
    CALLS.append(1)
    return mean(images) + len(CALLS)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (Scorer(lambda images: [float(mean(images).mean())] * len(images)), "depend on batch mates"),
        (Scorer(lambda images: mean(images) - mean(images)[0]), "depend on"),
        (Scorer(counting), "other scores when asked again"),
        (Scorer(lambda images: torch.rand(len(images))), "global random state"),
        (Scorer(lambda images: [float("nan")] * len(images)), "no number for any"),
        (climbing(mean, lambda images: -mean(images)), "ranks images by gradient_scores"),
        (climbing(mean, lambda images: images.mean()), r"gradient_scores of \(\)"),
        (climbing(mean, lambda images: mean(images) * 0), "gradient of zero"),
        (climbing(mean, lambda images: mean(images) / 0), "not finite"),
    ],
)
def test_verifiers_that_do_not(one, says):
    with pytest.raises(AssertionError, match=says):
        check_verifier(one)


# Solvers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "order"), [(Ddim(), 1), (Ddim(0.5), None), (Heun(), 2), (DpmPlusPlus(order=2), None)]
)
def test_solvers_that_hold(solver, order):
    check_solver(solver, order)


@dataclass(frozen=True)
class Spoilt(Ddim):
    """DDIM with a fault."""

    fault: str = ""
    name: str = "spoilt"

    def step(self, schedule, index, x, found, noise, state):
        after, _ = super().step(schedule, index, x, found, noise, state)
        if self.fault == "mixes":
            after = after + 0.01 * after.mean(0, keepdim=True)
        if self.fault == "hides":
            object.__setattr__(self, "_last", getattr(self, "_last", 0) + 1)
            after = after + 1e-3 * self._last
        if self.fault == "strays":
            after = x
        return after, None


@pytest.mark.parametrize(
    ("fault", "says"), [("mixes", "mixes the rows"), ("hides", "another result when asked"), ("strays", "errs by")]
)
def test_solvers_that_do_not(fault, says):
    with pytest.raises(AssertionError, match=says):
        check_solver(Spoilt(fault=fault))


def test_a_solver_of_a_lower_order_than_it_says():
    with pytest.raises(AssertionError, match="converges with order"):
        check_solver(Ddim(), order=3)


def test_what_is_no_solver():
    with pytest.raises(AssertionError, match="expected a solver, got str"):
        check_solver("ddim")


# Schedules


@pytest.mark.parametrize("name", [name for name in RULES if not name.startswith(("ays", "autodiffusion", "sgm"))])
def test_rules_that_hold(name):
    check_schedule_rule(RULES[name])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda clock, steps: karras(clock, steps)[:-1], "expected"),
        (lambda clock, steps: karras(clock, steps)[::-1], "expected|fall"),
        (lambda clock, steps: [clock.of(clock.highest)] * steps, "fall at every step"),
    ],
)
def test_rules_that_do_not(rule, says):
    with pytest.raises(AssertionError, match=says):
        check_schedule_rule(rule)


# Samplers


@pytest.mark.parametrize("solver", [Ddim(), Ddim(1.0), Heun(), DpmPlusPlus(order=2)], ids=lambda one: one.name)
def test_samplers_that_hold(solver):
    check_sampler(MixtureSampler(steps=5, solver=solver))


def test_a_pipeline_holds_and_gives_its_own_images():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)

    def plain(seed):
        generator = torch.Generator("cpu").manual_seed(seed)
        return pipe("a cat", num_inference_steps=4, generator=generator, output_type="pt").images[0]

    check_sampler(PipelineSampler(pipe, "a cat", num_inference_steps=4), plain=plain)


class Faulty(MixtureSampler):
    """An exact sampler with a fault."""

    fault = ""

    def noise(self, seeds):
        x = super().noise(seeds)
        return x + len(seeds) if self.fault == "noise" else x

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        after, state = super().denoise(x, start, stop, state, noise, seeds)
        if self.fault == "split":
            after = after + 0.01
        if self.fault == "batch":
            after = after + 0.01 * after.mean()
        if self.fault == "count":
            self.meter.nfe += 1
        return after, state

    def decode(self, x):
        return x / 2 + 0.5 if self.fault == "decode" else super().decode(x)

    def advance(self, x, index, clean, state=None, noise=None):
        after, state = super().advance(x, index, clean, state, noise)
        return after + (0.1 if self.fault == "advance" else 0.0), state

    def with_steps(self, steps):
        other = super().with_steps(steps)
        if self.fault == "meter":
            other.meter = copy.deepcopy(self.meter)
        return other


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("noise", "noises drawn one by one"), ("split", "states split at step"), ("batch", "split at|one by one"),
        ("count", "the meter counts"), ("decode", "in steps of 1/255"), ("advance", "the step from a known estimate"),
        ("meter", "a meter of its own"),
    ],
)  # fmt: skip
def test_samplers_that_do_not(fault, says):
    sampler = Faulty(steps=4)
    sampler.fault = fault
    with pytest.raises(AssertionError, match=says):
        check_sampler(sampler)


def test_a_sampler_that_does_not_give_the_models_own_images():
    with pytest.raises(AssertionError, match="the model's own images"):
        check_sampler(MixtureSampler(steps=4), plain=lambda seed: torch.zeros(3, 2, 2))
