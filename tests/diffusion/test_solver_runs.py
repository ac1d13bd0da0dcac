"""Runs with solvers that remember, or that ask more than once a step: branches, batches and budgets."""

import pytest
import torch

from noisewright import registry
from noisewright.errors import BudgetExhausted
from noisewright.run.budget import parse_budget
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.random import random
from noisewright.verifiers.pixels import Brightness

STEPS = 8
EQUAL = 1e-6  # scores in [0, 1] of 8-bit images; a batch sums in another order
UNGUIDED = [name for name in registry.names("solver") if name not in ("pipeline", "ltsp", "stsp")]


def open_run(root, solver, budget=None, kind="vp", **more):
    sampler = MixtureSampler(steps=STEPS, solver=registry.make_solver(solver), kind=kind)
    store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "0"}, "now")
    return Run(store, sampler, [Brightness()], budget=parse_budget(budget), **more)


@pytest.mark.parametrize("name", ["deis-3", "dpm-solver-3", "unipc", "pndm-f", "heun", "dpmpp-2m-sde"])
def test_particles_of_other_lives_share_an_index_but_no_micro_batch(name, tmp_path):
    """One that was re-noised has a shorter history: beside one that was not, each ends as it does alone."""
    together = open_run(tmp_path / "together", name, batch_size=8)
    first, second = together.denoise(together.noise(2), 5)
    (back,) = together.renoise(second, 3)
    (there,) = together.denoise([back], 5)
    (fork,) = together.fork(second, 1)
    found = together.finish([first, there, second, fork])
    together.store.close()
    for number, candidate in enumerate(found):
        alone = open_run(tmp_path / str(number), name, batch_size=1)
        (again,) = alone.finish([candidate.particle])
        alone.store.close()
        assert again.scores["brightness"] == pytest.approx(candidate.scores["brightness"], abs=EQUAL)


@pytest.mark.parametrize("name", UNGUIDED)
@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_the_journal_counts_what_was_asked(name, kind, tmp_path):
    run = open_run(tmp_path / "run", name, kind=kind)
    each = run.sampler.nfe(0, STEPS)
    half = run.denoise(run.noise(2), 4)
    run.preview(half)
    run.finish(half)
    run.store.close()
    again = 0 if run.sampler.can_advance else 2
    assert run.spent.nfe == run.sampler.meter.nfe == 2 * each + again
    assert sum(line.get("nfe", 0) for line in read_journal(tmp_path / "run")) == run.spent.nfe


@pytest.mark.parametrize(("name", "each"), [("heun", 15), ("pndm-f", 17), ("pndm-s", 9), ("unipc", 8)])
def test_a_budget_in_evaluations_is_kept(name, each, tmp_path):
    run = open_run(tmp_path / "run", name, budget=[f"{3 * each + each - 1} nfe"])
    with pytest.raises(BudgetExhausted):
        random(run)
    run.render()
    run.store.close()
    assert run.spent.images == 3
    assert run.spent.nfe == 3 * each


@pytest.mark.parametrize("name", ["heun", "deis-2", "pndm-f"])
def test_gradients_go_through_every_evaluation(name):
    sampler = MixtureSampler(steps=4, solver=registry.make_solver(name))
    x = sampler.noise([3])
    expected = sampler.decode(sampler.denoise(x, 0, 4)[0])
    leaf = x.clone().requires_grad_()
    images = sampler.trace(leaf)
    torch.testing.assert_close(images.detach(), expected, rtol=0, atol=1 / 255)
    (slope,) = torch.autograd.grad(images.sum(), leaf)
    assert float(slope.abs().max()) > 0
