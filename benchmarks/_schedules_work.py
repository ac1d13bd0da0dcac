"""What the benchmark of schedules asks the model: teacher images, distances, features, fits. Each is kept on disk."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import noisewright as nw
from _schedules_store import FIRST_SEED, Part, Rows, hashed, save_whole
from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.schedules import named_schedule
from noisewright.diffusion.solvers import Ddim, nfe
from noisewright.images.metadata import read_image
from noisewright.measures.statistics import FeatureStatistics
from noisewright.samplers.classes import labels_of
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import load_prompts, parse, sample_scene
from noisewright.shapes.scene import render
from noisewright.trajectory import dmn, gits, vrg
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, identity, read_schedule_file, write_schedule_file
from noisewright.trajectory.images import encode, own_samples
from noisewright.trajectory.measure import measure
from noisewright.trajectory.metrics import NoiseBatch, Teacher, images_of
from noisewright.trajectory.path import ModelPath, path_of, ruled, with_schedule
from noisewright.trajectory.tune import tune
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.fid import REFERENCE
from searches import balanced

GITS_NODES = 61


@dataclass(frozen=True)
class Ground:
    """A model to measure on.

    Attributes:
        model: a bundled one.
        network: what the FID's features come from.
        power: DMN's p, 1 for pixels and 2 for latents.
        classes: whether it is asked for classes, and not prompts.
    """

    model: str
    network: str
    power: float
    classes: bool


GROUNDS = {
    "shapes": Ground("noisewright/shapes", "noisewright/shapes-clip", 2.0, False),
    "cifar10": Ground("noisewright/cifar10", "noisewright/cifar10-classifier", 1.0, True),
}
ground = GROUNDS["shapes"]


def stand_on(name: str) -> None:
    """Choose the model of this process, before anything else is asked of it."""
    global ground
    ground = GROUNDS[name]


@functools.cache
def pipeline(dtype: str = "float32") -> Any:
    torch.set_num_threads(1)  # as many processes as cores, of one thread each
    return nw.load(ground.model, dtype=dtype)


@functools.cache
def prompts_of(name: str) -> tuple[str, ...]:
    """The prompts of a set, kinds alternating; or the classes."""
    if ground.classes:
        return tuple(labels_of(pipeline()))
    name = "dev" if name in ("dev", "wide") else "test"
    return tuple(prompt for _, prompt in balanced(load_prompts(name), 200))


@functools.lru_cache(maxsize=256)
def sampler_of(prompt: str, guidance: float, steps: int = 25, dtype: str = "float32") -> PipelineSampler:
    asked = {"prompt": "", "class_label": prompt} if ground.classes else {"prompt": prompt}
    return PipelineSampler(
        pipeline(dtype), **asked, num_inference_steps=steps, guidance_scale=guidance, model=ground.model
    )


@functools.cache
def network() -> FeatureNetwork:
    return FeatureNetwork(registry.find_model(ground.network))


@functools.cache
def fingerprint() -> str:
    """Of the model, by the rule that the rows which are kept were named by."""
    sampler = sampler_of(prompts_of("dev")[0], 1.0)
    return str(identity(sampler)["fingerprint"].older())


@functools.cache
def model_path() -> ModelPath:
    """The model's levels, down to the clean image: every schedule here ends at 0, so that ends do not differ."""
    return replace(path_of(sampler_of(prompts_of("dev")[0], 1.0)), end=0.0)


@functools.cache
def named(name: str, steps: int) -> Schedule:
    """A named schedule, or the pipeline's own levels, ending at the clean image.

    Raises:
        ValueError: where a rule has no such number of steps.
    """
    path = model_path()
    if name == "pipeline":
        return path.schedule(path.levels_of(sampler_of(prompts_of("dev")[0], 1.0, steps).schedule))
    assert path.clock is not None
    made = named_schedule(name, path.clock, steps)
    assert made.sigma[-1] == 0
    return made


@functools.cache
def teacher_levels(steps: int) -> Schedule:
    return ruled("uniform", model_path(), steps)


def subject_of(part: Part, guidance: float, dtype: str = "float32") -> NoiseBatch:
    prompt = prompts_of(part.set)[part.prompt]
    return NoiseBatch(sampler_of(prompt, guidance, dtype=dtype), prompt, part.seeds)


@functools.cache
def teacher_of(out: Path, guidance: float, steps: int) -> Teacher:
    """One for each guidance: it knows its noises by prompt and seed."""
    return Teacher(steps, DiskCache(out))


def cost_of(solver: str, schedule: Schedule) -> int:
    """Guided evaluations of an image."""
    return nfe(registry.make_solver(solver), schedule, 0, schedule.steps)


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
        batch = (prompts_of(self.part.set)[self.part.prompt], self.part.seeds)
        judge = network().fingerprint if self.kind == "features" else teacher_levels(self.teacher).digest
        asked = [self.kind, fingerprint(), judge, self.schedule.digest, self.solver, self.guidance, batch]
        return hashed(*asked, *([] if self.dtype == "float32" else [self.dtype]))

    @property
    def file(self) -> Path:
        return self.out / "features" / f"{self.key}.safetensors"

    def done(self, rows: Rows) -> bool:
        return self.key in rows and (self.kind == "distance" or self.file.is_file())


def work(job: Job) -> dict[str, Any]:
    """The row of a job."""
    batch = subject_of(job.part, job.guidance, job.dtype)
    teacher = teacher_of(job.out, job.guidance, job.teacher)
    if job.kind == "distance":
        teacher.images(batch)  # not in the seconds
    began = time.perf_counter()
    images = images_of(with_schedule(batch.sampler, job.schedule, registry.make_solver(job.solver)), batch.seeds)
    row = {
        "key": job.key, "kind": job.kind, "schedule": job.schedule.digest, "solver": job.solver,
        "guidance": job.guidance, "set": job.part.set, "prompt": job.part.prompt, "block": job.part.block,
        "nfe": cost_of(job.solver, job.schedule), "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    if job.kind == "distance":
        row["values"] = [round(one, 7) for one in teacher.values(batch, images).tolist()]
    else:
        save_whole({"features": network()(images).features.half()}, job.file)
    return row


def noises_in(parts: Sequence[Part]) -> int:
    return sum(len(part.seeds) for part in parts)


# Fits: files named by all that they were made from


def kept(file: Path, only: bool, make: Any) -> FittedSchedule | None:
    """The schedule in a file, made where it lacks; None where it lacks and ``only`` what is there is wanted."""
    if not file.is_file():
        if only:
            return None
        began = time.perf_counter()
        schedule, solver, about, figures = make()
        about = {**about, "seconds": round(time.perf_counter() - began, 2)}
        write_schedule_file(
            file, FittedSchedule(schedule, solver, identity(sampler_of(prompts_of("dev")[0], 1.0)), about, figures)
        )
    found = read_schedule_file(file)
    return replace(found, schedule=replace(found.schedule, clock=model_path().clock))


def scenes(prompts: Sequence[str], each: int, seed: int) -> Any:
    """Rendered pictures of prompts, (each, 3, 64, 64) in [0, 1] for a prompt."""
    for prompt in prompts:
        rng = np.random.default_rng([seed, zlib.crc32(prompt.encode())])
        pictures = [np.asarray(render(sample_scene(rng, parse(prompt)))) for _ in range(each)]
        yield prompt, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def errors_of(out: Path, images: int, levels: int, stride: int, guidance: float, only: bool) -> ErrorTable | None:
    """The prediction errors under some guidance: on rendered scenes of the dev prompts, eight a prompt, or where the
    model knows classes, on its own samples."""
    file = out / f"errors-{hashed('errors', fingerprint(), images, levels, stride, guidance)}.json"
    if not file.is_file():
        if only:
            return None
        began, each = time.perf_counter(), min(8, images)
        some = prompts_of("dev")[: -(-images // each)]

        def make(prompt: str) -> PipelineSampler:
            return sampler_of(prompt, guidance)

        if ground.classes:
            source, examples = "own samples", own_samples(make, some, count=images, batch=each, seed=FIRST_SEED["dev"])
        else:
            source = "rendered scenes"
            examples = ((p, encode(make(p), pictures)) for p, pictures in scenes(some, each, 1))
        table = measure(make, examples, levels=levels, stride=stride, source=source, settings={"guidance": guidance})
        table.save(file)
        print(f"errors of {table.images} images at {levels} levels: {time.perf_counter() - began:.0f} s", flush=True)
    return ErrorTable.load(file)


def cpe(schedule: Schedule, table: ErrorTable, order: int) -> float:
    return float(vrg.cumulative_error(vrg.abar_of(schedule), table, 1.0, order))


def fit_vrg(
    out: Path, start: str, steps: int, order: int, gamma: float, held: bool, table: ErrorTable, only: bool
) -> FittedSchedule | None:
    begun = named(start, steps)
    measured = [[one.s, one.mean_square] for one in table.levels]
    key = hashed("vrg", fingerprint(), begun.digest, measured, gamma, order, held)

    def make() -> Any:
        made = vrg.fit_vrg(begun, table, model_path(), gamma=gamma, order=order, fixed_start=held)
        about = {"method": "vrg", "from": start, "gamma": gamma, "order": order, "fixed_start": held}
        figures = {"cpe_before": cpe(begun, table, order), "cpe": cpe(made.schedule, table, order)}
        return made.schedule, "ddim", about, figures

    return kept(out / "fits" / f"vrg-{start}-{steps}-{key}.json", only, make)


def fit_dmn(out: Path, steps: int, only: bool) -> FittedSchedule | None:
    def make() -> Any:
        found = dmn.fit_dmn(model_path(), steps, power=ground.power)
        return found.schedule, "dpmpp-2m", {"method": "dmn", "power": ground.power}, found.figures

    return kept(out / "fits" / f"dmn-{steps}-{hashed('dmn', fingerprint(), steps)}.json", only, make)


def fit_gits(out: Path, steps: int, guidance: float, parts: Sequence[Part], only: bool) -> FittedSchedule | None:
    """By the costs of one teacher's run, which all numbers of steps share."""
    key = hashed("gits", fingerprint(), guidance, GITS_NODES, [[p.prompt, p.seeds] for p in parts])
    file = out / "fits" / f"gits-costs-{key}.safetensors"

    def make() -> Any:
        if not file.is_file():
            begun = ruled("uniform", model_path(), 2)
            teachers = [(with_schedule(one.sampler, begun, Ddim()), one.seeds)
                        for one in (subject_of(part, guidance) for part in parts)]  # fmt: skip
            costs, levels, _ = gits.teacher_costs(teachers, nodes=GITS_NODES)
            save_whole({"costs": costs, "levels": torch.tensor(levels, dtype=torch.float64)}, file)
        held = load_file(file)
        found = gits.fit_gits(held["costs"], held["levels"].tolist(), model_path(), steps)
        return (
            found.schedule,
            "ddim",
            {"method": "gits", "noises": noises_in(parts), "guidance": guidance},
            found.figures,
        )

    return kept(out / "fits" / f"gits-{steps}-{key}.json", only, make)


def fit_search(
    out: Path, start: str, steps: int, solver: str, guidance: float, parts: Sequence[Part], teacher: int,
    evaluations: int, only: bool,
) -> FittedSchedule | None:  # fmt: skip
    """CMA-ES on the distance to the teacher; figures on another block of the dev prompts."""
    begun = named(start, steps)
    used = [[p.prompt, p.seeds] for p in parts]
    key = hashed("search", fingerprint(), begun.digest, solver, guidance, used, teacher, evaluations)

    def make() -> Any:
        other = subject_of(replace(parts[0], block=20), guidance)
        found = tune(
            begun, model_path(), registry.make_solver(solver), teacher_of(out, guidance, teacher),
            [subject_of(part, guidance) for part in parts], [other], evaluations=evaluations,
        )  # fmt: skip
        about = {
            "method": "search",
            "from": start,
            "guidance": guidance,
            "noises": noises_in(parts),
            "teacher": teacher,
        }
        return found.schedule, solver, about, found.figures

    return kept(out / "fits" / f"search-{start}-{steps}-{solver}-{key}.json", only, make)


def reference_of(out: Path, prompts: int, each: int, only: bool) -> FeatureStatistics | None:
    """Features of rendered scenes of the first test prompts; for classes, what comes with the network."""
    if ground.classes:
        return FeatureStatistics.load(Path(registry.find_model(ground.network)) / REFERENCE)
    file = out / f"reference-{hashed('reference', network().fingerprint, prompts, each)}.safetensors"
    if not file.is_file():
        if only:
            return None
        known = FeatureStatistics(network().fingerprint)
        for _, pictures in scenes(prompts_of("test")[:prompts], each, 2):
            known.add(network()(pictures).features)
        known.save(file)
    return FeatureStatistics.load(file)


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
        return hashed("equal", fingerprint(), levels, self.solver, self.steps, prompt, seed, limit, guidance)


def equal_seconds(arm: Arm, prompt: str, seed: int, limit: float, guidance: float) -> dict[str, Any]:
    """Best-of-N in a time limit for one prompt."""
    made = sampler_of(prompt, guidance, arm.steps)
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
