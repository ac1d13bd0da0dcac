import math

import pytest
import torch

from noisewright.diffusion.noise import gaussian
from noisewright.diffusion.solvers import Ddim
from noisewright.samplers.mixture import SHAPE, MixtureSampler, flow_schedule
from noisewright.samplers.protocol import Sampler

BATCH = 1e-6  # float64 inside; sums over the batch may associate otherwise before rounding to float32
EXACT = 1e-9  # float64
SAMPLED = 0.05  # five standard errors of a mean of 4,000 draws of deviation 0.6


def single(**settings):
    """One Gaussian: its ODE has a closed form."""
    return MixtureSampler(torch.full((1, *SHAPE), 0.3), torch.tensor([0.5]), **settings)


def step_noise(rows):
    return lambda index: torch.stack([gaussian(SHAPE, row, index) for row in rows])


def test_is_a_sampler():
    assert isinstance(MixtureSampler(), Sampler)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_clean_mean_is_the_gradient_of_the_log_density(kind):
    """Tweedie's formula, E[x0|x] = (x + sigma^2 grad log p(x)) / alpha, with the density written down directly."""
    sampler = MixtureSampler(kind=kind, weights=torch.arange(1.0, 9.0), deviations=torch.linspace(0.1, 0.5, 8))
    for index in (3, 10, 18):
        alpha, sigma = sampler.schedule.alpha[index], sampler.schedule.sigma[index]
        x = sampler.noise([1, 2]).double().requires_grad_()
        spread = alpha**2 * sampler.deviations**2 + sigma**2
        components = torch.distributions.Independent(
            torch.distributions.Normal(
                alpha * sampler.means.flatten(1), spread.sqrt()[:, None].expand(-1, math.prod(SHAPE))
            ),
            1,
        )
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(probs=sampler.weights), components
        )
        (slope,) = torch.autograd.grad(mixture.log_prob(x.flatten(1)).sum(), x)
        expected = (x + sigma**2 * slope) / alpha
        torch.testing.assert_close(sampler.clean_mean(x, alpha, sigma), expected, rtol=0, atol=EXACT)


def test_many_steps_follow_the_exact_ode():
    """For one Gaussian the ODE keeps the standardised state (x - alpha mu) / spread."""
    errors = []
    for steps in (50, 200):
        sampler = single(steps=steps)
        x = sampler.noise([0, 1])
        levels = sampler.schedule
        spread = [math.sqrt(a**2 * 0.25 + s**2) for a, s in zip(levels.alpha, levels.sigma, strict=True)]
        exact = levels.alpha[-1] * 0.3 + spread[-1] / spread[0] * (x - levels.alpha[0] * 0.3)
        y, _ = sampler.denoise(x, 0, steps)
        errors.append(float((y - exact).abs().max()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3  # a first-order solver: four times the steps, a quarter of the error


@pytest.mark.parametrize(("kind", "eta"), [("vp", 0.0), ("vp", 1.0), ("flow", 0.0), ("flow", 1.0)])
def test_samples_have_the_distribution(kind, eta):
    sampler = single(kind=kind, steps=40, solver=Ddim(eta))
    x = torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(0))
    y, _ = sampler.denoise(x, 0, 40, None, lambda index: torch.stack([gaussian(SHAPE, r, index) for r in range(400)]))
    assert float(y.mean()) == pytest.approx(0.3, abs=SAMPLED)
    assert float(y.std()) == pytest.approx(0.5, abs=SAMPLED)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_split_and_batch_mates(kind, eta):
    sampler = MixtureSampler(kind=kind, steps=9, solver=Ddim(eta))
    x = sampler.noise([4, 5, 6])
    whole, _ = sampler.denoise(x, 0, 9, None, step_noise([4, 5, 6]))
    half, state = sampler.denoise(x, 0, 4, None, step_noise([4, 5, 6]))
    split, _ = sampler.denoise(half, 4, 9, state, step_noise([4, 5, 6]))
    assert torch.equal(whole, split)
    alone, _ = sampler.denoise(x[1:2], 0, 9, None, step_noise([5]))
    torch.testing.assert_close(alone, whole[1:2], rtol=0, atol=BATCH)


def test_noise_is_what_the_seed_says():
    x = MixtureSampler().noise([7, 3])
    expected = torch.randn(1, *SHAPE, generator=torch.Generator("cpu").manual_seed(3))
    assert torch.equal(x[1:], expected)


def test_counts():
    sampler = MixtureSampler(steps=6)
    x = sampler.noise([1, 2])
    before = x.clone()
    sampler.denoise(x, 1, 4)
    sampler.predict(x, 2)
    images = sampler.decode(x)
    assert torch.equal(x, before)
    assert (sampler.meter.nfe, sampler.meter.forwards, sampler.meter.decodes) == (8, 8, 2)
    assert images.shape == (2, *SHAPE)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert torch.equal((images * 255).round() / 255, images)
    other = sampler.with_steps(3)
    other.denoise(other.noise([1]), 0, 3)
    assert sampler.meter.nfe == 11
    assert (sampler.schedule.steps, other.schedule.steps) == (6, 3)


def test_description_tells_samplers_apart():
    samplers = [
        MixtureSampler(), MixtureSampler(steps=3), MixtureSampler(kind="flow"), MixtureSampler(prompt="x"),
        MixtureSampler(solver=Ddim(0.5)), MixtureSampler(weights=torch.arange(1.0, 9.0)), single(),
    ]  # fmt: skip
    assert len({str(one.description) for one in samplers}) == len(samplers)
    assert MixtureSampler().description == MixtureSampler().description


def test_wrong_use():
    sampler = MixtureSampler(steps=5)
    x = sampler.noise([0])
    for start, stop in ((2, 2), (3, 2), (-1, 2), (0, 6)):
        with pytest.raises(ValueError, match="start < stop"):
            sampler.denoise(x, start, stop)
    with pytest.raises(ValueError, match="kind"):
        MixtureSampler(kind="edm")
    with pytest.raises(ValueError, match="at least 1"):
        MixtureSampler(steps=0)
    with pytest.raises(ValueError, match="noise"):
        MixtureSampler(steps=5, solver=Ddim(1.0)).denoise(x, 0, 5)


def test_flow_schedule_is_even():
    assert flow_schedule(4).sigma == pytest.approx((1, 0.75, 0.5, 0.25, 0), abs=EXACT)
