"""The searches that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import BEGINS_ANEW, FULL_STEPS, GRADIENT, NOISES, PREVIEWS, STEP_NOISE, Entry

SEARCHES = [
    Entry(
        "search", "random", "best of N: fresh noise each time, keep the best", "noisewright.search.random:random",
        {"cost": "N * S NFE", "reference": "Ma et al. 2025, section 3.1"},
    ),
    Entry(
        "search", "zero-order", "move to the best neighbour of the best noise so far, again and again",
        "noisewright.search.zero_order:zero_order",
        {"cost": "S * (1 + K * R) NFE", "reference": "Ma et al. 2025, section 3.1"},
        needs=(NOISES,),
    ),
    Entry(
        "search", "paths", "carry good states back towards noise, branch, keep the best previews",
        "noisewright.search.paths:paths",
        {"cost": "N * i0 + R * N * M * (L + 1) + finishing, NFE", "reference": "Ma et al. 2025, section 3.1"},
        needs=(FULL_STEPS, PREVIEWS, BEGINS_ANEW),
    ),
    Entry(
        "search", "zero-order+paths", "zero-order on the start, then paths from the winner",
        "noisewright.search.zero_order_paths:zero_order_paths",
        {"cost": "the sum of the two", "reference": "after Ma et al. 2025"},
        needs=(FULL_STEPS, PREVIEWS, BEGINS_ANEW, NOISES),
    ),
    Entry(
        "search", "fk", "a particle filter: weigh trajectories by their previews and resample",
        "noisewright.search.fk:fk",
        {"cost": "k * S NFE", "reference": "Singhal et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "svdd", "the best of M continuations, every B steps (SVDD; CoDe for B > 1)",
        "noisewright.search.svdd:svdd",
        {
            "cost": "W * (b + M * (S - b)) NFE a round, a little more or less",
            "reference": "Li et al. 2024; Singh et al. 2025",
        },
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "rbf", "stop a step's proposals at the first better preview, save the rest for later steps",
        "noisewright.search.rbf:rbf",
        {"cost": "about F * (b + 1) + (S - 1 - b) * Q NFE a round", "reference": "Kim et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS, PREVIEWS),
    ),
    Entry(
        "search", "evolution", "elites, tournament and mutation at several points of the way",
        "noisewright.search.evolution:evolution",
        {"cost": "P * S + generations * (P - E) * (S - i) NFE", "reference": "He et al. 2025"},
        needs=(FULL_STEPS, BEGINS_ANEW, NOISES),
    ),
    Entry(
        "search", "halving", "start many, cut by previews, where previews rank like finals",
        "noisewright.search.halving:halving",
        {
            "cost": "about 0.68 * N * S NFE at the defaults, and 0.32 * P * S for the pilot",
            "reference": "Jamieson and Talwalkar 2016",
        },
        needs=(PREVIEWS,),
    ),
    Entry(
        "search", "refine", "more like this, better: an evolution strategy or CMA-ES around a noise",
        "noisewright.search.refine:refine",
        {"cost": "S * (1 + P * G) NFE", "reference": "Hansen 2016"},
        needs=(NOISES,),
    ),
    Entry(
        "search", "gradient", "ascent on the starting noise, through the whole sampler, with the norm prior",
        "noisewright.search.gradient:gradient",
        {"cost": "K * S * (1 + I + I / every) NFE, and K * S * I backward", "reference": "Eyring et al. 2024 (ReNO)"},
        needs=(FULL_STEPS, GRADIENT, NOISES),
    ),
]  # fmt: skip
