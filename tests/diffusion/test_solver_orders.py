"""The order of convergence of every solver on an exact mixture, in float64: the slope of the error over the steps."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from noisewright import registry
from noisewright.diffusion.clock import vp_level
from noisewright.diffusion.noise import gaussian
from noisewright.diffusion.schedule import Estimate, Schedule, estimate
from noisewright.diffusion.solvers import Ddim, DpmPlusPlus, DpmPlusPlusSde, SPndm, UniPc, nfe
from noisewright.samplers.mixture import SHAPE, MixtureSampler, vp_schedule
from solving import trajectory

STEPS = (48, 96)  # no fewer than 15, where the last steps are of lower order
KNOWN = 8  # one part in so many is given: a first step of first order, as most methods begin, would hide the rest
ROOM = 0.35  # between a slope over these steps and the order it tends to
GUIDANCE = 3.0

ORDERS = {
    "ddim": 1, "euler": 1, "heun": 2, "dpm-solver-2": 2, "dpm-solver-3": 3, "dpmpp-2m": 2, "dpmpp-3m": 2, "deis-1": 2,
    "deis-2": 3, "deis-3": 4, "pndm-s": 2, "pndm-f": 2, "ipndm": 2, "unipc": 3,
}  # fmt: skip
SPLITTING = {"ltsp": 1, "stsp": 1}


def levels(steps):
    """Even in half log-SNR, which the nodes of DPM-Solver-3 need; the time is the angle."""
    logs = torch.linspace(1.2, -1.6, steps + 1, dtype=torch.float64)
    angle = logs.exp().atan()
    return Schedule(tuple(logs[:-1].tolist()), tuple(angle.cos().tolist()), tuple(angle.sin().tolist()))


def uneven(steps):
    """The same ends with steps in half log-SNR that are 1 and 2.5 long in turn."""
    gaps = torch.tensor([1.0, 2.5], dtype=torch.float64).repeat(steps // 2)
    logs = 1.2 - 2.8 * torch.cat([torch.zeros(1, dtype=torch.float64), gaps.cumsum(0)]) / gaps.sum()
    angle = logs.exp().atan()
    return Schedule(tuple(logs[:-1].tolist()), tuple(angle.cos().tolist()), tuple(angle.sin().tolist()))


@cache
def mixture():
    means = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.5
    return MixtureSampler(means, torch.tensor([0.6, 0.7, 0.8, 0.9]))


@cache
def conditional():
    """The same with other weights: what the prompt is about."""
    one = mixture()
    return MixtureSampler(one.means, one.deviations, torch.tensor([0.7, 0.1, 0.1, 0.1]))


def look(x, level):
    return estimate(mixture().clean_mean(x, level.alpha, level.sigma), x, level.alpha, level.sigma, "sample")


def guided(x, level):
    plain = look(x, level)
    clean = conditional().clean_mean(x, level.alpha, level.sigma)
    joined = plain.clean + GUIDANCE * (clean - plain.clean)
    found = estimate(joined, x, level.alpha, level.sigma, "sample")
    return Estimate(found.clean, found.noise, plain)


@cache
def exact(steps, network, spacing=levels):
    """States at every index by Runge and Kutta's classical method in x/alpha against s, two parts to a step."""
    schedule = spacing(steps)

    def slope(y, s):
        alpha = 1 / math.sqrt(1 + s * s)
        return network(alpha * y, vp_level(0.0, s)).noise

    x = torch.stack([gaussian(SHAPE, key) for key in (3, 4)]).double() * schedule.sigma[0]
    found, y = [x], x / schedule.alpha[0]
    for index in range(steps):
        start, stop = (schedule.sigma[n] / schedule.alpha[n] for n in (index, index + 1))
        h = (stop - start) / 2
        for part in range(2):
            s = start + part * h
            first = slope(y, s)
            second = slope(y + h / 2 * first, s + h / 2)
            third = slope(y + h / 2 * second, s + h / 2)
            fourth = slope(y + h * third, s + h)
            y = y + h / 6 * (first + 2 * second + 2 * third + fourth)
        found.append(schedule.alpha[index + 1] * y)
    return found


def error(solver, steps, network=look, spacing=levels):
    states = exact(steps, network, spacing)
    found, count = trajectory(solver, spacing(steps), states[0], network, known=tuple(states[: steps // KNOWN]))
    assert count == nfe(solver, spacing(steps), 0, steps)
    return float((found - states[-1]).abs().max())


def slope(solver, network=look, spacing=levels):
    few, many = (error(solver, steps, network, spacing) for steps in STEPS)
    return math.log2(few / many)


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name):
    """At least as steep as the order says, and as the listing says."""
    solver = registry.make_solver(name)
    found = slope(replace(solver, lower_order_final=False) if name == "unipc" else solver)
    assert found > ORDERS[name] - ROOM, found
    if name not in ("pndm-s", "pndm-f", "ipndm"):  # of order 4 where steps are even in s
        assert found < ORDERS[name] + 1, found
    assert registry.entry("solver", name).details["order"].partition(",")[0] == str(ORDERS[name])


UNEVEN = {
    "ddim": 1, "heun": 2, "dpm-solver-2": 2, "dpm-solver-3": 2, "dpmpp-2m": 2, "dpmpp-3m": 2, "deis-1": 2, "deis-2": 3,
    "deis-3": 4, "pndm-s": 1, "pndm-f": 1, "ipndm": 1, "unipc": 3,
}  # fmt: skip
"""What is left of the orders on uneven levels: the third of dpm-solver-3, whose weight is for a middle at two thirds,
and the second of PNDM's fixed Adams-Bashforth weights are lost."""


@pytest.mark.parametrize("name", UNEVEN)
def test_order_of_convergence_on_uneven_levels(name):
    solver = registry.make_solver(name)
    found = slope(replace(solver, lower_order_final=False) if name == "unipc" else solver, spacing=uneven)
    assert abs(found - UNEVEN[name]) < ROOM, found
    lower = UNEVEN[name] < ORDERS[name]
    assert ("uneven" in registry.entry("solver", name).details["order"]) == lower


@pytest.mark.parametrize("name", SPLITTING)
def test_order_of_splitting_on_uneven_levels(name):
    assert abs(slope(registry.make_solver(name), guided, uneven) - SPLITTING[name]) < ROOM


def test_orders_are_told_apart():
    """The same steps, higher orders: smaller errors."""
    errors = [error(registry.make_solver(name), STEPS[1]) for name in ("ddim", "deis-1", "deis-2", "deis-3")]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 1000


def test_the_sde_solver_without_noise_is_the_deterministic_one():
    assert error(DpmPlusPlusSde(0.0), 48) == pytest.approx(error(registry.make_solver("dpmpp-2m"), 48), rel=1e-6)


def test_unipc_of_higher_order():
    assert slope(UniPc(3, lower_order_final=False)) > 3 + ROOM / 2  # on its way to 4


def test_dpmpp_3m_is_of_third_order_with_its_whole_last_term():
    assert slope(DpmPlusPlus(3, halved=False)) > 3 - ROOM


def test_s_pndm_of_the_paper_is_of_second_order():
    assert slope(SPndm(terms=2)) > 2 - ROOM


@pytest.mark.parametrize("name", SPLITTING)
def test_order_of_splitting(name):
    found = slope(registry.make_solver(name), guided)
    assert found > SPLITTING[name] - ROOM, found
    assert registry.entry("solver", name).details["order"] == str(SPLITTING[name])


def test_strang_splits_better_than_lie_and_trotter():
    lie, strang = (error(registry.make_solver(name), STEPS[0], guided) for name in ("ltsp", "stsp"))
    assert strang < lie


def test_splitting_needs_the_prediction_without_guidance():
    with pytest.raises(ValueError, match="with and without guidance"):
        trajectory(registry.make_solver("ltsp"), levels(STEPS[0]), exact(STEPS[0], look)[0], look)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_sde_solver_keeps_the_marginal_variance(eta):
    """Data of variance v: the state's is alpha^2 v + sigma^2 at every level."""
    schedule, variance = levels(48), 0.25
    sampler = MixtureSampler(torch.zeros(1, *SHAPE), torch.tensor([variance**0.5]))

    def network(x, level):
        return estimate(sampler.clean_mean(x, level.alpha, level.sigma), x, level.alpha, level.sigma, "sample")

    draws = torch.randn(49, 400, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = [math.hypot(variance**0.5 * schedule.alpha[n], schedule.sigma[n]) for n in (0, -1)]
    found, _ = trajectory(DpmPlusPlusSde(eta), schedule, draws[0] * spread[0], network, noise=draws[1:])
    assert float(found.std()) == pytest.approx(spread[1], rel=0.05)  # a standard error of 4,800 draws is 1 %


def test_a_single_gaussian_is_solved_by_its_closed_form():
    """The reference itself: for one Gaussian the standardised state stays (Euler's error of first order aside)."""
    schedule = vp_schedule(400)
    sampler = MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([0.5]))

    def network(x, level):
        return estimate(sampler.clean_mean(x, level.alpha, level.sigma), x, level.alpha, level.sigma, "sample")

    x = torch.stack([gaussian(SHAPE, 1)]).double()
    spread = [math.hypot(0.5 * schedule.alpha[n], schedule.sigma[n]) for n in (0, -1)]
    wanted = schedule.alpha[-1] * 0.3 + spread[1] / spread[0] * (x - schedule.alpha[0] * 0.3)
    for solver, near in ((Ddim(), 0.02), (registry.make_solver("deis-3"), 1e-4)):
        assert float((trajectory(solver, schedule, x, network)[0] - wanted).abs().max()) < near
