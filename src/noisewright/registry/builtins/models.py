"""The models that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

MODELS = [
    Entry(
        "model", "noisewright/shapes", "Stable Diffusion pipeline of a few million weights, 64x64 scenes of shapes",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
    Entry(
        "model", "noisewright/shapes-small", "the same with a U-Net of a fifth of its weights; the other parts are its",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
    Entry(
        "model", "noisewright/cifar10", "class-conditional flow transformer, 32x32 pictures of CIFAR-10's ten classes",
        details={"licence": "Apache-2.0", "size": "in the package"},
    ),
]  # fmt: skip
