"""Which pools of plain candidates are made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from _evidence.places import RUNS, first_seed, prompts_of, weights
from noisewright.benchmark.spec import SetPrompt

BLOCK = 32
"""Candidates of a file, made in one micro-batch."""


@dataclass(frozen=True)
class PoolPlan:
    """A pool.

    Attributes:
        name: of its result file.
        model: a bundled one.
        set: of prompts, see :func:`~_evidence.places.prompts_of`.
        prompts: how many.
        count: candidates of each, by seed.
        steps: of each.
        guidance: of the pipeline.
        dtype: of its weights.
        level: t of the linear path at which a preview is kept, or None.
    """

    name: str
    model: str
    set: str
    prompts: int
    count: int
    steps: int
    guidance: float
    dtype: str = "bfloat16"
    level: float | None = None

    def place(self, root: Path = RUNS) -> Path:
        """Where its images are, named by all that they depend on; pools that differ in size alone share them."""
        known = (self.model, weights(self.model), self.set, self.steps, self.guidance, self.dtype, self.level)
        model = self.model.rpartition("/")[2]
        digest = hashlib.sha256(repr(known).encode()).hexdigest()[:8]
        return root / "pools" / f"{model}-{self.set}-{self.steps}-{digest}"

    def blocks(self) -> list[Block]:
        """Its files, those of the first candidates of all prompts first."""
        some = prompts_of(self.set, self.prompts)
        return [Block(self, one, first) for first in range(0, self.count, BLOCK) for one in some]


@dataclass(frozen=True)
class Block:
    """Some candidates of a prompt.

    Attributes:
        plan: of the pool.
        prompt: whose candidates they are.
        first: the place of the first, from 0.
    """

    plan: PoolPlan
    prompt: SetPrompt
    first: int

    @property
    def seeds(self) -> list[int]:
        """One a candidate."""
        begin = first_seed(self.prompt.number) + self.first
        return list(range(begin, begin + min(BLOCK, self.plan.count - self.first)))

    def file(self, root: Path = RUNS) -> Path:
        """Its images."""
        return self.plan.place(root) / f"{self.first // BLOCK:02}" / f"{self.prompt.number:04}.npz"


SHAPES, SMALL, CIFAR10 = "noisewright/shapes", "noisewright/shapes-small", "noisewright/cifar10"
FEW, MANY = 50, 200

PLANS = {
    one.name: one
    for one in (
        PoolPlan("shapes-10", SHAPES, "test", MANY, 256, 10, 4.0),
        PoolPlan("shapes-5", SHAPES, "test", FEW, 128, 5, 4.0),
        PoolPlan("shapes-25", SHAPES, "test", FEW, 64, 25, 4.0),
        PoolPlan("shapes-50", SHAPES, "test", FEW, 64, 50, 4.0),
        PoolPlan("dev-10", SHAPES, "dev", 100, 32, 10, 4.0),
        PoolPlan("small-10", SMALL, "test", MANY, 64, 10, 4.0),
        PoolPlan("cifar10-10", CIFAR10, "classes", 320, 64, 10, 1.0, level=0.4),
        PoolPlan("cifar10-long", CIFAR10, "classes", 40, 256, 10, 1.0, level=0.4),
    )
}
"""By name. Sizes are what is wanted in the end; stages make parts of them first."""
