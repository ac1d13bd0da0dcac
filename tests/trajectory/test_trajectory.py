"""Error measurement, VRG, GITS, DMN and the search by a metric, on the exact mixture sampler."""

import itertools
import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from noisewright.diffusion.schedule import Estimate, Schedule, ending_clean
from noisewright.diffusion.solvers import Ddim, DpmSolver, transition
from noisewright.measures.bootstrap import interval
from noisewright.samplers.levels import read_levels
from noisewright.samplers.mixture import SHAPE, MixtureSampler
from noisewright.trajectory import dmn, gits, vrg
from noisewright.trajectory.errors import ErrorTable, LevelError
from noisewright.trajectory.files import (
    FittedSchedule,
    identity,
    load_for,
    on_path,
    read_schedule_file,
    write_schedule_file,
)
from noisewright.trajectory.images import own_samples
from noisewright.trajectory.measure import Moments, measure, measured_levels
from noisewright.trajectory.metrics import ByVerifier, Teacher, metric_values, noise_batches
from noisewright.trajectory.path import ModelPath, path_of, ruled, with_schedule
from noisewright.trajectory.tune import ScheduleFamily, tune
from noisewright.verifiers.protocol import as_verifier

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
    made = ruled(name, path, 6)
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


def gaussian_levels(count, sets):
    """What is found of errors that are Gaussian, again and again."""
    generator = torch.Generator().manual_seed(count)
    for _ in range(sets):
        moments = Moments(1024)
        moments.add(torch.randn(count, 1024, generator=generator))
        yield moments.level(1.0, 1.0)


@pytest.mark.parametrize("count", [10, 50])
def test_gaussian_errors_have_no_tails_however_few_images_there_are(count):
    found = list(gaussian_levels(count, 100))
    assert {one.images for one in found} == {count}
    assert sum("tails" in one.verdict() or "skewed" in one.verdict() for one in found) < 8
    for name in ("skew", "kurtosis"):
        values = torch.tensor([getattr(one, name) for one in found])
        assert abs(values.mean()) < SAMPLED * values.std() / len(values) ** 0.5 < 6 / (count + 1), name


@pytest.mark.parametrize("count", [3, 4, 9])
def test_skew_and_kurtosis_are_those_of_the_definition(count):
    """Joanes and Gill's G1 and G2, from k-statistics; 0 where there are too few numbers."""
    x = torch.rand(count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moments = Moments(1)
    moments.add(x)
    found = moments.level(1.0, 1.0)
    n, (m2, m3, m4) = count, [float((x - x.mean()).pow(k).mean()) for k in (2, 3, 4)]
    k2, k3 = n / (n - 1) * m2, n**2 / ((n - 1) * (n - 2)) * m3
    assert found.skew == pytest.approx(k3 / k2**1.5, rel=1e-9)
    k4 = n**2 * ((n + 1) * m4 - 3 * (n - 1) * m2**2) / ((n - 1) * (n - 2) * (n - 3)) if n > 3 else 0.0
    assert found.kurtosis == pytest.approx(k4 / k2**2, rel=1e-9)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_of_too_few_images_no_verdict_is_given(count):
    (found,) = gaussian_levels(count, 1)
    assert all(math.isfinite(value) for value in vars(found).values())
    assert found.verdict() == "too few images"
    assert not found.departs
    assert (found.kurtosis == 0) == (count < 4)
    assert (found.skew == 0) == (count < 3)


def test_errors_that_do_not_vary_have_no_shape():
    moments = Moments(5)
    moments.add(torch.full((9, 5), 0.1))
    found = moments.level(1.0, 1.0)
    assert (found.skew, found.kurtosis) == (0, 0)
    assert "biased" in found.verdict()


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


def test_a_table_that_does_not_say_how_many_images_a_level_had_is_read(tmp_path):
    """As those of earlier versions do not; all other numbers are still wanted."""
    sampler = single()
    table = measure(lambda _: sampler, gaussian_examples(64), levels=5)
    assert {one.images for one in table.levels} == {32}
    file = table.save(tmp_path / "errors.json")
    assert ErrorTable.load(file) == table
    held = json.loads(file.read_text())
    for row in held["levels"]:
        del row["images"]
    file.write_text(json.dumps(held))
    older = ErrorTable.load(file)
    assert [replace(one, images=32) for one in older.levels] == list(table.levels)
    assert {one.images for one in older.levels} == {0}
    assert not any("few" in one.verdict() for one in older.levels)
    for wrong, word in (
        (2.5, "whole number of images at each level"),
        (-1, "whole number"),
        ("x", "row 1"),
        (None, "row 1"),
    ):
        held["levels"][0]["images"] = wrong
        file.write_text(json.dumps(held))
        with pytest.raises(ValueError, match=word):
            ErrorTable.load(file)
    for row in (7, "x", [], None):
        file.write_text(json.dumps({**held, "levels": [row]}))
        with pytest.raises(ValueError, match="row 1"):
            ErrorTable.load(file)


@pytest.mark.parametrize("name", [one.name for one in fields(LevelError)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_table_with_a_number_that_is_not_finite_is_refused(name, value, tmp_path):
    file = exact_table(path_of(single()), 9).save(tmp_path / "errors.json")
    held = json.loads(file.read_text())
    held["levels"][3][name] = value
    file.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=f"finite numbers in the error table, got {name}"):
        ErrorTable.load(file)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"settings": None}, "settings of the measurement.*None"),
        ({"settings": []}, "settings"),
        ({"images": None}, "whole number of images.*None"),
        ({"images": math.nan}, "whole number of images.*nan"),
        ({"levels": None}, "at least 5 levels"),
    ],
)
def test_a_damaged_table_is_told_plainly(change, word, tmp_path):
    file = exact_table(path_of(single()), 9).save(tmp_path / "errors.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=word):
        ErrorTable.load(file)


@pytest.mark.parametrize(("count", "stride"), [(1, 1), (3, 2), (0, 2)])
def test_too_few_images_are_counted_with_the_stride(count, stride):
    sampler = single()
    examples = [("", torch.zeros(count, *SHAPE))] if count else []
    with pytest.raises(ValueError, match=f"at least {2 * stride} images at stride {stride}.*got {count or 'none'}"):
        measure(lambda _: sampler, examples, levels=5, stride=stride)


# VRG


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("count", [6, 7])
@pytest.mark.parametrize("end", [1.0, 0.9991])
def test_both_forms_of_the_objective_agree(order, count, end):
    table = exact_table(path_of(single()))
    generator = torch.Generator().manual_seed(order)
    for _ in range(5):
        abar = torch.rand(count, dtype=torch.float64, generator=generator).mul(0.998).sort().values
        b = vrg.cumulative_error(abar, table, end, order)
        a = vrg.cumulative_error_a(abar, table, end, order)
        assert abs(float(a - b)) <= EXACT * float(b)


def test_the_objective_is_the_sum_in_the_text():
    """Sum of (s_k - s_next)^2 E(s_k), and of (1 - e^-h)^2 m(s_k), and the pairs and triples, by hand."""
    table = exact_table(path_of(single()))
    abar = torch.tensor([0.01, 0.1, 0.3, 0.6, 0.8, 0.95], dtype=torch.float64)
    s = [*((1 - abar) / abar).sqrt().tolist(), 0.0]
    e = table.at(abar).tolist()
    by_hand = sum((s[k] - s[k + 1]) ** 2 * e[k] for k in range(6))
    assert float(vrg.cumulative_error(abar, table)) == pytest.approx(by_hand, rel=1e-9)
    end = 0.999
    s[-1] = ((1 - end) / end) ** 0.5
    for order, blocks in ((2, [(0, 2), (2, 4), (4, 6)]), (3, [(0, 3), (3, 6)])):
        whole = sum((s[a] - s[b]) ** 2 * sum(e[a:b]) for a, b in blocks)
        assert float(vrg.cumulative_error(abar, table, end, order)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("end", ["clean", "above"])
@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_blocks_of_the_objective_are_those_of_the_solver(order, count, end, kind):
    """A step that is not Euler's leans on the beginning of its block."""
    path = replace(path_of(single(kind=kind)), end=0.0 if end == "clean" else 1e-4)
    schedule = ruled("uniform", path, count)
    x, state, blocks = torch.ones(1, 1, dtype=torch.float64), None, []
    for index in range(count):
        alpha, sigma = schedule.alpha[index], schedule.sigma[index]
        noise = torch.full_like(x, index + 1.0)
        found = Estimate((x - sigma * noise) / alpha if alpha > 0 else torch.zeros_like(x), noise)
        euler = transition(schedule, index, index + 1, found, 0, None)
        x, state = DpmSolver(order).step(schedule, index, x, found, None, state)
        blocks.append((blocks[-1] if blocks else -1) + bool(torch.allclose(x, euler, rtol=1e-9)))
    _, group, starts, stops = vrg.blocks_of(vrg.abar_of(schedule), 1 / (1 + path.end**2), order)
    assert group.tolist() == blocks
    assert len(starts) == len(stops) == blocks[-1] + 1


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
    table, start, gamma = exact_table(path), ruled("uniform", path, 6), 0.05
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
    table, start = exact_table(path), ruled("uniform", path, 6)
    held = vrg.fit_vrg(start, table, path, gamma=0.05, fixed_start=True, iterations=60)
    assert held.schedule.sigma[0] == pytest.approx(start.sigma[0], abs=1e-9)
    assert held.figures["cpe_after"] < held.figures["cpe_before"]
    free = vrg.fit_vrg(start, table, path, gamma=0.05, target=0.01, penalty=1e4, iterations=100)
    assert free.schedule.sigma[0] < held.schedule.sigma[0]
    control = vrg.perturbed(start, path, 0.05, seed=1)
    assert control != start
    assert vrg.perturbed(start, path, 0.05, seed=1) == control


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": math.nan}, "gamma"),
        ({"penalty": math.nan}, "finite penalty"),
        ({"penalty": math.inf}, "finite penalty"),
        ({"penalty": -1.0}, "penalty"),
        ({"target": 2.0}, "target"),
        ({"target": math.nan}, "target"),
        ({"order": 4}, "order"),
    ],
)
def test_settings_out_of_range_are_refused(settings, word):
    path = path_of(single())
    with pytest.raises(ValueError, match=word):
        vrg.fit_vrg(ruled("uniform", path, 4), exact_table(path), path, iterations=1, **settings)


@pytest.mark.parametrize("end", [0.0, 5e-4])
@pytest.mark.parametrize("other", [0.0, 5e-4])
def test_what_is_fitted_from_a_schedule_ends_where_it_does(end, other):
    """Whatever the end of the path that comes along."""
    sampler = single()
    line = path_of(sampler)
    begun = ruled("uniform", replace(line, end=end), 5)
    path = replace(line, end=other)
    made = vrg.fit_vrg(begun, exact_table(line), path, iterations=20)
    same = float(vrg.cumulative_error(vrg.abar_of(begun), exact_table(line), 1 / (1 + end**2)))
    assert made.figures["cpe_before"] == pytest.approx(same, rel=1e-9)
    tuning, reporting = (noise_batches(lambda _: sampler, [""], 2, seed=seed) for seed in (0, 50))
    searched = tune(begun, path, Ddim(), Teacher(10), tuning, reporting, evaluations=12)
    assert searched.schedule != begun
    for one in (made.schedule, searched.schedule, vrg.perturbed(begun, path, 0.01, 1)):
        assert (one.alpha[-1], one.sigma[-1]) == pytest.approx((begun.alpha[-1], begun.sigma[-1]), rel=1e-9, abs=0)


def test_a_fit_of_a_pipelines_own_levels_ends_where_they_do():
    import tiny
    from noisewright.samplers.pipeline import PipelineSampler

    sampler = PipelineSampler(tiny.sd(), "x", num_inference_steps=5)
    path, begun = path_of(sampler), sampler.schedule
    assert begun.sigma[-1] > 0.02  # its scheduler does not go to the clean image
    table = exact_table(path)
    made = vrg.fit_vrg(begun, table, path, gamma=0.5, iterations=200).schedule
    assert made.sigma[-1] == pytest.approx(begun.sigma[-1], rel=1e-6)
    clean = vrg.fit_vrg(ending_clean(begun), table, path, gamma=0.5, iterations=50).schedule
    assert (clean.alpha[-1], clean.sigma[-1]) == (1.0, 0.0)


def test_a_table_that_says_nothing_of_a_level_is_refused():
    path = path_of(single())
    table = exact_table(path, 40)
    some = ErrorTable(table.levels[20:], 1, "part", table.identity, {})
    with pytest.raises(ValueError, match="missing"):
        vrg.fit_vrg(ruled("uniform", path, 4), some, path)


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


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0.0, -1.0])
def test_a_factor_that_is_no_positive_number_is_refused(factor):
    with pytest.raises(ValueError, match="finite factor"):
        gits.shortest(torch.zeros(8, 8), 3, factor)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_the_teacher_starts_from_the_states_that_the_sampler_draws(kind):
    """Coordinates x / alpha; a flow's pure noise has none, and stands at its highest finite level."""
    sampler = MixtureSampler(kind=kind)
    path = replace(path_of(sampler), high=2.0 if kind == "vp" else path_of(sampler).high)
    levels = [path.high, 1.0, 0.5]
    on = with_schedule(sampler, replace(path, end=0.0).schedule(levels), Ddim())
    states, _ = gits.teacher_states(on, [1, 2], [*levels, 0.0])
    x = sampler.noise([1, 2]).double().flatten(1)
    assert torch.allclose(states[0], x * (5.0**0.5 if kind == "vp" else path.high), rtol=1e-6)
    finished, _ = on.denoise(sampler.noise([1, 2]), 0, 3)
    assert torch.allclose(states[-1], finished.double().flatten(1), atol=1e-5 if kind == "vp" else 1e-2)


@pytest.mark.parametrize("end", [0.0, 5e-4])
def test_peers_end_where_they_are_told(end):
    sampler = MixtureSampler()
    costs, levels, path = gits.teacher_costs([(sampler, range(4))], nodes=11, end=end)
    assert levels[-1] == end
    for made in (gits.fit_gits(costs, levels, path, 4, end=end), dmn.fit_dmn(path, 4, evaluations=200, end=end)):
        assert made.schedule.sigma[-1] / made.schedule.alpha[-1] == pytest.approx(end, rel=1e-9, abs=0)
    assert gits.fit_gits(costs, levels, path, 4).schedule.sigma[-1] == 0
    assert dmn.fit_dmn(path, 4, evaluations=200).schedule.sigma[-1] == 0


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
    for j, weight in enumerate(dmn.step_weights(used, stop)[0]):
        others = [k for k in range(3) if k != j]
        basis = np.prod([(grid - used[0, k]) / (used[0, j] - used[0, k]) for k in others], axis=0)
        assert weight == pytest.approx(np.trapezoid(np.exp(grid) * basis, grid), rel=1e-6)


@pytest.mark.slow
def test_the_minimum_is_the_published_one_or_lower():
    start = half_log_snr(np.linspace(1, 1e-3, 7))
    made = dmn.minimise(start, power=2, evaluations=6000)
    assert dmn.objective(made[None], power=2)[0] <= 38.348
    assert np.all(np.diff(made) > 0)
    ten = dmn.minimise(half_log_snr(np.linspace(1, 1e-3, 11)), power=2, evaluations=6000)
    assert dmn.objective(ten[None], power=2)[0] <= 11.279


def stable_path():
    """Of Stable Diffusion's noise levels, and of the bundled model's."""
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(10)
    clock = read_levels(scheduler).schedule.clock
    return ModelPath(clock.lowest, clock.highest, 0.0, clock)


def smallest_gap(schedule):
    return min(one - other for one, other in itertools.pairwise(schedule.t))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("steps", "evaluations"), [(10, 4000), (20, 10000)])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_dmn_spreads_its_levels_at_any_number_of_steps(steps, evaluations, power):
    made = dmn.fit_dmn(stable_path(), steps, power=power, evaluations=evaluations)
    assert made.figures["independent"] == 3
    assert smallest_gap(made.schedule) >= 2


def test_errors_that_may_cancel_at_every_step_gather_the_levels_of_dmn():
    """Why ``independent`` is not 0: the fault that the test above guards against is there."""
    crowded = dmn.fit_dmn(stable_path(), 10, power=2.0, independent=0, evaluations=4000)
    assert smallest_gap(crowded.schedule) < 2


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_dmn_gives_a_schedule_of_any_model(steps):
    path = path_of(single(kind="flow"))
    made = dmn.fit_dmn(path, steps, evaluations=500)
    assert made.schedule.steps == steps
    assert made.figures["bound"] <= min(made.figures["bound_from_logsnr"][0], made.figures["bound_from_uniform"][0])


# The search by a metric


def test_the_family_holds_its_first_schedule_and_only_valid_ones():
    path = path_of(single())
    start = ruled("uniform", path, 5)
    bend = ScheduleFamily(path, tuple(path.levels_of(start)))
    assert bend([0.0] * bend.size).sigma == pytest.approx(start.sigma, rel=1e-9)
    generator = np.random.default_rng(0)
    for _ in range(50):
        bend(generator.normal(size=bend.size) * 5)  # raises where levels do not fall


def test_a_search_improves_where_it_is_tuned_and_is_told_on_other_seeds():
    sampler = MixtureSampler()
    path = path_of(sampler)
    tuning = noise_batches(lambda _: sampler, ["a mixture"], 8)
    reporting = noise_batches(lambda _: sampler, ["a mixture"], 8, seed=100)
    start = ruled("logsnr", path, 4)
    made = tune(start, path, Ddim(), Teacher(40), tuning, reporting, evaluations=25)
    before, best = made.figures["tuning"]
    assert best < before
    assert made.figures["evaluations"] == 25  # not rounded up to whole populations
    other = metric_values(made.schedule, Ddim(), reporting, [Teacher(40)])["teacher"]
    assert made.figures["reported"][1] == pytest.approx(float(other.mean()), rel=1e-6)
    with pytest.raises(ValueError, match="in both"):
        tune(start, path, Ddim(), Teacher(40), tuning, tuning)


def test_a_verifier_is_climbed():
    sampler = MixtureSampler()
    verifier = as_verifier(lambda images, prompt: images.flatten(1).std(1).tolist())
    some = noise_batches(lambda _: sampler, ["a", "b"], 5, batch=2)
    assert [one.seeds for one in some] == [(0, 1), (2,), (3, 4)]
    found = metric_values(sampler.schedule, Ddim(), some, [ByVerifier(verifier)])
    assert [len(rows) for rows in found.values()] == [5]
    low, high = interval(torch.arange(50.0).double())
    assert low < 24.5 < high


# Files


def test_a_schedule_file_is_for_its_model(tmp_path):
    sampler, other = single(), MixtureSampler()
    path = path_of(sampler)
    made = FittedSchedule(ruled("uniform", path, 4), "ddim", identity(sampler), {"method": "none"}, {"a": 1.0})
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
        ({"made": None}, "made is None"),
        ({"steps": 5}, "4 times for the 5 steps"),
        ({"steps": None}, "4 times for the None steps"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**held, **change}))
        with pytest.raises(ValueError, match=word):
            read_schedule_file(tmp_path / "bad.json")


def kept(t, alpha, sigma):
    return {"t": list(t), "alpha": list(alpha), "sigma": list(sigma)}


def of_levels(s):
    """The VP scales of levels, with an end of 0."""
    norms = [math.hypot(1, one) for one in (*s, 0.0)]
    return [1 / norm for norm in norms], [one / norm for one, norm in zip((*s, 0.0), norms, strict=True)]


def changed(held, name):
    """The levels of a file with one fault; the sound ones are of four steps."""
    t, alpha, sigma = held["t"], held["alpha"], held["sigma"]
    s = [b / a for a, b in zip(alpha, sigma, strict=True)][:-1]
    return {
        "level above": kept(t, *of_levels([1e6, *s[1:]])),
        "level below": kept(t, *of_levels([*s[:-1], 1e-5])),
        "late time": kept([5000, *t[1:]], alpha, sigma),
        "negative time": kept([*t[:-1], -3], alpha, sigma),
        "rising times": kept(t[::-1], alpha, sigma),
        "times 3": kept(t, [3 * one for one in alpha], [3 * one for one in sigma]),
        "halved": kept(t, [one / 2 for one in alpha], [one / 2 for one in sigma]),
        "small start": {"start": 0.5},
        "large start": {"start": 14.6},
    }[name]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("level above", r"expected noise levels s in \[0.001, .*1e\+06"),
        ("level below", r"expected noise levels s in \[0.001, .*1e-05"),
        ("late time", r"times in .*, in \[0.6.*, 99.*\], got t = 5000 at"),
        ("negative time", r"times in .*got t = -3 at"),
        ("rising times", r"times in .*whose time is"),
        ("times 3", r"alpha and sigma in \[0, 1\]"),
        ("halved", r"alpha\^2 \+ sigma\^2 = 1"),
        ("small start", r"expected a start of 1 or 0.9999 in .*got 0.5"),
        ("large start", r"expected a start of 1 .*got 14.6"),
    ],
)
def test_a_file_with_levels_that_are_not_the_models_is_refused(fault, word, tmp_path):
    sampler = single()
    made = FittedSchedule(ruled("uniform", path_of(sampler), 4), "ddim", identity(sampler))
    file = write_schedule_file(tmp_path / "s.json", made)
    held = json.loads(file.read_text())
    file.write_text(json.dumps({**held, **changed(held, fault)}))
    with pytest.raises(ValueError, match=word):
        load_for(file, sampler)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_states_may_start_as_samplers_draw_them_and_a_forced_file_as_unit_data_does(kind, tmp_path):
    sampler = single(kind=kind)
    path = path_of(sampler)
    one = replace(path, end=0.0).schedule([2.0, 1.0, 0.2])
    alpha, sigma = one.alpha[0], one.sigma[0]
    file = tmp_path / "s.json"
    for start in (1.0, math.hypot(alpha, sigma), sigma, sigma + 1e-6):
        write_schedule_file(file, FittedSchedule(replace(one, start=start), "ddim", identity(sampler)))
        assert load_for(file, sampler).start == start
    write_schedule_file(file, FittedSchedule(replace(one, start=3.0), "ddim", identity(sampler)))
    with pytest.raises(ValueError, match="expected a start of 1"):
        load_for(file, sampler)
    assert load_for(file, sampler, force=True).start == pytest.approx(math.hypot(alpha, sigma), rel=1e-12)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_a_pipelines_own_start_is_taken(spacing):
    import tiny
    from noisewright.samplers.pipeline import PipelineSampler

    pipe = tiny.sd()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing=spacing)
    sampler = PipelineSampler(pipe, "x", num_inference_steps=4)
    assert on_path(sampler.schedule, path_of(sampler), "it") == sampler.schedule


def test_rounded_times_are_taken_and_a_forced_file_gets_the_models_own(tmp_path):
    vp, flow = single(), single(kind="flow")
    made = FittedSchedule(ruled("logsnr", path_of(vp), 4), "ddim", identity(vp))
    file = write_schedule_file(tmp_path / "s.json", made)
    held = json.loads(file.read_text())
    rounded = [float(round(t)) for t in held["t"]]
    file.write_text(json.dumps({**held, "t": rounded}))
    assert list(load_for(file, vp).t) == rounded
    with pytest.raises(ValueError, match="--force"):
        load_for(file, flow)
    high = path_of(vp).high
    fits = replace(made, schedule=replace(path_of(vp), end=0.0).schedule([high / 2, 1.0, 0.2]))
    forced = load_for(write_schedule_file(file, fits), flow, force=True)
    assert forced.straight
    assert path_of(flow).levels_of(forced) == pytest.approx([high / 2, 1.0, 0.2], rel=1e-6)
    assert forced.t[1] == pytest.approx(500)


def test_coordinates_with_alpha_1_are_read_but_are_no_levels_of_a_vp_model(tmp_path):
    sampler = single()
    plain = Schedule((900, 500), (1, 1, 1), (40.0, 1.0, 0.0), 40.0)
    file = write_schedule_file(tmp_path / "s.json", FittedSchedule(plain, "ddim", identity(sampler)))
    assert read_schedule_file(file).schedule == plain
    with pytest.raises(ValueError, match=r"times|sigma"):
        load_for(file, sampler)
