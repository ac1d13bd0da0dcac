"""Starting noises again, on another number of steps: the same neighbours, and those that earlier versions rendered."""

import pytest
import torch

from noisewright.run.particle import Particle, from_lineage, noise_particle
from noisewright.run.ways import Ways, in_full, with_steps
from noisewright.samplers.mixture import MixtureSampler
from noisewright.schemas.lineage import check_lineage
from noisewright.search.random import random
from noisewright.search.refine import refine
from noisewright.search.zero_order import zero_order
from runs import STEPS, go, lines, open_run

SHORT = 3


def short_run(root, **more):
    return open_run(root, MixtureSampler(steps=SHORT), final=MixtureSampler(steps=STEPS), winners=3, **more)


@pytest.mark.parametrize(
    ("search", "args"),
    [
        (zero_order, {"neighbours": 4, "rounds": 2}),
        (refine, {"population": 4, "generations": 2, "elites": 2}),
        (refine, {"population": 4, "generations": 2, "method": "cma-es"}),
        (random, {"n": 6}),
    ],
)
def test_fewer_search_steps_render_the_noise_that_was_found(tmp_path, search, args):
    run = short_run(tmp_path)
    go(run, search, **args)
    short = [one.particle for one in run.candidates.values() if one.particle.steps == SHORT]
    full = {one.id for one in run.candidates.values() if one.particle.steps == STEPS}
    found = [(one, in_full(one, STEPS)) for one in short]
    rendered = [(one, other) for one, other in found if Ways().finished(other).id in full]
    assert len(rendered) >= 3
    for one, other in rendered:
        assert torch.equal(run.state(one.start), run.state(other))
    assert search is random or any(one.seed is None for one, _ in rendered)
    made = run.best.particle
    check_lineage(made.lineage(), "a recipe")
    assert from_lineage(made.lineage()) == made


def test_a_noise_of_a_seed_has_its_plain_name():
    assert with_steps(noise_particle(4, SHORT), STEPS) == noise_particle(4, STEPS)


def test_what_an_earlier_version_rendered_is_not_rendered_again(tmp_path, monkeypatch):
    older = lambda particle, steps, there: with_steps(particle, steps, same_noise=False)  # noqa: E731 - as it was
    with monkeypatch.context() as patch:
        patch.setattr("noisewright.run.verbs.in_full", older)
        run = short_run(tmp_path)
        go(run, zero_order, neighbours=4, rounds=2)
    before, best = len(lines(tmp_path)), run.best
    assert best.particle.start.args.keys() <= {"cosine", "draw", "seed", "steps"}
    again = short_run(tmp_path)
    go(again, zero_order, neighbours=4, rounds=2)
    assert len(lines(tmp_path)) == before
    assert again.best == best


def test_a_long_ancestry_is_walked_in_a_loop():
    one = noise_particle(0, SHORT)
    for draw in range(3000):
        other = Particle("vary", (one,), {"cosine": 0.9, "draw": draw}, 0, SHORT)
        one = Particle("blend", (one, other), {"weights": [0.5, 0.5]}, 0, SHORT)
    assert with_steps(one, STEPS).steps == STEPS


def test_what_was_touched_on_its_way_has_no_counterpart():
    on_the_way = Particle("denoise", (noise_particle(0, SHORT),), {"to": 2}, 2, SHORT)
    carried = Particle("renoise", (on_the_way,), {"to": 1, "draw": 0}, 1, SHORT)
    with pytest.raises(ValueError, match="leaves states alone on their way with search_steps, got one that uses"):
        with_steps(carried, STEPS)
