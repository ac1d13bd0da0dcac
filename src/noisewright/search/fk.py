"""Feynman-Kac steering (Singhal et al. 2025, arXiv 2501.06848): a particle filter towards high scores."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from noisewright.diffusion.noise import uniform
from noisewright.run.particle import Candidate, Particle
from noisewright.run.verbs import Run
from noisewright.search.checks import at_least, at_once, fractions, inside, needs_step_noise

HUGE = 1e300

AT = (0.5, 0.65, 0.8)
"""Where previews are taken by default."""


def fk(
    run: Run,
    particles: int = 8,
    potential: Literal["diff", "max", "add"] = "diff",
    temperature: float | None = None,
    at: tuple[float, ...] = AT,
    ess: float = 0.5,
) -> list[tuple[Candidate, float]]:
    """Weigh k stochastic trajectories by potentials of their previews, and resample them where the weights are uneven.

    Cost: ``k * S`` NFE: a preview's NFE is the one of the step after it. (A resampled copy shares its original's.)

    The weighted particles aim at ``p(x) exp(r(x) / T)``. Potentials, with r of the previews, G their product so far:
    ``diff`` exp((r - r_before) / T), ``max`` exp(max r so far / T), ``add`` exp(sum of r so far / T); at the end the
    weight is multiplied by exp(r_final / T) / G, so that the target is the same for all three (their equation 7).

    Deviations from the authors' code: weights are kept in logarithms and carried on where no resampling happens,
    resampling is systematic and adaptive, a copy draws its own noise from there on, and previews begin where they start
    to rank as finished images do. ``add`` over-tilts on the way and corrects it at the end, so it needs many more
    particles than the others for the same error. With several verifiers r is the ensemble's value among the k.

    A budget that ends before the last particle is finished ends the search with what is finished, unweighted.

    Args:
        run: the verbs; steps must draw noise (eta > 0).
        particles: k.
        potential: which.
        temperature: T, in units of the score; by default half the deviation of the scores, measured at each preview,
            and of the finished ones.
        at: fractions of the steps after which previews are taken, rising, in (0, 1). Of few steps the default ones may
            be less than three.
        ess: resample where the effective sample size is below this share of k, in [0, 1].

    Returns:
        The finished particles with their normalised weights.
    """
    at_least(1, particles=particles)
    at_once(run, particles=particles)
    inside(0, 1, ess=ess)
    indices = fractions(run, "fk", AT, at=at)
    if temperature is not None and not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature:g}")
    if particles > 1:
        needs_step_noise(run, "fk")
    states = run.noise(particles)
    weights, before, product = [0.0] * particles, [0.0] * particles, [0.0] * particles
    history: list[list[float]] = [[] for _ in states]
    for number, index in enumerate(indices):
        states = run.denoise(states, index)
        scores = numbers(run.value(run.preview(states)))
        scale = temperature or deviation(scores) / 2 or 1.0
        for k, score in enumerate(in_units(score, scale) for score in scores):
            history[k] = [*history[k], score]
            log_potential = {
                "diff": score - before[k], "max": max(history[k]), "add": sum(history[k])
            }[potential]  # fmt: skip
            weights[k] += log_potential
            product[k] += log_potential
            before[k] = score
        shares = normalised(weights)
        if 1 / sum(share**2 for share in shares) < ess * particles:
            chosen = systematic(shares, uniform(run.seed, "fk", number))
            states = branches(run, states, chosen)
            weights = [0.0] * particles
            before, product = [before[k] for k in chosen], [product[k] for k in chosen]
            history = [history[k] for k in chosen]
        run.keep(_first_by_weight(states, weights))
    found = run.finish(states)
    final = numbers(run.value(found))
    scale = temperature or deviation(final) / 2 or 1.0
    last = [w + in_units(r, scale) - g for w, r, g in zip(weights, final, product, strict=True)]
    return list(zip(found, normalised(last), strict=True))


def branches(run: Run, states: Sequence[Particle], chosen: Sequence[int]) -> list[Particle]:
    """The chosen states; each further copy of one is a fork."""
    counts = Counter(chosen)
    copies = [run.fork(state, max(0, counts[k] - 1)) for k, state in enumerate(states)]
    taken: set[int] = set()
    made = []
    for k in chosen:
        made.append(copies[k].pop(0) if k in taken else states[k])
        taken.add(k)
    return made


def systematic(shares: Sequence[float], offset: float) -> list[int]:
    """Systematic resampling: k indices, each about k * share times, from one uniform number (Kitagawa 1996)."""
    count, total, index, chosen = len(shares), shares[0], 0, []
    for k in range(count):
        while (k + offset) / count >= total and index < count - 1:
            index += 1
            total += shares[index]
        chosen.append(index)
    return chosen


def normalised(weights: Sequence[float]) -> list[float]:
    """exp(weights), summing to 1."""
    most = max(weights)
    shares = [math.exp(weight - most) for weight in weights]
    total = sum(shares)
    return [share / total for share in shares]


def numbers(scores: Sequence[float]) -> list[float]:
    """Scores with the missing (-inf) set to the lowest there is, so that weights stay finite."""
    finite = [score for score in scores if math.isfinite(score)]
    return [score if math.isfinite(score) else min(finite, default=0.0) for score in scores]


def in_units(score: float, scale: float) -> float:
    """A score in units of ``scale``, finite however small that is, so that weights can be compared."""
    return max(-HUGE, min(HUGE, score / scale))


def deviation(scores: Sequence[float]) -> float:
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))


def _first_by_weight(states: Sequence[Particle], weights: Sequence[float]) -> list[Particle]:
    order = sorted(range(len(states)), key=lambda k: -weights[k])
    return [states[k] for k in order]
