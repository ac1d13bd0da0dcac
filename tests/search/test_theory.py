"""What theory says of the searches, on the exact mixture sampler, where truth is known."""

import math
from contextlib import closing

import pytest
import torch

from noisewright.diffusion.noise import gaussian, renoise, rotate
from noisewright.diffusion.solvers import Ddim
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler, flow_schedule, vp_schedule
from noisewright.search.fk import fk
from noisewright.verifiers.pixels import Brightness

MEANS = torch.tensor([[0.5, 0.5, 0.5], [-0.5, -0.5, -0.5], [0.5, -0.5, 0.1], [-0.3, 0.5, -0.5]]).view(4, 3, 1, 1)
DEVIATIONS = torch.tensor([0.1, 0.12, 0.1, 0.15])
WEIGHTS = torch.tensor([0.1, 0.4, 0.3, 0.2])
STEPS = 30


def tilted(temperature):
    """The mixture's weights under ``p(x) exp(brightness(x) / T)``: each Gaussian is tilted in closed form.

    Brightness is ``1/2 + sum(x) / (2 d)``, linear in x, so component k gains ``exp(c . mu_k + d c^2 s_k^2 / 2)`` with
    ``c = 1 / (2 d T)``.
    """
    size = MEANS[0].numel()
    slope = 1 / (2 * size * temperature)
    gain = slope * MEANS.flatten(1).sum(1) + size * slope**2 * DEVIATIONS**2 / 2
    return (WEIGHTS.log() + gain).softmax(0).double()


def shares(images, weights):
    """The weight of the particles nearest to each component, (4,)."""
    gaps = (images.flatten(1) * 2 - 1)[:, None] - MEANS.flatten(1)[None]
    size = MEANS[0].numel()
    owner = (-0.5 * gaps.square().sum(-1) / DEVIATIONS**2 - size * DEVIATIONS.log()).argmax(1)
    return torch.stack([weights[owner == k].sum() for k in range(len(MEANS))])


def mixture(kind="vp"):
    return MixtureSampler(MEANS, DEVIATIONS, WEIGHTS, steps=STEPS, kind=kind, solver=Ddim(1.0))


def reference(kind, temperature):
    """The same from many plain samples, weighted: what a sampler of so few steps can converge to."""
    sampler, generator = mixture(kind), torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(40_000, *MEANS.shape[1:], generator=generator)

    images = sampler.decode(sampler.denoise(draw(), 0, STEPS, None, lambda index: draw())[0])
    weights = (images.double().mean((1, 2, 3)) / temperature).exp()
    return shares(images, weights / weights.sum())


def steered(root, count, seed, *, kind="vp", potential="diff", temperature=0.2):
    """The components' shares of the weighted particles."""
    sampler = mixture(kind)
    with closing(Store.create(root, {"sampler": sampler.description}, {"noisewright": "test"}, "now")) as store:
        run = Run(store, sampler, [Brightness()], seed=seed, batch_size=512)
        found = fk(run, particles=count, potential=potential, temperature=temperature, at=(0.3, 0.5, 0.7))
        images = torch.stack([store.image(one.file, one.pixels) for one, _ in found])
    weights = torch.tensor([weight for _, weight in found], dtype=torch.float64)
    assert float(weights.sum()) == pytest.approx(1)
    return shares(images, weights)


def distance(one, other):
    """Total variation."""
    return float((one - other).abs().sum() / 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "temperature"), [("vp", 0.1), ("flow", 0.1), ("vp", 0.2), ("flow", 0.2)])
def test_the_reference_is_the_tilted_mixture_but_for_the_steps(kind, temperature):
    """At 30 steps the sampler itself is 0.024 (VP) and 0.030 (flow) off, in total variation."""
    assert distance(reference(kind, temperature), tilted(temperature)) < 0.04


@pytest.mark.slow
def test_fk_converges_to_the_tilted_mixture(tmp_path):
    """The error falls as 1 / sqrt(N), to about 0.06 at N = 256; the untilted mixture is 0.31 away."""
    repeats, target = 8, reference("vp", 0.2)
    errors = {}
    for count in (16, 64, 256):
        found = [distance(steered(tmp_path / f"{count}-{n}", count, 10_000 * n), target) for n in range(repeats)]
        errors[count] = math.sqrt(sum(error**2 for error in found) / repeats)
    x = torch.tensor([[1.0, math.log(count)] for count in errors])
    y = torch.tensor([[math.log(error)] for error in errors.values()])
    slope = float(torch.linalg.lstsq(x, y).solution[1])
    print(f"fk: root mean square error {errors}, slope {slope:.2f}")
    assert -0.7 < slope < -0.3, errors
    assert errors[256] < 0.07, errors
    assert distance(WEIGHTS.double(), tilted(0.2)) > 4 * errors[256]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vp", "flow"])
@pytest.mark.parametrize(("potential", "temperature"), [("diff", 0.2), ("max", 0.2), ("add", 0.5)])
def test_every_potential_has_the_same_target(kind, potential, temperature, tmp_path):
    """``add`` over-tilts on the way, so it is shown where so few particles can correct that."""
    found = [
        steered(tmp_path / str(n), 128, 500 * n, kind=kind, potential=potential, temperature=temperature)
        for n in range(4)
    ]
    error = distance(torch.stack(found).mean(0), reference(kind, temperature))
    untilted = distance(WEIGHTS.double(), tilted(temperature))
    assert error < max(0.06, untilted / 4), (error, untilted)


SAMPLES = 20_000


def moments(x):
    flat = x.double().flatten(1)
    return flat.mean(0), torch.cov(flat.T), float(flat.norm(dim=1).mean())


@pytest.mark.parametrize("schedule", [vp_schedule(8), flow_schedule(8)], ids=["vp", "flow"])
def test_renoised_states_have_the_marginal_of_their_level(schedule):
    """From every level to every earlier one: mean, covariance and norm of ``alpha x0 + sigma eps``."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(SAMPLES, 3, 1, 1, generator=generator)

    mean, deviation = torch.tensor([0.4, -0.2, 0.1]).view(1, 3, 1, 1), 0.3
    for start in range(1, schedule.steps + 1):
        state = schedule.alpha[start] * (mean + deviation * draw()) + schedule.sigma[start] * draw()
        for stop in range(start + 1):
            alpha, sigma = schedule.alpha[stop], schedule.sigma[stop]
            spread = math.sqrt(alpha**2 * deviation**2 + sigma**2)
            exact = alpha * mean + spread * draw()
            found, expected = moments(renoise(state, schedule, start, stop, draw())), moments(exact)
            error = spread / math.sqrt(SAMPLES)
            place = f"from {start} to {stop}"
            truth = alpha * mean.flatten().double()
            torch.testing.assert_close(found[0], truth, rtol=0, atol=5 * error, msg=place)
            torch.testing.assert_close(
                found[1], spread**2 * torch.eye(3, dtype=torch.float64), rtol=0, atol=8 * spread * error, msg=place
            )
            assert found[2] == pytest.approx(expected[2], abs=7 * error), place


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.95])
def test_varied_states_have_the_distribution_of_noise(cosine):
    """A rotation of Gaussian noise is Gaussian noise: mean, covariance, and each one's norm."""
    count = 4000
    noise = torch.stack([gaussian((3, 1, 2), "pivot", k) for k in range(count)])
    turned = torch.stack([rotate(x, gaussian((3, 1, 2), "turn", k), cosine) for k, x in enumerate(noise)])
    mean, covariance, _ = moments(turned)
    assert float(mean.abs().max()) < 5 / math.sqrt(count)
    assert float((covariance - torch.eye(6)).abs().max()) < 8 / math.sqrt(count)
    torch.testing.assert_close(turned.flatten(1).norm(dim=1), noise.flatten(1).norm(dim=1), rtol=1e-6, atol=1e-6)
    across = (noise.flatten(1).T.double() @ turned.flatten(1).double()) / count
    assert float((across - cosine * torch.eye(6)).abs().max()) < 8 / math.sqrt(count)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_the_verbs_give_states_of_the_right_marginal(kind, tmp_path):
    """Through the run: states carried back and mutated, of one Gaussian whose marginals are known."""
    sampler = MixtureSampler(torch.full((1, 3, 1, 1), 0.3), torch.tensor([0.4]), steps=60, kind=kind)
    with closing(
        Store.create(tmp_path / "run", {"sampler": sampler.description}, {"noisewright": "test"}, "now")
    ) as store:
        run = Run(store, sampler, [Brightness()], batch_size=600)
        starts = [one for noise in run.noise(300) for one in run.vary(noise, 2, 0.9)]
        late = run.denoise(starts, 45)
        early = [one for state in late for one in run.renoise(state, 20)]
        for particles, index in ((late, 45), (early, 20), (run.denoise(early, 50), 50)):
            x = torch.cat([run.state(one) for one in particles])
            alpha, sigma = sampler.schedule.alpha[index], sampler.schedule.sigma[index]
            spread = math.sqrt(alpha**2 * 0.16 + sigma**2)
            error = spread / math.sqrt(x.numel() / 2)  # half of them share a pivot
            assert float(x.mean()) == pytest.approx(0.3 * alpha, abs=5 * error)
            assert float(x.std()) == pytest.approx(spread, rel=0.12)
