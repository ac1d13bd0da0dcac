"""Gradient ascent on the starting noise (ReNO, Eyring et al. 2024, arXiv 2406.04312) through the whole sampler."""

from noisewright.errors import NotDifferentiable
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, inside


def gradient(
    run: Run,
    starts: int = 1,
    iterations: int = 50,
    rate: float = 5.0,
    momentum: float = 0.9,
    clip: float = 0.1,
    norm_weight: float = 0.01,
    every: int = 5,
) -> None:
    """Move starting noises up the gradient of the verifiers' scores, and finish them now and then.

    Cost: ``K * S * (1 + I + ceil(I / every))`` NFE for K starts and I iterations, and a backward pass for each of the
    ``K * S * I`` (about twice a forward one, and a forward one again, as steps are checkpointed).

    The loss is ``-score + w (r^2 / 2 - (d - 1) ln r)`` with r the norm of the noise and d its size: the second part is
    the negative log density of the norm of a Gaussian, which keeps the noise one that the model knows. Nesterov's
    momentum, the gradient clipped at norm ``clip``, defaults as in the paper. It works through any number of steps; the
    paper uses one. With several verifiers their scores are added.

    The gradient is that of the verifiers' differentiable path, whose preprocessing differs from the exact one; every
    score that is reported is from the exact one.

    Args:
        run: the verbs; the verifiers and the sampler must be differentiable.
        starts: K.
        iterations: I.
        rate: of the ascent.
        momentum: in [0, 1).
        clip: largest norm of a gradient.
        norm_weight: w.
        every: iterations between two finishings.

    Raises:
        NotDifferentiable: where there is no gradient, before anything is spent.
    """
    at_least(1, starts=starts, iterations=iterations, every=every)
    at_once(run, starts=starts, **({"every": every} if every < iterations else {"iterations": iterations}))
    inside(0, 1, momentum=momentum, closed="left")
    inside(0, float("inf"), rate=rate, clip=clip, closed="no")
    inside(0, float("inf"), norm_weight=norm_weight, closed="left")
    if run.without_gradient:
        raise NotDifferentiable(
            f"expected verifiers and a sampler with a gradient, got {', '.join(run.without_gradient)} without one"
        )
    particles = run.noise(starts)
    run.finish(particles)
    for made in range(1, iterations + 1):
        particles = run.ascend(particles, rate=rate, momentum=momentum, clip=clip, norm_weight=norm_weight)
        run.keep(particles)
        if made % every == 0 or made == iterations:
            run.finish(particles)
