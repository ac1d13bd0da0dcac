import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisewright.diffusion.noise import gaussian, renoise, rotate, seed_of
from noisewright.diffusion.schedule import Schedule
from noisewright.samplers.mixture import flow_schedule, vp_schedule

COSINE = 1e-6  # the states are float32 (relative rounding 6e-8 an element), the dot products float64
MARGINAL = 0.02  # five standard errors of a variance over 200,000 draws: 5 * sqrt(2 / 200,000) = 0.016

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).filter(lambda s: math.prod(s) >= 2)


@given(shapes, st.floats(-1, 1), st.integers(0, 2**31), st.floats(0.01, 100))
def test_rotate_turns_by_exactly_the_cosine_and_keeps_the_norm(shape, cosine, seed, scale):
    x = gaussian(shape, "x", seed) * scale
    direction = gaussian(shape, "direction", seed)
    y = rotate(x, direction, cosine)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    a, b = x.double().flatten(), y.double().flatten()
    assert float(a @ b / (a.norm() * b.norm())) == pytest.approx(cosine, abs=COSINE)
    assert float(b.norm() / a.norm()) == pytest.approx(1, abs=COSINE)


def test_rotate_by_one_is_the_same_state():
    x, direction = gaussian((4, 8, 8), "x"), gaussian((4, 8, 8), "d")
    torch.testing.assert_close(rotate(x, direction, 1.0), x, rtol=0, atol=1e-6)


def test_rotate_goes_towards_the_direction():
    x, direction = gaussian((4, 8, 8), "x"), gaussian((4, 8, 8), "d")
    before = torch.nn.functional.cosine_similarity(x.flatten(), direction.flatten(), dim=0)
    after = torch.nn.functional.cosine_similarity(rotate(x, direction, 0.5).flatten(), direction.flatten(), dim=0)
    assert after > before + 0.5


@pytest.mark.parametrize("cosine", [1.01, -1.01, math.nan])
def test_rotate_refuses_what_is_no_cosine(cosine):
    with pytest.raises(ValueError, match="cosine"):
        rotate(torch.ones(4), torch.ones(4), cosine)


@pytest.mark.parametrize("make", [vp_schedule, flow_schedule])
@pytest.mark.parametrize(("start", "stop"), [(10, 0), (10, 5), (6, 2), (1, 0), (4, 4)])
def test_renoise_has_the_marginal_of_the_earlier_level(make, start, stop):
    schedule = make(10)
    clean = 0.7
    noise = gaussian((200_000,), "at start")
    x = schedule.alpha[start] * clean + schedule.sigma[start] * noise
    back = renoise(x, schedule, start, stop, gaussian((200_000,), "fresh"))
    assert float(back.mean()) == pytest.approx(schedule.alpha[stop] * clean, abs=MARGINAL)
    assert float(back.var()) == pytest.approx(schedule.sigma[stop] ** 2, abs=MARGINAL)


def test_renoise_in_edm_coordinates_adds_the_missing_variance():
    schedule = Schedule((2.0, 1.0), (1.0, 1.0, 1.0), (10.0, 3.0, 0.0))
    back = renoise(torch.zeros(200_000), schedule, 1, 0, gaussian((200_000,), "fresh"))
    assert float(back.var()) == pytest.approx(91, rel=MARGINAL)


def edm(steps):
    return Schedule(tuple(range(steps, 0, -1)), (1.0,) * (steps + 1), tuple(2.0 * n for n in range(steps, -1, -1)))


def ending_nowhere(steps):
    """A last step that changes nothing, as some schedulers of diffusers have it."""
    one = vp_schedule(steps)
    return replace(one, alpha=(*one.alpha[:-1], one.alpha[-2]), sigma=(*one.sigma[:-1], one.sigma[-2]))


LEVELS = {
    "vp": vp_schedule(5),
    "vp, unit start": replace(vp_schedule(5, 0.95), start=1.0),
    "vp, start of sigma": replace(vp_schedule(5, 0.95), start=0.95),
    "vp, no signal at its start": Schedule((2.0, 1.0), (0.0, 0.6, 1.0), (1.0, 0.8, 0.0)),
    "vp, ending nowhere": ending_nowhere(5),
    "flow": flow_schedule(5),
    "flow, from below pure noise": flow_schedule(5, 0.9),
    "flow, pure noise twice": Schedule((3.0, 2.0, 1.0), (0.0, 0.0, 0.5, 1.0), (1.0, 1.0, 0.5, 0.0)),
    "edm": edm(5),
}


@pytest.mark.parametrize("name", LEVELS)
def test_renoise_is_exact_for_every_pair_of_indices(name):
    """What is made of a unit state and of unit noise are the two factors; they carry one level's marginal to the other.

    ``x_i = alpha_i x0 + sigma_i eps`` must become ``alpha_k x0`` with the variance ``sigma_k^2``.
    """
    schedule = LEVELS[name]
    for start in range(schedule.steps + 1):
        for stop in range(start + 1):
            ratio, spread = renoise(torch.eye(2)[0], schedule, start, stop, torch.eye(2)[1]).tolist()
            pair = f"{start} to {stop}"
            if stop == start:
                assert (ratio, spread) == (1.0, 0.0), pair
                continue
            assert ratio * schedule.alpha[start] == pytest.approx(schedule.alpha[stop], abs=COSINE), pair
            variance = ratio**2 * schedule.sigma[start] ** 2 + spread**2
            assert variance == pytest.approx(schedule.sigma[stop] ** 2, rel=1e-5, abs=1e-5), pair


@pytest.mark.parametrize("name", LEVELS)
def test_renoise_to_the_same_index_changes_nothing(name):
    """Also at index 0, where the state has the deviation ``start``, and a flow model's alpha is 0."""
    schedule = LEVELS[name]
    for index in range(schedule.steps + 1):
        x = schedule.start * gaussian((5,), "x")
        back = renoise(x, schedule, index, index, gaussian((5,), "z"))
        assert torch.equal(back, x)
        assert back is not x


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_a_run_renoises_between_all_pairs_of_indices(kind, tmp_path):
    from noisewright.testing import Case

    run = Case(lambda run: None, kind=kind).open(tmp_path / "run")
    (begun,) = run.noise(1)
    for particle in (begun, *(run.denoise([begun], index)[0] for index in range(1, run.steps))):
        for to in range(particle.index + 1):
            (back,) = run.renoise(particle, to)
            state = run.state(back)
            assert bool(torch.isfinite(state).all()), (particle.index, to)
            if to == particle.index:
                assert torch.equal(state, run.state(particle))
            assert run.finish([back])[0].particle.index == run.steps
    run.store.close()


@pytest.mark.parametrize(("start", "stop"), [(2, 3), (7, 0), (2, -1)])
def test_renoise_refuses_to_go_forward_or_outside(start, stop):
    with pytest.raises(ValueError, match="stop <= start"):
        renoise(torch.ones(2), vp_schedule(6), start, stop, torch.ones(2))


def test_gaussian_does_not_depend_on_order_or_on_the_global_generator():
    keys = [("p", n) for n in range(6)]
    torch.manual_seed(1)
    forward = {key: gaussian((3, 4), *key) for key in keys}
    torch.manual_seed(2)
    state = torch.get_rng_state()
    backward = {key: gaussian((3, 4), *key) for key in reversed(keys)}
    assert torch.equal(torch.get_rng_state(), state)
    for key in keys:
        assert torch.equal(forward[key], backward[key])
    assert len({tuple(one.flatten().tolist()) for one in forward.values()}) == len(keys)
    assert forward["p", 0].dtype == torch.float32
    assert forward["p", 0].device.type == "cpu"


def test_gaussian_is_unit():
    drawn = gaussian((200_000,), "unit")
    assert float(drawn.mean()) == pytest.approx(0, abs=MARGINAL)
    assert float(drawn.var()) == pytest.approx(1, abs=MARGINAL)


def test_seed_of_is_stable_and_does_not_join_its_parts():
    assert seed_of("abc", 3) == 8489307031938585354
    assert seed_of("ab", "c") != seed_of("a", "bc") != seed_of("abc")
    assert 0 <= seed_of("x") < 2**63
