"""Refinement: more like this, better. An evolution strategy in the noise around a pivot, on its sphere."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from noisewright.diffusion.noise import seed_of
from noisewright.outside.messages import short
from noisewright.run.particle import Candidate, Particle, from_lineage
from noisewright.run.verbs import Run
from noisewright.run.ways import given
from noisewright.schemas.lineage import check_lineage
from noisewright.search.checks import at_least, at_once, inside

MOST_DIMENSIONS = 512
"""CMA-ES decomposes a matrix of their square again and again."""


def refine(
    run: Run,
    start: list[dict[str, Any]] | None = None,
    method: Literal["es", "cmaes"] = "es",
    population: int = 8,
    elites: int = 3,
    cosine: float = 0.9,
    shrink: float = 0.9,
    generations: int | None = None,
    dimensions: int = 16,
) -> None:
    """Finish the pivot, then generations of noises around it.

    Cost: ``S * (1 + P * G)`` NFE for G generations of P.

    ``es`` is a covariance-free evolution strategy (cross-entropy method): the children are rotations of the centre by a
    fixed angle, the next centre is the rank-weighted mean of the best of them and of the pivot, at the norm of a noise,
    and the angle shrinks. ``cmaes`` is CMA-ES (Hansen 2016; the ``cmaes`` package) on a slice of the noise of a few
    dimensions, the tangent coordinates of :func:`noisewright.diffusion.noise.place`.

    Args:
        run: the verbs.
        start: the lineage of an image whose starting noise is to be refined, as its recipe has it; by default the
            noise of the run's seed. As text, the path of such an image: ``--search-arg start=best.png``.
        method: which.
        population: P.
        elites: of which the next centre is made (``es``), at most P.
        cosine: of the children's angle to the centre, in (0, 1); for ``cmaes`` its first deviation.
        shrink: what the angle is multiplied with after each generation, in (0, 1] (``es``).
        generations: G; by default as many as the budget allows.
        dimensions: of the slice (``cmaes``).
    """
    at_least(1, generations=generations, elites=elites)
    at_least(2, population=population, dimensions=dimensions)
    at_once(run, population=population)
    inside(0, 1, cosine=cosine, closed="no")
    inside(0, 1, shrink=shrink, closed="right")
    if elites > population and method == "es":
        raise ValueError(f"expected at most {population} elites (the population), got {short(elites)}")
    begin = _noise_of(run, start) if start is not None else None
    if method == "cmaes":
        if dimensions >= run.noise_size:
            raise ValueError(f"expected dimensions below the {run.noise_size} of the noise, got {short(dimensions)}")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"expected at most {MOST_DIMENSIONS} dimensions, got {short(dimensions)}")
        import numpy as np
        from cmaes import CMA

        spread = math.tan(math.acos(cosine)) / math.sqrt(dimensions)
        optimiser = CMA(
            mean=np.zeros(dimensions),
            sigma=spread,
            seed=seed_of(run.seed, "refine") % 2**32,
            population_size=population,
        )
        centre = _begin(run, begin)
        drive(run, optimiser, lambda at: run.place(centre.particle.start, at), population, generations)
        return
    pivot = _begin(run, begin)
    centre_noise, angle, made = pivot.particle.start, math.acos(cosine), 0
    while generations is None or made < generations:
        made += 1
        found = run.finish(run.vary(centre_noise, population, math.cos(angle)))
        best = run.top([pivot, *found], elites)
        pivot = best[0]
        weights = [math.log(elites + 0.5) - math.log(k + 1) for k in range(len(best))]
        centre_noise = run.blend([one.particle.start for one in best], weights)
        angle *= shrink


class AskAndTell(Protocol):
    """An outside optimiser that minimises, such as those of the ``cmaes`` package."""

    def ask(self) -> Any: ...

    def tell(self, solutions: list[tuple[Any, float]]) -> None: ...


def drive(
    run: Run,
    optimiser: AskAndTell,
    particle: Callable[[Sequence[float]], Particle],
    population: int,
    generations: int | None,
) -> None:
    """Let an ask-and-tell optimiser choose points, finish their particles, and tell it what they scored.

    Args:
        run: the verbs.
        optimiser: it must draw from its own seeded generator, or the run cannot be resumed.
        particle: the particle of a point.
        population: points between two tells.
        generations: how many; None goes on until the budget ends.
    """
    made = 0
    while generations is None or made < generations:
        made += 1
        points = [optimiser.ask() for _ in range(population)]
        values = run.value(run.finish([particle([float(v) for v in point]) for point in points]))
        worst = min((value for value in values if math.isfinite(value)), default=0.0)
        losses = [-(value if math.isfinite(value) else worst) for value in values]
        optimiser.tell(list(zip(points, losses, strict=True)))


def _noise_of(run: Run, lineage: list[dict[str, Any]]) -> Particle:
    """The starting noise of an image that is made from it alone; of another kind it would be another image's."""
    check_lineage(lineage, "start")
    particle = from_lineage(lineage)
    if particle.origin.index != 0:
        raise ValueError(
            f"expected an image that its starting noise alone makes, got one of a {particle.origin.verb} on the way"
        )
    return given(particle.start, run.kind, run.full_kind[0])


def _begin(run: Run, start: Particle | None) -> Candidate:
    return run.finish([start] if start is not None else run.noise(1))[0]
