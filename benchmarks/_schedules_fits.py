"""The fits of the benchmark of schedules, and what they are made from: error tables, rendered scenes, references.

Each lies in a file that is named by all that it was made from.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _schedules_model as model
from _schedules_store import FIRST_SEED, Part, hashed
from noisewright import registry
from noisewright.measures.statistics import FeatureStatistics
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.shapes.prompts import parse, sample_scene
from noisewright.shapes.scene import render
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, read_schedule_file
from noisewright.trajectory.images import encode, own_samples
from noisewright.trajectory.measure import measure
from noisewright.trajectory.methods import FitProblem, fit_by_dmn, fit_by_gits, fit_by_search, fit_by_vrg
from noisewright.trajectory.metrics import NoiseBatch
from noisewright.verifiers.fid import REFERENCE

GITS_NODES = 61

Find = Callable[[], FittedSchedule]


def fitted(file: Path, only: bool, find: Find) -> FittedSchedule | None:
    """The schedule in a file, found where it lacks; None where it lacks and ``only`` what is there is wanted."""
    if not file.is_file():
        if only:
            return None
        began = time.perf_counter()
        found = find()
        replace(found, made={**found.made, "seconds": round(time.perf_counter() - began, 2)}).save(file)
    known = read_schedule_file(file)
    return replace(known, schedule=replace(known.schedule, clock=model.model_path().clock))


def problem(out: Path, start: str, steps: int, solver: str = "ddim", guidance: float = 1.0) -> FitProblem:
    """What a schedule is fitted for: of the first dev prompt, where that does not count."""
    sampler = model.sampler_of(model.prompts_of("dev")[0], guidance)
    return FitProblem(sampler, model.named(start, steps), start, registry.make_solver(solver), DiskCache(out))


def batches(parts: Sequence[Part], guidance: float) -> list[NoiseBatch]:
    return [model.batch_of(part, guidance) for part in parts]


def scenes(prompts: Sequence[str], each: int, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Rendered pictures of prompts, (each, 3, 64, 64) in [0, 1] for a prompt."""
    for prompt in prompts:
        rng = np.random.default_rng([seed, zlib.crc32(prompt.encode())])
        pictures = [np.asarray(render(sample_scene(rng, parse(prompt)))) for _ in range(each)]
        yield prompt, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def errors_of(out: Path, images: int, levels: int, stride: int, guidance: float, only: bool) -> ErrorTable | None:
    """The prediction errors under some guidance: on rendered scenes of the dev prompts, eight a prompt, or where the
    model knows classes, on its own samples."""
    file = out / f"errors-{hashed('errors', model.fingerprint(), images, levels, stride, guidance)}.json"
    if not file.is_file():
        if only:
            return None
        began, each = time.perf_counter(), min(8, images)
        some = model.prompts_of("dev")[: -(-images // each)]

        def make(prompt: str) -> PipelineSampler:
            return model.sampler_of(prompt, guidance)

        if model.ground.classes:
            source, examples = "own samples", own_samples(make, some, count=images, batch=each, seed=FIRST_SEED["dev"])
        else:
            source = "rendered scenes"
            examples = ((p, encode(make(p), pictures)) for p, pictures in scenes(some, each, 1))
        table = measure(make, examples, levels=levels, stride=stride, source=source, settings={"guidance": guidance})
        table.save(file)
        print(f"errors of {table.images} images at {levels} levels: {time.perf_counter() - began:.0f} s", flush=True)
    return ErrorTable.load(file)


def fit_vrg(
    out: Path, start: str, steps: int, order: int, gamma: float, held: bool, table: ErrorTable, only: bool
) -> FittedSchedule | None:
    errors = [[one.s, one.mean_square] for one in table.levels]
    key = hashed("vrg", model.fingerprint(), model.named(start, steps).digest, errors, gamma, order, held)
    solver = "ddim" if order == 1 else f"dpm-solver-{order}"
    find = partial(fit_by_vrg, problem(out, start, steps, solver), table, gamma=gamma, fixed_start=held)
    return fitted(out / "fits" / f"vrg-{start}-{steps}-{key}.json", only, find)


def fit_dmn(out: Path, steps: int, only: bool) -> FittedSchedule | None:
    find = partial(fit_by_dmn, problem(out, "uniform", steps, "dpmpp-2m"), power=model.ground.power)
    return fitted(out / "fits" / f"dmn-{steps}-{hashed('dmn', model.fingerprint(), steps)}.json", only, find)


def fit_gits(out: Path, steps: int, guidance: float, parts: Sequence[Part], only: bool) -> FittedSchedule | None:
    """By the costs of one teacher's run, which all numbers of steps share."""
    key = hashed("gits", model.fingerprint(), guidance, GITS_NODES, [[p.prompt, p.seeds] for p in parts])
    find = partial(
        fit_by_gits, problem(out, "uniform", steps, guidance=guidance), batches(parts, guidance), nodes=GITS_NODES,
        guidance_scale=guidance,
    )  # fmt: skip
    return fitted(out / "fits" / f"gits-{steps}-{key}.json", only, find)


def fit_search(
    out: Path, start: str, steps: int, solver: str, guidance: float, parts: Sequence[Part], teacher: int,
    evaluations: int, only: bool,
) -> FittedSchedule | None:  # fmt: skip
    """CMA-ES on the distance to the teacher; figures on another block of the dev prompts."""
    noises = [[p.prompt, p.seeds] for p in parts]
    key = hashed("search", model.fingerprint(), model.named(start, steps).digest, solver, guidance, noises, teacher,
                 evaluations)  # fmt: skip
    find = partial(
        fit_by_search, problem(out, start, steps, solver, guidance), model.teacher_of(out, guidance, teacher),
        batches(parts, guidance), batches([replace(parts[0], block=20)], guidance), evaluations=evaluations,
        guidance_scale=guidance,
    )  # fmt: skip
    return fitted(out / "fits" / f"search-{start}-{steps}-{solver}-{key}.json", only, find)


def cpe_after(figures: dict[str, Any]) -> float:
    """Of a VRG fit; files of an earlier version call it otherwise."""
    return float(figures["cpe_after"] if "cpe_after" in figures else figures["cpe"])


def reference_of(out: Path, prompts: int, each: int, only: bool) -> FeatureStatistics | None:
    """Features of rendered scenes of the first test prompts; for classes, what comes with the network."""
    if model.ground.classes:
        return FeatureStatistics.load(Path(registry.find_model(model.ground.network)) / REFERENCE)
    file = out / f"reference-{hashed('reference', model.network().fingerprint, prompts, each)}.safetensors"
    if not file.is_file():
        if only:
            return None
        known = FeatureStatistics(model.network().fingerprint)
        for _, pictures in scenes(model.prompts_of("test")[:prompts], each, 2):
            known.add(model.network()(pictures).features)
        known.save(file)
    return FeatureStatistics.load(file)
