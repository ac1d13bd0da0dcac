"""What comes with noisewright, as entries of the registry; plug-ins add theirs in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field

STEP_NOISE = "step noise"
"""A search whose copies of a particle differ by the noise of their steps: eta > 0."""

FULL_STEPS = "full steps"
"""A search that changes states on their way, which have no counterpart on another number of steps."""


@dataclass(frozen=True)
class Entry:
    """One named thing that a person can choose.

    Attributes:
        kind: ``search``, ``verifier``, ``model``, ``solver`` or ``schedule``.
        name: what is typed.
        summary: one line.
        target: ``module:attribute`` that is imported when it is chosen ("" for models and schedules).
        details: what ``list`` shows besides: cost, reference, range, licence, ...
        options: keyword arguments given to the target.
        needs: of a search, among ``STEP_NOISE`` and ``FULL_STEPS``.
    """

    kind: str
    name: str
    summary: str
    target: str = ""
    details: dict[str, str] = field(default_factory=dict, hash=False)
    options: dict[str, str] = field(default_factory=dict, hash=False)
    needs: tuple[str, ...] = ()


ENTRIES = [
    Entry(
        "search", "random", "best of N: fresh noise each time, keep the best", "noisewright.search.random:random",
        {"cost": "N * S NFE", "reference": "Ma et al. 2025, section 3.1"},
    ),
    Entry(
        "search", "zero-order", "move to the best neighbour of the best noise so far, again and again",
        "noisewright.search.zero_order:zero_order",
        {"cost": "S * (1 + K * R) NFE", "reference": "Ma et al. 2025, section 3.1"},
    ),
    Entry(
        "search", "paths", "carry good states back towards noise, branch, keep the best previews",
        "noisewright.search.paths:paths",
        {"cost": "N * i0 + R * N * M * (L + 1) + finishing, NFE", "reference": "Ma et al. 2025, section 3.1"},
        needs=(FULL_STEPS,),
    ),
    Entry(
        "search", "zero-order+paths", "zero-order on the start, then paths from the winner",
        "noisewright.search.zero_order_paths:zero_order_paths",
        {"cost": "the sum of the two", "reference": "after Ma et al. 2025"},
        needs=(FULL_STEPS,),
    ),
    Entry(
        "search", "fk", "a particle filter: weigh trajectories by their previews and resample",
        "noisewright.search.fk:fk",
        {"cost": "k * S NFE", "reference": "Singhal et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS),
    ),
    Entry(
        "search", "svdd", "the best of M continuations, every B steps (SVDD; CoDe for B > 1)",
        "noisewright.search.svdd:svdd",
        {"cost": "about W * M * S NFE", "reference": "Li et al. 2024; Singh et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS),
    ),
    Entry(
        "search", "rbf", "stop a step's proposals at the first better preview, save the rest for later steps",
        "noisewright.search.rbf:rbf",
        {"cost": "at most F + (S - 1) * Q NFE", "reference": "Kim et al. 2025"},
        needs=(STEP_NOISE, FULL_STEPS),
    ),
    Entry(
        "search", "evolution", "elites, tournament and mutation at several points of the way",
        "noisewright.search.evolution:evolution",
        {"cost": "P * S + generations * (P - E) * (S - i) NFE", "reference": "He et al. 2025"},
        needs=(FULL_STEPS,),
    ),
    Entry(
        "search", "halving", "start many, cut by previews, where previews rank like finals",
        "noisewright.search.halving:halving",
        {"cost": "about 0.76 * N * S NFE at the defaults", "reference": "Jamieson and Talwalkar 2016"},
    ),
    Entry(
        "search", "refine", "more like this, better: an evolution strategy or CMA-ES around a noise",
        "noisewright.search.refine:refine",
        {"cost": "S * (1 + P * G) NFE", "reference": "Hansen 2016"},
    ),
    Entry(
        "search", "gradient", "ascent on the starting noise, through the whole sampler, with the norm prior",
        "noisewright.search.gradient:gradient",
        {"cost": "K * S * (1 + I + I / every) NFE, and K * S * I backward", "reference": "Eyring et al. 2024 (ReNO)"},
    ),
    Entry(
        "verifier", "clip", "CLIPScore, 100 max(cos, 0); clip:MODEL chooses another CLIPModel",
        "noisewright.verifiers.clip:ClipVerifier",
        {"range": "0..100, usually 20..35", "licence": "MIT (openai/clip-vit-large-patch14)", "size": "1.7 GB"},
        {"model": "openai/clip-vit-large-patch14"},
    ),
    Entry(
        "verifier", "shapes-clip", "CLIPScore by the bundled CLIPModel of the shapes world",
        "noisewright.verifiers.clip:ClipVerifier",
        {"range": "0..100", "licence": "Apache-2.0", "size": "in the package"},
        {"model": "noisewright/shapes-clip"},
    ),
    Entry(
        "verifier", "shapes-oracle", "exact reader of the shapes world; 1.0 = the whole scene is right",
        "noisewright.verifiers.shapes_oracle:ShapesOracle",
        {"range": "0..1", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "verifier", "brightness", "mean of all channels", "noisewright.verifiers.pixels:Brightness",
        {"range": "0..1", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "verifier", "sharpness", "mean absolute Laplacian of the grey image", "noisewright.verifiers.pixels:Sharpness",
        {"range": "0..4", "licence": "Apache-2.0", "size": "no model"},
    ),
    Entry(
        "model", "noisewright/shapes", "Stable Diffusion pipeline of a few million weights, 64x64 scenes of shapes",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
    Entry(
        "solver", "pipeline", "the pipeline's own scheduler (mapped to the equal solver, or run natively)",
        details={"nfe per step": "as the scheduler"},
    ),
    Entry(
        "solver", "ddim", "DDIM with eta; Euler on flow models", "noisewright.solvers:Ddim",
        {"nfe per step": "1", "reference": "Song et al. 2021"}, {"name": "ddim"},
    ),
    Entry(
        "solver", "euler", "the same rule under its other name", "noisewright.solvers:Ddim",
        {"nfe per step": "1", "reference": "Karras et al. 2022"}, {"name": "euler"},
    ),
    Entry("schedule", "pipeline", "the pipeline's own noise levels"),
]  # fmt: skip
