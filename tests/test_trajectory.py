"""Error measurement, VRG, GITS, DMN and the search by a metric, on the exact mixture sampler."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from noisewright.evaluate.bootstrap import interval
from noisewright.samplers.mixture import SHAPE, MixtureSampler
from noisewright.solvers import Ddim
from noisewright.trajectory import dmn, gits, vrg
from noisewright.trajectory.errors import ErrorTable, LevelError
from noisewright.trajectory.files import (
    ScheduleFile,
    identity,
    load_for,
    read_schedule_file,
    write_schedule_file,
)
from noisewright.trajectory.images import own_samples
from noisewright.trajectory.measure import Moments, measure, measured_levels
from noisewright.trajectory.metrics import ByVerifier, Teacher, measured, subjects
from noisewright.trajectory.path import path_of, spaced, with_schedule
from noisewright.trajectory.tune import Bend, tune
from noisewright.verifier import as_verifier

EXACT = 1e-12  # float64, two forms of one sum
PUBLISHED = 1e-4  # anchors are given with four decimals
SAMPLED = 4.0  # standard errors
DEVIATION = 0.5


def single(**settings):
    """One Gaussian, N(0.3, 0.25): its prediction error is known."""
    return MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([DEVIATION]), **settings)


def exact_error(s):
    """E of one Gaussian: the posterior's variance d^2 s^2 / (d^2 + s^2) is m = s^2 E."""
    return DEVIATION**2 / (DEVIATION**2 + s * s)


def exact_table(path, count=400):
    rows = [
        LevelError(path.time(s), s, exact_error(s), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        for s in measured_levels(path, count)
    ]
    return ErrorTable(tuple(rows), 1, "exact", {"model": "m", "fingerprint": "f", "prediction": "vp"}, {})


def gaussian_examples(count, batch=64):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count // batch):
        yield "", 0.3 + DEVIATION * torch.randn(batch, *SHAPE, generator=generator)


# The path


@pytest.mark.parametrize("kind", ["vp", "flow"])
@pytest.mark.parametrize("name", ["uniform", "quadratic", "logsnr"])
def test_spaced_levels_fall_from_the_start_to_the_end_of_the_model(kind, name):
    sampler = single(kind=kind)
    path = path_of(sampler)
    made = spaced(name, path, 6)
    levels = [sigma / alpha if alpha else math.inf for alpha, sigma in zip(made.alpha, made.sigma, strict=True)]
    assert made.steps == 6
    assert all(a > b for a, b in itertools.pairwise(levels))
    assert made.sigma[0] == pytest.approx(sampler.schedule.sigma[0])
    assert path.schedule(path.levels_of(made)).sigma == pytest.approx(made.sigma, rel=1e-9)
    for time, level in zip(made.t[1:], levels[1:], strict=False):
        assert path.level(time) == pytest.approx(level, rel=1e-9)


def test_the_table_of_a_pipeline_gives_its_own_levels_back():
    import tiny
    from noisewright.samplers.pipeline import PipelineSampler

    sampler = PipelineSampler(tiny.sd(), "x", num_inference_steps=5)
    path = path_of(sampler)
    made = path.schedule(path.levels_of(sampler.schedule))
    assert made.t == pytest.approx(sampler.schedule.t, abs=1e-3)
    assert made.sigma == pytest.approx(sampler.schedule.sigma, abs=1e-5)
    x = sampler.noise([1, 2])
    ours, _ = with_schedule(sampler, made, Ddim()).denoise(x, 0, 5)
    own, _ = sampler.denoise(x, 0, 5)
    assert torch.allclose(ours, own, atol=1e-3)


@pytest.mark.parametrize(
    ("levels", "word"), [([], "at least one"), ([1.0, 2.0], "falling"), ([1e6, 1.0], "range"), ([math.nan], "finite")]
)
def test_levels_that_the_model_has_not_are_refused(levels, word):
    with pytest.raises(ValueError, match=word):
        path_of(single()).schedule(levels)


# Measuring


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_measured_errors_of_one_gaussian_are_the_exact_ones(kind):
    sampler = single(kind=kind)
    table = measure(lambda _: sampler, gaussian_examples(512), levels=7, source="drawn")
    assert table.images == 512
    for one in table.levels:
        spread = max(one.mean_square_se, 1e-9)
        assert abs(one.mean_square - exact_error(one.s)) < SAMPLED * spread, one
        assert abs(one.bias) < SAMPLED * one.bias_se
        assert abs(one.kurtosis) < SAMPLED * max(one.kurtosis_se, 0.02)
        assert one.bias_share < 0.05


def test_a_biased_and_heavy_tailed_error_is_called_so():
    moments = Moments(12)
    draws = torch.distributions.StudentT(5.0)
    torch.manual_seed(0)
    moments.add(draws.sample((4000, 12)) + 0.5)
    found = moments.level(1.0, 1.0)
    assert "biased" in found.verdict()
    assert "heavy tails" in found.verdict()
    assert found.bias == pytest.approx(0.5, abs=0.05)
    assert found.bias_share == pytest.approx(0.25 / (0.25 + 5 / 3), abs=0.03)


def test_batches_change_nothing_and_memory_does_not_grow():
    sampler = single()
    tables = [measure(lambda _: sampler, gaussian_examples(128, 64), levels=5, stride=1)]
    whole = torch.cat([x for _, x in gaussian_examples(128, 64)])
    tables.append(measure(lambda _: sampler, [("", whole[:50]), ("", whole[50:])], levels=5, stride=1))
    for one, other in zip(*(table.levels for table in tables), strict=True):
        assert one.mean_square == pytest.approx(other.mean_square, rel=1e-9)
        assert one.kurtosis == pytest.approx(other.kurtosis, rel=1e-6, abs=1e-9)
    moments = Moments(12)
    moments.add(torch.randn(10, 12))
    size = sum(v.numel() for v in vars(moments).values() if torch.is_tensor(v))
    moments.add(torch.randn(1000, 12))
    assert size == sum(v.numel() for v in vars(moments).values() if torch.is_tensor(v))


def test_own_samples_follow_their_seeds():
    sampler = single(steps=4)
    found = list(own_samples(lambda _: sampler, ["a", "b"], count=5, batch=2, seed=7))
    assert [(name, len(x)) for name, x in found] == [("a", 2), ("a", 1), ("b", 2)]
    alone, _ = sampler.denoise(sampler.noise([9]), 0, 4)
    assert torch.allclose(found[1][1], alone, atol=1e-6)


def test_an_error_table_survives_its_file_and_damaged_ones_do_not(tmp_path):
    table = exact_table(path_of(single()), 9)
    file = table.save(tmp_path / "errors.json")
    assert ErrorTable.load(file) == table
    held = json.loads(file.read_text())
    held["levels"][3]["mean_square"] = math.nan
    (tmp_path / "nan.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="finite"):
        ErrorTable.load(tmp_path / "nan.json")
    del held["levels"][3]["mean_square"]
    (tmp_path / "less.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="row 4"):
        ErrorTable.load(tmp_path / "less.json")
    gap = json.loads(file.read_text())
    del gap["levels"][4]
    gap["settings"] = {"levels": 9}
    (tmp_path / "gap.json").write_text(json.dumps(gap))
    with pytest.raises(ValueError, match="missing"):
        ErrorTable.load(tmp_path / "gap.json")
    held["levels"] = held["levels"][:2]
    (tmp_path / "few.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="at least 5 levels"):
        ErrorTable.load(tmp_path / "few.json")
    with pytest.raises(ValueError, match="does not exist"):
        ErrorTable.load(tmp_path / "none.json")


# VRG


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("inner", ["lambda", "nodes"])
@pytest.mark.parametrize("end", [1.0, 0.9991])
def test_both_forms_of_the_objective_agree(order, inner, end):
    table = exact_table(path_of(single()))
    generator = torch.Generator().manual_seed(order)
    for _ in range(5):
        abar = torch.rand(7, dtype=torch.float64, generator=generator).mul(0.998).sort().values
        b = vrg.cumulative_error(abar, table, end, order, inner)
        a = vrg.cumulative_error_a(abar, table, end, order, inner)
        assert abs(float(a - b)) <= EXACT * float(b)


def test_the_objective_is_the_sum_in_the_text():
    """Sum of (s_k - s_next)^2 E(s_k), and of (1 - e^-h)^2 m(s_k), and the pairs and triples, by hand."""
    table = exact_table(path_of(single()))
    abar = torch.tensor([0.01, 0.1, 0.3, 0.6, 0.8, 0.95], dtype=torch.float64)
    s = [*((1 - abar) / abar).sqrt().tolist(), 0.0]
    e = table.at(abar).tolist()
    by_hand = sum((s[k] - s[k + 1]) ** 2 * e[k] for k in range(6))
    assert float(vrg.cumulative_error(abar, table)) == pytest.approx(by_hand, rel=1e-9)
    pairs = sum((s[k] - s[k + 2]) ** 2 * (e[k] + e[k + 1]) for k in (0, 2, 4))
    assert float(vrg.cumulative_error(abar, table, order=2, inner="nodes")) == pytest.approx(pairs, rel=1e-9)
    triples = sum((s[k] - s[k + 3]) ** 2 * sum(e[k : k + 3]) for k in (0, 3))
    assert float(vrg.cumulative_error(abar, table, order=3, inner="nodes")) == pytest.approx(triples, rel=1e-9)
    middle = (s[0] * s[1]) ** 0.5
    first = (s[0] - s[1]) ** 2 * (e[0] + float(table.at(torch.tensor(1 / (1 + middle**2), dtype=torch.float64))))
    two = abar[:2]
    rest = s[1] ** 2 * e[1]  # a last step to 0 has no middle
    assert float(vrg.cumulative_error(two, table, order=2, inner="lambda")) == pytest.approx(first + rest, rel=1e-9)


def test_the_error_that_a_sampler_carries_has_the_weights_of_the_objective():
    """Disturb the network at one level by a known error: the final image moves by (s_k - s_next) times it."""
    sampler = single(steps=5)
    schedule = sampler.schedule
    s = [sigma / alpha for alpha, sigma in zip(schedule.alpha, schedule.sigma, strict=True)]
    k, disturbance = 4, 0.01  # the last step: no later network call answers it
    x = sampler.noise([1])
    x, _ = sampler.denoise(x, 0, k)
    clean = sampler.predict(x, k)
    plain, _ = sampler.advance(x, k, clean)
    moved, _ = sampler.advance(x, k, clean - s[k] * disturbance)
    found = float((moved - plain).mean()) / schedule.alpha[-1]
    assert found == pytest.approx((s[k + 1] - s[k]) * disturbance, rel=1e-3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_a_fit_lowers_the_error_within_the_trust_region(kind, order):
    path = path_of(single(kind=kind))
    table, start, gamma = exact_table(path), spaced("uniform", path, 6), 0.05
    made = vrg.fit_vrg(start, table, path, gamma=gamma, order=order, iterations=60)
    assert made.figures["cpe_after"] < made.figures["cpe_before"]
    end = 1 / (1 + path.end**2)
    before, reach = vrg.trust_region(vrg.abar_of(start), end, gamma)
    after, _ = vrg.trust_region(vrg.abar_of(made.schedule), end, gamma)
    assert ((after - before).abs() <= reach + 1e-7).all()
    again = vrg.fit_vrg(start, table, path, gamma=gamma, order=order, iterations=60)
    assert again.schedule == made.schedule


def test_a_fixed_start_stays_and_a_target_moves_it():
    path = path_of(single())
    table, start = exact_table(path), spaced("uniform", path, 6)
    held = vrg.fit_vrg(start, table, path, gamma=0.05, fixed_start=True, iterations=60)
    assert held.schedule.sigma[0] == pytest.approx(start.sigma[0], abs=1e-9)
    assert held.figures["cpe_after"] < held.figures["cpe_before"]
    free = vrg.fit_vrg(start, table, path, gamma=0.05, target=0.01, penalty=1e4, iterations=100)
    assert free.schedule.sigma[0] < held.schedule.sigma[0]
    control = vrg.perturbed(start, path, 0.05, seed=1)
    assert control != start
    assert vrg.perturbed(start, path, 0.05, seed=1) == control


@pytest.mark.parametrize(
    ("settings", "word"), [({"gamma": 0.0}, "gamma"), ({"target": 2.0}, "target"), ({"order": 4}, "order")]
)
def test_settings_out_of_range_are_refused(settings, word):
    path = path_of(single())
    with pytest.raises(ValueError, match=word):
        vrg.fit_vrg(spaced("uniform", path, 4), exact_table(path), path, iterations=1, **settings)


def test_a_table_that_says_nothing_of_a_level_is_refused():
    path = path_of(single())
    table = exact_table(path, 40)
    some = ErrorTable(table.levels[20:], 1, "part", table.identity, {})
    with pytest.raises(ValueError, match="missing"):
        vrg.fit_vrg(spaced("uniform", path, 4), some, path)


# GITS


def test_the_cheapest_chain_is_the_one_that_brute_force_finds():
    generator = torch.Generator().manual_seed(3)
    for steps, factor in ((2, 1.15), (3, 0.8), (4, 1.2)):
        costs = torch.randn(8, 8, dtype=torch.float64, generator=generator)
        costs = torch.where(torch.ones(8, 8).triu(1).bool(), costs, torch.full_like(costs, math.inf))

        def price(chain, costs=costs, factor=factor):
            return sum(float(costs[i, j]) * factor**k for k, (i, j) in enumerate(itertools.pairwise(chain)))

        best = min(((0, *inner, 7) for inner in itertools.combinations(range(1, 7), steps - 1)), key=price)
        assert gits.shortest(costs, steps, factor) == list(best)


@pytest.mark.parametrize("kind", ["vp", "flow"])
@pytest.mark.parametrize("cost", ["dev", "l2"])
def test_gits_beats_an_even_choice_of_its_own_nodes(kind, cost):
    sampler = MixtureSampler(kind=kind)
    costs, levels, path = gits.teacher_costs([(sampler, range(8)), (sampler, range(8, 12))], nodes=21, cost=cost)
    made = gits.fit_gits(costs, levels, path, 5, factor=1.0)
    assert made.schedule.steps == 5
    even = [0, 4, 8, 12, 16, 20]
    assert made.figures["total"] <= sum(float(costs[i, j]) for i, j in itertools.pairwise(even))
    assert made.schedule.sigma[0] == pytest.approx(sampler.schedule.sigma[0])
    if cost == "l2":  # one fine step is the teacher's own
        assert float(costs.diagonal(1).abs().max()) < 1e-5


def test_more_steps_than_the_teacher_has_are_refused():
    with pytest.raises(ValueError, match="1 to 7 steps"):
        gits.shortest(torch.zeros(8, 8), 9)


# DMN


def half_log_snr(t, low=0.1, high=20.0):
    """Of the VP process with linear beta."""
    log_alpha = -0.25 * t**2 * (high - low) - 0.5 * t * low
    return log_alpha - 0.5 * np.log(-np.expm1(2 * log_alpha))


@pytest.mark.parametrize(("steps", "logsnr", "uniform"), [(6, 171.0305, 58.7883), (10, 28.6122, 25.8643)])
def test_the_bound_has_its_published_values(steps, logsnr, uniform):
    even = np.linspace(half_log_snr(1.0), half_log_snr(1e-3), steps + 1)
    times = half_log_snr(np.linspace(1, 1e-3, steps + 1))
    found = dmn.objective(np.stack([even, times]), power=2, independent=3)
    assert found == pytest.approx([logsnr, uniform], rel=PUBLISHED)


def test_the_weights_are_the_integrals():
    used, stop = np.array([[-1.0, 0.2, 0.9]]), np.array([1.7])
    grid = np.linspace(0.9, 1.7, 20001)
    for j, weight in enumerate(dmn._weights(used, stop)[0]):
        others = [k for k in range(3) if k != j]
        basis = np.prod([(grid - used[0, k]) / (used[0, j] - used[0, k]) for k in others], axis=0)
        assert weight == pytest.approx(np.trapezoid(np.exp(grid) * basis, grid), rel=1e-6)


def test_the_minimum_is_the_published_one_or_lower():
    start = half_log_snr(np.linspace(1, 1e-3, 7))
    made = dmn.minimise(start, power=2, evaluations=6000)
    assert dmn.objective(made[None], power=2)[0] <= 38.348
    assert np.all(np.diff(made) > 0)


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_dmn_gives_a_schedule_of_any_model(steps):
    path = path_of(single(kind="flow"))
    made = dmn.fit_dmn(path, steps, evaluations=500)
    assert made.schedule.steps == steps
    assert made.figures["bound"] <= min(made.figures["bound_from_logsnr"][0], made.figures["bound_from_uniform"][0])


# The search by a metric


def test_the_family_holds_its_first_schedule_and_only_valid_ones():
    path = path_of(single())
    start = spaced("uniform", path, 5)
    bend = Bend(path, tuple(path.levels_of(start)))
    assert bend([0.0] * bend.size).sigma == pytest.approx(start.sigma, rel=1e-9)
    generator = np.random.default_rng(0)
    for _ in range(50):
        bend(generator.normal(size=bend.size) * 5)  # raises where levels do not fall


def test_a_search_improves_where_it_is_tuned_and_is_told_on_other_seeds():
    sampler = MixtureSampler()
    path = path_of(sampler)
    tuning = subjects(lambda _: sampler, ["a mixture"], 8)
    reporting = subjects(lambda _: sampler, ["a mixture"], 8, seed=100)
    start = spaced("logsnr", path, 4)
    made = tune(start, path, Ddim(), Teacher(40), tuning, reporting, evaluations=25)
    before, best = made.figures["tuning"]
    assert best < before
    other = measured(made.schedule, Ddim(), reporting, [Teacher(40)])["teacher"]
    assert made.figures["reported"][1] == pytest.approx(float(other.mean()), rel=1e-6)
    with pytest.raises(ValueError, match="in both"):
        tune(start, path, Ddim(), Teacher(40), tuning, tuning)


def test_a_verifier_is_climbed():
    sampler = MixtureSampler()
    verifier = as_verifier(lambda images, prompt: images.flatten(1).std(1).tolist())
    some = subjects(lambda _: sampler, ["a", "b"], 5, batch=2)
    assert [one.seeds for one in some] == [(0, 1), (2,), (3, 4)]
    found = measured(sampler.schedule, Ddim(), some, [ByVerifier(verifier)])
    assert [len(rows) for rows in found.values()] == [5]
    low, high = interval(torch.arange(50.0).double())
    assert low < 24.5 < high


# Files


def test_a_schedule_file_is_for_its_model(tmp_path):
    sampler, other = single(), MixtureSampler()
    path = path_of(sampler)
    made = ScheduleFile(spaced("uniform", path, 4), "ddim", identity(sampler), {"method": "none"}, {"a": 1.0})
    file = write_schedule_file(tmp_path / "new" / "s.json", made)
    assert read_schedule_file(file) == made
    assert load_for(file, sampler) == made.schedule
    with pytest.raises(ValueError, match="--force"):
        load_for(file, other)
    assert load_for(file, other, force=True) == made.schedule
    held = json.loads(file.read_text())
    assert held["diffusers"]["sigmas"][-1] == pytest.approx(path.end)
    for change, word in (
        ({"sigma": held["sigma"][::-1], "alpha": held["alpha"][::-1]}, "falling"),
        ({"t": held["t"][1:]}, "times"),
        ({"format": "else"}, "something else"),
        ({"version": 99}, "version"),
        ({"alpha": None}, "levels"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**held, **change}))
        with pytest.raises(ValueError, match=word):
            read_schedule_file(tmp_path / "bad.json")
