"""Every search against the contract that plug-ins are tested with, and what each has of its own."""

import math

import pytest
import torch

from noisewright import registry
from noisewright.run.reading import read_journal
from noisewright.search.fk import normalised, systematic
from noisewright.testing import CONTRACT, STEPS, Case


def search(name):
    return registry.make_search(name)


def levels_of(kind):
    return Case(search("random"), kind=kind)


def paths_nfe(kind, width, children, level=0.11, up=0.78, down=0.81):
    """The docstring's formula, from the schedule's own indices."""
    from noisewright.samplers.mixture import MixtureSampler

    schedule = MixtureSampler(steps=STEPS, kind=kind).schedule
    here = schedule.nearest(level)
    cost = width * here
    while True:
        back = schedule.nearest(level + up)
        level = max(0.0, level + up - down)
        here = max(here, schedule.nearest(level))
        if level == 0 or here >= STEPS:
            return cost + width * children * (STEPS - back)
        cost += width * children * (here - back + 1)


def svdd_nfe(steps, width, proposals, block, begin=0.4):
    first = round(begin * steps)
    last = first + block * ((steps - 1 - first) // block)
    return width * (first + proposals * (last - first + 1) + steps - last - 1)


def rbf_nfe(steps, first, quota, block, begin=0.4):
    index = round(begin * steps)
    last = index + block * ((steps - 1 - index) // block)
    return first * (index + 1) + quota * (last - index) + steps - 1 - last


CASES = {
    "random": Case(search("random"), {"n": 5}, nfe=lambda steps: steps * 5),
    "zero-order": Case(search("zero-order"), {"neighbours": 3, "rounds": 2}, nfe=lambda steps: steps * 7),
    "zero-order, shrink": Case(
        search("zero-order"),
        {"neighbours": 1, "rounds": 4, "on_failure": "shrink", "patience": 1},
        nfe=lambda steps: steps * 5,
    ),
    "zero-order, restart": Case(
        search("zero-order"), {"neighbours": 1, "rounds": 4, "on_failure": "restart", "patience": 1, "cosine": 0.5}
    ),
    "paths": Case(search("paths"), {"width": 2, "children": 3}, nfe=lambda steps: paths_nfe("vp", 2, 3)),
    "paths, flow": Case(
        search("paths"), {"width": 2, "children": 3}, nfe=lambda steps: paths_nfe("flow", 2, 3), kind="flow"
    ),
    "zero-order+paths": Case(
        search("zero-order+paths"),
        {"neighbours": 2, "rounds": 2, "width": 2, "children": 2},
        nfe=lambda steps: steps * 5 + paths_nfe("vp", 2, 2),
    ),
    "fk": Case(search("fk"), {"particles": 4}, nfe=lambda steps: 4 * steps, eta=1.0),
    "fk, max, flow": Case(
        search("fk"),
        {"particles": 4, "potential": "max", "temperature": 0.01},
        nfe=lambda steps: 4 * steps,
        eta=0.7,
        kind="flow",
    ),
    "svdd": Case(
        search("svdd"),
        {"proposals": 3, "block": 1, "width": 1, "rounds": 1},
        nfe=lambda steps: svdd_nfe(steps, 1, 3, 1),
        eta=1.0,
    ),
    "svdd, blocks": Case(
        search("svdd"),
        {"proposals": 2, "block": 3, "width": 2, "temperature": 0.01, "rounds": 2},
        nfe=lambda steps: 2 * svdd_nfe(steps, 2, 2, 3),
        eta=1.0,
        kind="flow",
    ),
    "svdd, from the start": Case(
        search("svdd"),
        {"proposals": 3, "block": 1, "width": 1, "begin": 0.0, "rounds": 1},
        nfe=lambda steps: svdd_nfe(steps, 1, 3, 1, 0.0),
        eta=1.0,
    ),
    "rbf": Case(
        search("rbf"),
        {"quota": 3, "first": 4, "batch": 2, "begin": 0.4, "block": 1, "rounds": 1},
        nfe=lambda steps: rbf_nfe(steps, 4, 3, 1),
        eta=1.0,
    ),
    "rbf, from the start": Case(
        search("rbf"),
        {"quota": 5, "first": 4, "batch": 2, "begin": 0.0, "block": 1, "rounds": 1},
        nfe=lambda steps: rbf_nfe(steps, 4, 5, 1, 0.0),
        eta=1.0,
    ),
    "rbf, blocks": Case(
        search("rbf"),
        {"quota": 3, "first": 2, "batch": 2, "begin": 0.4, "block": 2, "rounds": 3},
        nfe=lambda steps: 3 * rbf_nfe(steps, 2, 3, 2),
        eta=1.0,
        kind="flow",
    ),
    "evolution": Case(
        search("evolution"),
        {"population": 4, "elites": 1, "at": (0.0, 0.5), "back": 0.25},
        nfe=lambda steps: 4 * steps + 3 * steps + 3 * (steps - steps // 4),
    ),
    "halving": Case(
        search("halving"),
        {"n": 10, "pilot": 4, "threshold": -1},
        nfe=lambda steps: 4 * steps + (6 * 4 + 3) + (3 * 1 + 1) + 2 * (steps - 5),
    ),
    "halving, refused": Case(
        search("halving"),
        {"n": 6, "pilot": 4, "threshold": 1.0, "cuts": (0.125,), "keep": (0.5,)},
        nfe=lambda steps: 6 * steps,
    ),
    "halving, all pilot": Case(search("halving"), {"n": 3, "pilot": 4}, nfe=lambda steps: 3 * steps),
    "refine": Case(
        search("refine"), {"population": 3, "elites": 2, "generations": 2}, nfe=lambda steps: steps * 7
    ),
    "refine, cmaes": Case(
        search("refine"),
        {"method": "cmaes", "population": 4, "generations": 2, "dimensions": 3},
        nfe=lambda steps: steps * 9,
    ),
    "gradient": Case(
        search("gradient"),
        {"starts": 2, "iterations": 3, "every": 2, "rate": 1.0},
        nfe=lambda steps: 2 * steps * (1 + 3 + 2),
    ),
}  # fmt: skip


def test_every_search_is_here():
    assert {name.split(",")[0] for name in CASES} == set(registry.names("search"))


@pytest.mark.sampled(10)
@pytest.mark.parametrize("check", CONTRACT.values(), ids=CONTRACT)
@pytest.mark.parametrize("name", CASES)
def test_contract(name, check, tmp_path):
    check(CASES[name], tmp_path)


BAD = {
    "zero-order": [{"neighbours": 0}, {"cosine": 1.0}, {"rounds": 0}, {"shrink": 0.0}],
    "paths": [
        {"level": 0.5, "up": 0.001, "down": 0.02},
        {"width": 0},
        {"up": 0.8, "down": 0.7},
        {"level": 0.5, "up": 0.6, "down": 0.7},
        {"level": 0.0},
    ],
    "zero-order+paths": [{"neighbours": 1, "rounds": 1, "width": 6}, {"rounds": 0}, {"up": 0.9, "down": 0.8}],
    "fk": [{"particles": 0}, {"at": (0.5, 0.2)}, {"at": ()}, {"temperature": 0.0}, {"ess": 2.0}],
    "svdd": [{"proposals": 0}, {"block": 99}, {"temperature": -1.0}, {"rounds": 0}],
    "rbf": [{"quota": 0}, {"first": 0}, {"block": 0}, {"block": 99}, {"rounds": 0}],
    "evolution": [
        {"elites": 8},
        {"at": (0.5, 0.2)},
        {"at": (1.0,)},
        {"at": (0.0, 0.01)},
        {"mutation": 0.0},
        {"back": 0.0},
    ],
    "halving": [{"n": 0}, {"pilot": 3}, {"cuts": (0.5, 0.25)}, {"keep": (0.5,)}, {"keep": (0.0, 0.5)}],
    "refine": [
        {"elites": 9},
        {"method": "cmaes", "dimensions": 99},
        {"population": 1},
        {"cosine": 1.0},
        {"method": "cmaes", "dimensions": 1},
    ],
    "random": [{"n": 0}],
    "gradient": [{"starts": 0}, {"momentum": 1.0}, {"rate": 0.0}, {"every": 0}],
}


@pytest.mark.parametrize(("name", "arguments"), [(name, one) for name, many in BAD.items() for one in many])
def test_bad_arguments_are_one_line_before_anything_is_spent(name, arguments, tmp_path):
    run = Case(search(name), arguments, eta=1.0).open(tmp_path / "run")
    with pytest.raises(ValueError, match="expected") as caught:
        search(name)(run, **arguments)
    assert "\n" not in str(caught.value)
    assert run.sampler.meter.nfe == 0
    run.store.close()


@pytest.mark.parametrize("name", ["fk", "svdd", "rbf"])
def test_step_noise_is_asked_for_where_copies_would_stay_equal(name, tmp_path):
    run = Case(search(name)).open(tmp_path / "run")
    with pytest.raises(ValueError, match="eta 1"):
        search(name)(run)
    assert run.sampler.meter.nfe == 0
    run.store.close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("svdd", {"proposals": 1, "width": 1, "rounds": 1}),
        ("rbf", {"quota": 1, "first": 1, "rounds": 1}),
    ],
)
def test_one_proposal_is_plain_sampling(name, arguments, tmp_path):
    case = Case(search(name), arguments, eta=1.0)
    run = case.open(tmp_path / "run")
    case.go(run, render=False)
    plain = Case(search("random"), {"n": 1}, eta=1.0)
    other = plain.open(tmp_path / "plain")
    plain.go(other)
    assert run.spent.nfe == STEPS
    assert [one.pixels for one in run.candidates.values()] == [one.pixels for one in other.candidates.values()]


def test_rbf_rolls_over_what_it_saves_and_never_exceeds_its_quota(tmp_path):
    """Proposals at each step, read from the journal: what one step saves the next may try."""
    quota, batch = 4, 2
    arguments = {"quota": quota, "first": 2, "batch": batch, "begin": 0.0, "block": 1, "rounds": 1}
    run = Case(search("rbf"), arguments, eta=1.0).open(tmp_path / "run")
    Case(search("rbf"), arguments, eta=1.0).go(run, render=False)
    tried = dict.fromkeys(range(1, STEPS), 0)
    for line in read_journal(tmp_path / "run"):
        if line["verb"] == "preview" and line["index"] > 0:
            tried[line["index"]] += len(line["ids"])
    saved = 0
    for index, count in tried.items():
        assert count <= quota + saved, f"step {index}"
        saved += quota - count
    assert saved == 0, "something was saved and never spent"
    assert min(tried.values()) < quota < max(tried.values())


def root(particle):
    return root(particle.parent) if particle.parents else particle


@pytest.mark.parametrize(("name", "arguments"), [("svdd", {"proposals": 2}), ("rbf", {"quota": 2, "first": 2})])
def test_step_wise_searches_go_on_from_new_noise_until_the_budget_ends(name, arguments, tmp_path):
    case = Case(search(name), arguments, eta=1.0)
    run = case.open(tmp_path / "run", "6 images")
    case.go(run, render=False)
    assert len(run.candidates) == 6
    assert len({root(one.particle).key for one in run.candidates.values()}) == 6
    few = case.open(tmp_path / "few", "50 nfe")
    case.go(few, render=False)
    assert few.spent.nfe <= 50 < few.spent.nfe + 2 * STEPS, "what no further trajectory fits in is at most one"


def test_zero_order_keeps_angle_and_norm(tmp_path):
    run = Case(search("random")).open(tmp_path / "run")
    (pivot,) = run.noise(1)
    x = run.state(pivot).double().flatten()
    for child in run.vary(pivot, 5, 0.95):
        y = run.state(child).double().flatten()
        assert float(x @ y / x.norm() / y.norm()) == pytest.approx(0.95, abs=1e-6)
        assert float(y.norm() / x.norm()) == pytest.approx(1, abs=1e-6)
    run.store.close()


def test_halving_cuts_with_good_previews_and_refuses_with_useless_ones(tmp_path):
    from noisewright.verifiers.pixels import Brightness

    class Useless(Brightness):
        """Right about finished images; of previews it says something that has nothing to do with them."""

        def __init__(self):
            self.calls = 0

        def __call__(self, images, prompt):
            self.calls += 1
            found = super().__call__(images, prompt)
            return [math.sin(1e6 * value) for value in found] if self.calls <= 4 else found

    arguments = {"n": 24, "pilot": 8, "cuts": (0.5,), "keep": (0.25,)}
    case = Case(search("halving"), arguments)
    run = case.open(tmp_path / "good", batch_size=4)
    case.go(run, render=False)
    everyone = Case(search("random"), {"n": 24})
    whole = everyone.open(tmp_path / "all", batch_size=4)
    everyone.go(whole)
    assert run.best.seed == whole.best.seed
    assert run.spent.nfe == 8 * STEPS + 16 * (STEPS // 2 + 1) + 4 * (STEPS // 2 - 1)
    assert not run.warnings
    blind = case.open(tmp_path / "useless", batch_size=4, verifiers=[Useless()])
    case.go(blind, render=False)
    assert len(blind.candidates) == 24
    assert "makes no cut" in blind.warnings[0]


def test_systematic_resampling_takes_each_about_as_often_as_its_share():
    shares = normalised([0.0, math.log(2), math.log(5), math.log(0.1)])
    for offset in torch.linspace(0, 0.999, 21).tolist():
        chosen = systematic(shares, offset)
        assert len(chosen) == 4
        for k, share in enumerate(shares):
            assert math.floor(4 * share) <= chosen.count(k) <= math.ceil(4 * share)


def test_the_gradient_is_that_of_central_differences_in_float64():
    from noisewright.samplers.mixture import MixtureSampler
    from noisewright.verifiers.pixels import Brightness

    for kind in ("vp", "flow"):
        sampler = MixtureSampler(steps=4, kind=kind)
        x = sampler.noise([3]).double().requires_grad_()

        def value(at, sampler=sampler):
            return Brightness().gradient_scores(sampler.trace(at), "").sum()

        (slope,) = torch.autograd.grad(value(x), x)
        step = 1e-5
        for place in range(x.numel()):
            nudge = torch.zeros_like(x).flatten()
            nudge[place] = step
            nudge = nudge.view_as(x)
            with torch.no_grad():
                central = (value(x + nudge) - value(x - nudge)) / (2 * step)
            assert float(slope.flatten()[place]) == pytest.approx(float(central), abs=1e-8, rel=1e-5)


def test_gradient_climbs(tmp_path):
    run = Case(search("gradient"), {"iterations": 10, "rate": 5.0, "norm_weight": 0.001}).open(tmp_path / "run")
    Case(search("gradient"), {"iterations": 10, "rate": 5.0, "norm_weight": 0.001}).go(run)
    assert run.best.scores["brightness"] > run.baseline.scores["brightness"]


def test_a_verifier_without_a_gradient_is_refused_before_anything_is_spent(tmp_path):
    from noisewright.errors import NotDifferentiable
    from noisewright.verifiers.pixels import Sharpness

    run = Case(search("gradient")).open(tmp_path / "run", verifiers=[Sharpness()])
    with pytest.raises(NotDifferentiable, match="sharpness"):
        search("gradient")(run)
    assert run.sampler.meter.nfe == 0
    run.store.close()
