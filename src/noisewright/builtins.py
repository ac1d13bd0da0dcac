"""What comes with noisewright, as entries of the registry; plug-ins add theirs in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """

    kind: str
    name: str
    summary: str
    target: str = ""
    details: dict[str, str] = field(default_factory=dict, hash=False)
    options: dict[str, str] = field(default_factory=dict, hash=False)


ENTRIES = [
    Entry(
        "search", "random", "best of N: fresh noise each time, keep the best", "noisewright.search.random:random",
        {"cost": "N * S NFE", "reference": "Ma et al. 2025, section 3.1"},
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
