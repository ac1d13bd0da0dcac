"""Every search's defaults on every kind of schedule, from the fewest steps up: they run, and say what they adapt."""

import inspect
from dataclasses import replace

import pytest
import torch

from noisewright import registry
from noisewright.diffusion.clock import Clock
from noisewright.diffusion.schedule import along
from noisewright.diffusion.schedules import named_schedule
from noisewright.diffusion.solvers import Ddim
from noisewright.planning.rehearsal import rehearse
from noisewright.registry.builtins import STEP_NOISE
from noisewright.run.budget import parse_budget
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.checks import FEWEST_STEPS, LEAST_KEPT, kept
from noisewright.search.paths import DOWN, LEVEL, UP
from noisewright.verifiers.pixels import Brightness
from runs import go, open_run

STEPS = range(FEWEST_STEPS, 13)
ROOM = 400
"""Images: more than any search's defaults take."""

betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
signal = torch.cumprod(1 - betas, 0)
LATENT = Clock("vp", tuple(((1 - signal) / signal).sqrt().tolist()))
"""Stable Diffusion's."""


def at_times(times, clock=LATENT):
    return along(clock, [clock.at(float(t)) for t in times])


def flow(shift):
    def levels(steps):
        even = [(steps - n) / steps for n in range(steps)]
        return along(
            Clock("flow", shift=shift), [Clock("flow").at(1000 * shift * u / (1 + (shift - 1) * u)) for u in even]
        )

    return levels


SCHEDULES = {
    "vp, leading": lambda steps: at_times([1000 // steps * n + 1 for n in range(steps)][::-1]),
    "vp, trailing": lambda steps: at_times([round(1000 - n * 1000 / steps) - 1 for n in range(steps)]),
    "karras": lambda steps: named_schedule("karras", LATENT, steps),
    "flow": flow(1.0),
    "flow, shift 3": flow(3.0),
    "flow, shift 7": flow(7.0),
}
ARGUMENTS = {
    "random": {"n": 3},
    "zero-order": {"rounds": 1},
    "zero-order+paths": {"rounds": 1},
    "refine": {"generations": 1},
    "gradient": {"iterations": 2, "every": 1},
    "svdd": {"rounds": 1},
    "rbf": {"rounds": 1},
}
"""What ends a search that goes on until the budget does; no level is among them."""


def sampler_on(name, kind, steps):
    schedule, eta = SCHEDULES[kind](steps), float(STEP_NOISE in registry.entry("search", name).needs)
    sampler = MixtureSampler(steps=steps, kind="flow" if kind.startswith("flow") else "vp", solver=Ddim(eta))
    sampler.schedule = replace(schedule, start=float(schedule.sigma[0]))
    return sampler


def names():
    return [one for one in registry.names("search") if registry.entry("search", one).target.startswith("noisewright.")]


def run_of(root, name, kind, steps, **arguments):
    sampler = sampler_on(name, kind, steps)
    run = open_run(root, sampler, budget=f"{ROOM} images", batch_size=64)
    go(run, registry.make_search(name), **{**ARGUMENTS.get(name, {}), **arguments})
    return run


def carried(run):
    """Of every child that was carried back: from and to which index."""
    found = []
    for one in run.candidates.values():
        particle = one.particle
        while particle is not None:
            if particle.verb == "renoise":
                found.append((particle.parents[0].index, particle.index))
            particle = particle.parents[0] if particle.parents else None
    return found


@pytest.mark.sampled(9)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", names())
def test_defaults_run_on_every_schedule(name, kind, steps, tmp_path):
    run = run_of(tmp_path / "run", name, kind, steps)
    assert len(run.candidates) > 1
    found = [one.scores["brightness"] for one in run.candidates.values()]
    assert run.best.scores["brightness"] == max(found) > min(found)
    for start, back in carried(run):
        assert back < start
        assert kept(run.schedule, back, start) >= LEAST_KEPT


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", SCHEDULES)
def test_defaults_of_every_search_are_taken_by_the_rehearsal(kind, steps):
    for name in names():
        if name != "gradient":  # brightness has no gradient of its own
            sampler = sampler_on(name, kind, steps)
            rehearse(registry.make_search(name), sampler, [Brightness()], {}, 0, parse_budget("64 images"))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", ["paths", "zero-order+paths"])
def test_adapted_levels_are_said_and_nothing_else_is(name, kind, tmp_path):
    for steps in (4, 6, 60):
        run = run_of(tmp_path / f"{steps}", name, kind, steps, width=2, children=2)
        schedule = run.schedule
        first, back = schedule.nearest(LEVEL), schedule.nearest(LEVEL + UP)
        said = [text for text in run.warnings if text.startswith(f"{name}: the {steps} steps have no states")]
        inside = 0 < first < steps and back < first and kept(schedule, back, first) >= LEAST_KEPT
        assert bool(said) or inside
        if said:
            assert "(index" in said[0]
            assert "\n" not in said[0]
        assert not said or steps < 60


def test_levels_that_are_there_are_the_papers(tmp_path):
    run = run_of(tmp_path / "run", "paths", "flow", 25)
    assert not run.warnings
    back = run.schedule.nearest(LEVEL + UP)
    assert (run.schedule.nearest(LEVEL), back) in carried(run)
    assert DOWN > UP


def test_previews_of_fk_that_fall_together_are_one_and_it_says_so(tmp_path):
    run = run_of(tmp_path / "run", "fk", "flow", 4)
    assert any("fk: at (0.5, 0.65, 0.8) are steps 2, 3 of 4" in text for text in run.warnings)
    assert not run_of(tmp_path / "more", "fk", "flow", 5).warnings


def test_generations_of_evolution_keep_something_of_their_parents(tmp_path):
    run = run_of(tmp_path / "run", "evolution", "flow", 5)
    assert any("evolution: generations at steps 0, 2 of 5" in text for text in run.warnings)
    typed = run_of(tmp_path / "typed", "evolution", "flow", 5, at=(0.0, 0.2))
    assert any("keep nothing of their parents" in text for text in typed.warnings)
    assert (1, 0) in carried(typed)  # what a person typed is what is done
    assert not run_of(tmp_path / "vp", "evolution", "vp, leading", 5).warnings


@pytest.mark.parametrize("name", ["paths", "zero-order+paths", "fk", "svdd", "rbf", "evolution", "halving"])
def test_fewer_steps_are_refused_in_one_line_that_names_what_works(name, tmp_path):
    for steps in (1, 2):
        with pytest.raises(ValueError, match="random, zero-order and refine") as caught:
            run_of(tmp_path / f"{steps}", name, "flow", steps)
        assert "\n" not in str(caught.value)
        assert f"for {name}, got {steps}" in str(caught.value)
    for other in ("random", "zero-order", "refine"):
        assert run_of(tmp_path / other, other, "flow", 2).candidates


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("paths", {"level": 0.02}),
        ("paths", {"level": 0.3, "up": 0.01, "down": 0.2}),
        ("zero-order+paths", {"level": 0.02}),
        ("fk", {"at": (0.5, 0.51)}),
        ("halving", {"cuts": (0.5, 0.51)}),
        ("evolution", {"at": (0.0, 0.01)}),
        ("svdd", {"begin": 0.9}),
        ("rbf", {"begin": 0.99}),
    ],
)
def test_typed_values_are_refused(name, arguments):
    function = registry.make_search(name)
    assert set(arguments) <= set(inspect.signature(function).parameters)
    with pytest.raises(ValueError, match="expected"):
        rehearse(function, sampler_on(name, "flow", 6), [Brightness()], arguments, 0, parse_budget("64 images"))


def test_the_run_says_what_the_rehearsal_kept_to_itself(tmp_path):
    sampler = sampler_on("paths", "flow", 4)
    rehearse(registry.make_search("paths"), sampler, [Brightness()], {}, 0, parse_budget("64 images"))
    run = run_of(tmp_path / "run", "paths", "flow", 4)
    assert run.warnings[0].startswith("paths: the 4 steps")
