"""What the benchmark of schedules asks the model: distances, features, best-of-N in a time limit."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import _schedules_model as model
import noisewright as nw
from _schedules_store import Part, Rows, hashed, save_whole
from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.images.metadata import read_image
from noisewright.measures.statistics import FeatureStatistics
from noisewright.shapes.oracle import grade
from noisewright.trajectory.metrics import Fid, Metric, metric_values
from noisewright.trajectory.path import with_schedule

# Distances and features: a job is one schedule on one part


@dataclass(frozen=True)
class Job:
    """A schedule on one part.

    Attributes:
        out: where things are kept.
        kind: "distance" or "features".
        schedule, solver, guidance: what is sampled with.
        part: which noises.
        teacher: steps of the many-step image; 0 for features.
        dtype: of the pipeline.
    """

    out: Path
    kind: str
    schedule: Schedule
    solver: str
    guidance: float
    part: Part
    teacher: int = 0
    dtype: str = "float32"

    @property
    def key(self) -> str:
        batch = (model.prompts_of(self.part.set)[self.part.prompt], self.part.seeds)
        judge = model.network().fingerprint if self.kind == "features" else model.teacher_levels(self.teacher).digest
        parts = [self.kind, model.fingerprint(), judge, self.schedule.digest, self.solver, self.guidance, batch]
        return hashed(*parts, *([] if self.dtype == "float32" else [self.dtype]))

    @property
    def file(self) -> Path:
        return self.out / "features" / f"{self.key}.safetensors"

    def done(self, rows: Rows) -> bool:
        return self.key in rows and (self.kind == "distance" or self.file.is_file())


class FeaturesOnly(Fid):
    """What a FID is made of: the features of images, without a reference."""

    def __init__(self) -> None:
        super().__init__(model.network(), FeatureStatistics(model.network().fingerprint))


def work(job: Job) -> dict[str, Any]:
    """The row of a job."""
    batch, solver = model.batch_of(job.part, job.guidance, job.dtype), registry.make_solver(job.solver)
    metric: Metric
    if job.kind == "distance":
        metric = model.teacher_of(job.out, job.guidance, job.teacher)
        metric.prepare(batch)  # not in the seconds
    else:
        metric = FeaturesOnly()
    began = time.perf_counter()
    found = metric_values(job.schedule, solver, [batch], [metric])[metric.name]
    row = {
        "key": job.key, "kind": job.kind, "schedule": job.schedule.digest, "solver": job.solver,
        "guidance": job.guidance, "set": job.part.set, "prompt": job.part.prompt, "block": job.part.block,
        "nfe": model.cost_of(job.solver, job.schedule), "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    if job.kind == "distance":
        row["values"] = [round(one, 7) for one in found.tolist()]
    else:
        save_whole({"features": found.half()}, job.file)
    return row


# Equal seconds


@dataclass(frozen=True)
class Arm:
    """A side of the comparison at equal seconds.

    Attributes:
        name: what it is called.
        schedule: its levels; None for the pipeline's own, with its default number of steps.
        solver: None for the pipeline's own.
        steps: as many.
    """

    name: str
    schedule: Schedule | None
    solver: str | None
    steps: int

    def key(self, prompt: str, seed: int, limit: float, guidance: float) -> str:
        levels = self.schedule.digest if self.schedule else "own"
        return hashed("equal", model.fingerprint(), levels, self.solver, self.steps, prompt, seed, limit, guidance)


def equal_seconds(arm: Arm, prompt: str, seed: int, limit: float, guidance: float) -> dict[str, Any]:
    """Best-of-N in a time limit for one prompt."""
    made = model.sampler_of(prompt, guidance, arm.steps)
    if arm.schedule is not None:
        made = with_schedule(made, arm.schedule, registry.make_solver(arm.solver or "ddim"))
    began = time.perf_counter()
    limited = f"{limit:g} s"
    result = nw.search(made, prompt, verifier=verifier(), judge=[], budget=limited, seed=seed, pictures=False)
    spent = time.perf_counter() - began
    pixels, _ = read_image(result.best.file)
    judged = grade(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, prompt)[0]
    return {
        "key": arm.key(prompt, seed, limit, guidance), "kind": "equal", "arm": arm.name, "prompt": prompt,
        "limit": limit, "score": next(iter(result.best.scores.values())), "right": judged.right,
        "grade": judged.score, "images": result.images, "seconds": round(spent, 2),
    }  # fmt: skip


@functools.cache
def verifier() -> Any:
    return registry.make_verifier("shapes-clip")
