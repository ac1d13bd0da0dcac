"""Schedules on shapes, before and after VRG, beside its controls and peers, on the same noises.

Everything is tuned on the dev prompts with seeds of their own (gamma, the best of the random perturbations, ``search``)
and reported on the test prompts. Metrics: the distance to the 200-step image of the same noise, and the FID of CLIP
features to rendered scenes of the same prompts. Intervals: bootstrap, 95 %; changes in distance are paired by image.

For each start, number of steps and solver:

- ``before``: the start itself; ``vrg``: fitted, gamma by the tuning metric;
- ``start only``: the start's own spacing rule from the noisiest level that vrg chose, and nothing else;
- ``vrg, start held``: fitted with the noisiest level where it was;
- ``random``: the best of ``--random`` perturbations in the trust region of vrg, by the tuning metric;
- ``search``: CMA-ES on the tuning metric.

Without a start: ``karras``, ``ays-sd15``, ``gits``, ``dmn``. Stages, each going on where it was stopped:
``errors.json`` (the prediction errors), ``schedules/`` (the fits), ``teacher/``, then ``rows.jsonl`` and ``features/``.
``--show`` prints what is there, with the correlation of the drops in cumulative error and in the metrics.
``--equal-seconds`` compares best-of-N with a fitted schedule and with the default steps.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import noisewright as nw
from noisewright import registry
from noisewright.evaluate.bootstrap import interval
from noisewright.evaluate.distribution import fid_interval
from noisewright.features import FeatureNetwork
from noisewright.metadata import read_image
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.schedule import Schedule
from noisewright.schedules import named_schedule
from noisewright.shapes.oracle import grade
from noisewright.shapes.prompts import load_prompts, parse, sample_scene
from noisewright.shapes.scene import render
from noisewright.solvers import Ddim
from noisewright.statistics import FeatureStatistics
from noisewright.trajectory import dmn, gits, vrg
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import ScheduleFile, identity, read_schedule_file, write_schedule_file
from noisewright.trajectory.images import encode
from noisewright.trajectory.measure import measure
from noisewright.trajectory.metrics import Subject, Teacher, images_of, measured
from noisewright.trajectory.path import path_of, spaced, with_schedule
from noisewright.trajectory.tune import tune

STARTS = ("logsnr", "quadratic", "uniform")
WITH_START = ("before", "vrg", "start only", "vrg, start held", "random", "search")
ALONE = ("karras", "ays-sd15", "gits", "dmn")
SOLVERS = ("ddim", "dpm-solver-2", "dpm-solver-3", "deis-2", "pndm-f", "stsp")
TUNING_SEED, REPORT_SEED = 10_000_000, 0
Cell = tuple[float, str, int, str, str]
"""Guidance, start ("-" for none), steps, solver, variant."""


@functools.cache
def pipeline() -> Any:
    torch.set_num_threads(1)  # as many processes as cores, of one thread each
    return nw.load()


@functools.cache
def sampler_of(prompt: str, guidance: float) -> PipelineSampler:
    return PipelineSampler(
        pipeline(), prompt, num_inference_steps=25, guidance_scale=guidance, model="noisewright/shapes"
    )


@functools.cache
def network() -> FeatureNetwork:
    return FeatureNetwork(registry.find_model("noisewright/shapes-clip"))


def subjects_of(name: str, count: int, prompts: int, guidance: float, seed: int) -> list[Subject]:
    """``count`` noises over the first prompts of a set, a prompt at a time; every prompt has seeds of its own."""
    known = load_prompts(name)[:: max(1, 200 // prompts)][:prompts]
    found = []
    for n, prompt in enumerate(known):
        share = count // len(known) + (n < count % len(known))
        seeds = tuple(range(seed + 1000 * n, seed + 1000 * n + share))
        if share:
            found.append(Subject(sampler_of(prompt, guidance), prompt, seeds))
    return found


def parts_of(given: argparse.Namespace, guidance: float) -> list[list[Subject]]:
    some = subjects_of("test", given.count, given.prompts, guidance, REPORT_SEED)
    return [some[k : k + given.part] for k in range(0, len(some), given.part)]


def scenes(prompts: Sequence[str], each: int, seed: int) -> list[tuple[str, torch.Tensor]]:
    """Rendered pictures of prompts, (each, 3, 64, 64) in [0, 1] for a prompt."""
    found = []
    for prompt in prompts:
        rng = np.random.default_rng([seed, zlib.crc32(prompt.encode())])
        pictures = [np.asarray(render(sample_scene(rng, parse(prompt)))) for _ in range(each)]
        found.append((prompt, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255))
    return found


def slug(cell: Cell) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", " ".join(map(str, cell)).lower()).strip("-")


def cells_of(given: argparse.Namespace) -> list[Cell]:
    found: list[Cell] = []
    for guidance, steps, solver in itertools.product(given.guidance, given.steps, given.solvers):
        if solver in ("stsp", "ltsp") and guidance <= 1:
            continue  # nothing to split
        for start, variant in itertools.product(given.starts, given.variants):
            if variant in WITH_START:
                found.append((guidance, start, steps, solver, variant))
        found += [(guidance, "-", steps, solver, variant) for variant in given.variants if variant in ALONE]
    return found


# The stages


def errors_of(given: argparse.Namespace) -> ErrorTable:
    """The prediction errors of the model on rendered scenes of the dev prompts, measured once."""
    file = given.out / "errors.json"
    if file.is_file():
        return ErrorTable.load(file)
    each = max(1, given.images // len(load_prompts("dev")[: given.images]))

    def examples() -> Any:
        for prompt, pictures in scenes(load_prompts("dev")[: given.images], each, 1):
            yield prompt, encode(sampler_of(prompt, 1.0), pictures)

    began = time.perf_counter()
    table = measure(lambda prompt: sampler_of(prompt, 1.0), examples(), levels=given.levels, source="rendered scenes")
    print(f"errors of {table.images} images at {given.levels} levels: {time.perf_counter() - began:.0f} s", flush=True)
    table.save(file)
    return table


def fit(job: tuple[Cell, argparse.Namespace]) -> str:
    """Make the schedule of a cell, tuned on the dev prompts where it is tuned, and write it."""
    cell, given = job
    guidance, start, steps, name, variant = cell
    began = time.perf_counter()
    solver = registry.make_solver(name)
    tuning = subjects_of("dev", given.tuning, min(given.tuning, given.prompts), guidance, TUNING_SEED)
    sampler = tuning[0].sampler
    clock = sampler.schedule.clock
    assert clock is not None
    first = start if start != "-" else variant if variant in ("karras", "ays-sd15") else "logsnr"
    begun = named_schedule(first, clock, steps)
    path = path_of(with_schedule(sampler, begun, Ddim()))
    table = ErrorTable.load(given.out / "errors.json")
    order = vrg.order_of(solver)
    teacher = Teacher(given.teacher)

    def worth(schedule: Schedule) -> float:
        return teacher.summary(measured(schedule, solver, tuning, [teacher])[teacher.name])

    def best(options: list[tuple[Any, Schedule]]) -> tuple[Any, Schedule]:
        return min(options, key=lambda one: worth(one[1])) if len(options) > 1 else options[0]

    figures: dict[str, Any] = {}
    made = begun
    if variant in ("vrg", "vrg, start held"):
        held = variant != "vrg"
        fits = [(g, vrg.fit_vrg(begun, table, path, gamma=g, order=order, fixed_start=held)) for g in given.gammas]
        gamma, made = best([(g, one.schedule) for g, one in fits])
        figures = {"gamma": gamma}
    elif variant in ("start only", "random"):
        of_vrg = read_schedule_file(given.out / "schedules" / f"{slug((*cell[:4], 'vrg'))}.json")
        if variant == "start only":
            made = spaced(start, path, steps, path.levels_of(of_vrg.schedule)[0])
        else:
            gamma = of_vrg.figures["gamma"]
            draws = [(n, vrg.perturbed(begun, path, gamma, n)) for n in range(given.random)]
            figures["seed"], made = best(draws)
    elif variant == "search":
        reporting = subjects_of("dev", given.tuning, min(given.tuning, given.prompts), guidance, TUNING_SEED + 500)
        found = tune(begun, path, solver, teacher, tuning, reporting, evaluations=given.evaluations)
        made, figures = found.schedule, found.figures
    elif variant == "gits":
        teachers = [(with_schedule(one.sampler, begun, Ddim()), one.seeds) for one in tuning]
        costs, levels, line = gits.teacher_costs(teachers)
        made = gits.fit_gits(costs, levels, line, steps).schedule
    elif variant == "dmn":
        found = dmn.fit_dmn(path, steps, power=2.0)
        made, figures = found.schedule, found.figures
    cpe = {}
    end = 1 / (1 + path.end**2)
    for label, one in (("cpe_before", begun), ("cpe", made)):
        cpe[label] = float(vrg.cumulative_error(vrg.abar_of(one), table, end, order))
    about = {"method": variant, "from": start, "seconds": round(time.perf_counter() - began, 2)}
    file = given.out / "schedules" / f"{slug(cell)}.json"
    write_schedule_file(file, ScheduleFile(made, name, identity(sampler), about, {**figures, **cpe}))
    return f"{slug(cell)}: {about['seconds']} s"


def teach(job: tuple[float, int, argparse.Namespace]) -> str:
    """The 200-step images of one part."""
    guidance, part, given = job
    rows = []
    for one in parts_of(given, guidance)[part]:
        path = replace(path_of(one.sampler), end=0.0)
        made = images_of(with_schedule(one.sampler, spaced("uniform", path, given.teacher), Ddim()), one.seeds)
        rows.append(made.mul(255).round().byte())
    save_file({"images": torch.cat(rows)}, teacher_file(given, guidance, part))
    return f"teacher {guidance:g}, part {part}"


def teacher_file(given: argparse.Namespace, guidance: float, part: int) -> Path:
    return given.out / "teacher" / f"{guidance:g}-{part}-{shape_of(given)}-{given.teacher}.safetensors"


def shape_of(given: argparse.Namespace) -> str:
    """What a part depends on; rows made otherwise are not taken for it."""
    return f"{given.count}-{given.prompts}-{given.part}"


def sample(job: tuple[Cell, int, argparse.Namespace]) -> dict[str, Any]:
    """The images of one part under one schedule: their distances in the row, their features in a file."""
    cell, part, given = job
    held = read_schedule_file(given.out / "schedules" / f"{slug(cell)}.json")
    solver = registry.make_solver(cell[3])
    there = load_file(teacher_file(given, cell[0], part))["images"]
    distances, features, seconds, at = [], [], 0.0, 0
    for one in parts_of(given, cell[0])[part]:
        began = time.perf_counter()
        images = images_of(with_schedule(one.sampler, held.schedule, solver), one.seeds)
        seconds += time.perf_counter() - began
        wanted = there[at : at + len(images)].float() / 255
        at += len(images)
        distances += (images - wanted).square().flatten(1).mean(1).sqrt().tolist()
        features.append(network()(images).features.half())
    row = {"cell": list(cell), "part": part, "shape": shape_of(given), "schedule": held.schedule.digest}
    save_file({"features": torch.cat(features)}, feature_file(given, row))
    return {**row, "teacher": [round(one, 6) for one in distances], "seconds": round(seconds, 2)}


def feature_file(given: argparse.Namespace, row: dict[str, Any]) -> Path:
    return (
        given.out
        / "features"
        / f"{slug(tuple(row['cell']))}-{row['part']}-{row['schedule']}-{row['shape']}.safetensors"
    )


def reference_of(given: argparse.Namespace) -> FeatureStatistics:
    """Features of rendered scenes of the test prompts, as many as samples."""
    file = given.out / f"reference-{shape_of(given)}.safetensors"
    if not file.is_file():
        known = FeatureStatistics(network().fingerprint)
        prompts = [one.prompt for one in subjects_of("test", given.count, given.prompts, 1.0, 0)]
        for _, pictures in scenes(prompts, max(2, -(-given.count // len(prompts))), 2):
            known.add(network()(pictures).features)
        known.save(file)
    return FeatureStatistics.load(file)


def equal_seconds(job: tuple[str, int, str, argparse.Namespace]) -> dict[str, Any]:
    """Best-of-N in a time limit for one prompt, with a schedule file or the default steps."""
    prompt, number, name, given = job
    made = sampler_of(prompt, max(given.guidance))
    if name != "default":
        file = read_schedule_file(name)
        made = with_schedule(made, file.schedule, registry.make_solver(file.solver))
    result = nw.search(
        made, prompt, verifier="shapes-clip", budget=f"{given.equal_seconds:g} s", seed=1000 * number, pictures=False
    )
    pixels, _ = read_image(result.best.file)
    judged = grade(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, prompt)[0]
    return {
        "equal": name, "prompt": prompt, "limit": given.equal_seconds, "score": next(iter(result.best.scores.values())),
        "right": judged.right, "grade": judged.score, "images": result.images, "seconds": result.seconds["total"],
    }  # fmt: skip


# Tables


def show(rows: list[dict[str, Any]], given: argparse.Namespace) -> None:
    """A table for each guidance, number of steps and solver; then the correlations."""
    held: dict[Cell, dict[int, dict[str, Any]]] = {}
    for row in rows:
        cell = tuple(row["cell"])
        file = given.out / "schedules" / f"{slug(cell)}.json"
        if (
            row["shape"] == shape_of(given)
            and file.is_file()
            and read_schedule_file(file).schedule.digest == row["schedule"]
        ):
            held.setdefault(cell, {})[row["part"]] = row
    reference = reference_of(given) if held else None
    drops = []
    for group, cells in itertools.groupby(
        sorted(held, key=lambda c: (c[0], c[2], c[3])), key=lambda c: (c[0], c[2], c[3])
    ):
        some = sorted(cells, key=lambda c: (c[1], [*WITH_START, *ALONE].index(c[4])))
        shared = sorted(set.intersection(*[set(held[c]) for c in some]))
        if not shared:
            continue
        print(f"\nguidance {group[0]:g}, {group[1]} steps, {group[2]}, parts {len(shared)}; lower is better")
        print(f"{'start':10}{'schedule':17}{'CPE':>9}{'distance':>10}  {'change, 95 %':28}{'FID':>8}  {'interval':20}")
        known: dict[Cell, tuple[float, float, float]] = {}
        for cell in some:
            values = torch.tensor([v for part in shared for v in held[cell][part]["teacher"]], dtype=torch.float64)
            features = torch.cat(
                [load_file(feature_file(given, held[cell][part]))["features"] for part in shared]
            ).double()
            assert reference is not None
            fid = FeatureStatistics(reference.fingerprint).add(features).distance(reference)
            low, high = fid_interval(features, reference, resamples=given.resamples)
            figures = read_schedule_file(given.out / "schedules" / f"{slug(cell)}.json").figures
            change = ""
            before = (*cell[:4], "before")
            if cell != before and before in held:
                base = torch.tensor([v for part in shared for v in held[before][part]["teacher"]], dtype=torch.float64)
                ends = interval(values, base)
                change = f"{float((values - base).mean()):+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}]"
            print(
                f"{cell[1]:10}{cell[4]:17}{figures['cpe']:9.4f}{float(values.mean()):10.4f}  {change:28}{fid:8.3f}  "
                f"[{low:.3f}, {high:.3f}]"
            )
            known[cell] = (figures["cpe"], float(values.mean()), fid)
        for cell, found in known.items():
            before = (*cell[:4], "before")
            if cell[4] == "vrg" and before in known:
                drops.append([1 - new / old for new, old in zip(found, known[before], strict=True)])
    if len(drops) > 2:
        table = np.array(drops)
        for column, name in ((1, "distance"), (2, "FID")):
            value = np.corrcoef(table[:, 0], table[:, column])[0, 1]
            print(f"\ncorrelation of the relative drops in CPE and {name} over {len(drops)} fits: {value:+.2f}")


def show_equal(rows: list[dict[str, Any]], given: argparse.Namespace) -> None:
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["limit"] == given.equal_seconds:
            table.setdefault(row["equal"], {})[row["prompt"]] = row
    if "default" not in table:
        return
    for name, found in table.items():
        prompts = sorted(set(found) & set(table["default"]))
        text = f"\nbest-of-N in {given.equal_seconds:g} s, {len(prompts)} prompts, {name}:"
        for key, scale in (("score", 1.0), ("right", 100.0), ("grade", 100.0), ("images", 1.0)):
            values, base = (
                torch.tensor([scale * float(one[p][key]) for p in prompts], dtype=torch.float64)
                for one in (found, table["default"])
            )
            low, high = interval(values, base)
            text += (
                f"  {key} {float(values.mean()):.1f} ({float((values - base).mean()):+.1f} [{low:+.1f}, {high:+.1f}])"
            )
        print(text)


def run(
    pool: ProcessPoolExecutor, function: Callable[[Any], Any], jobs: Sequence[Any], keep: Callable[[Any], None]
) -> None:
    began = time.perf_counter()
    for number, found in enumerate(pool.map(function, jobs)):
        keep(found)
        took = time.perf_counter() - began
        print(f"{function.__name__}: {number + 1} of {len(jobs)}, {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000, help="samples a schedule")
    parser.add_argument("--prompts", type=int, default=200, help="test prompts that share them")
    parser.add_argument("--part", type=int, default=10, help="prompts a job")
    parser.add_argument("--guidance", type=float, nargs="+", default=[4.0, 1.0])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 15, 20])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS))
    parser.add_argument("--variants", nargs="+", choices=[*WITH_START, *ALONE], default=["before", "vrg"])
    parser.add_argument("--gammas", type=float, nargs="+", default=[0.01, 0.05, 0.1, 0.2])
    parser.add_argument("--random", type=int, default=20, help="random perturbations tried")
    parser.add_argument("--evaluations", type=int, default=120, help="schedules that search tries")
    parser.add_argument("--tuning", type=int, default=64, help="noises to tune on")
    parser.add_argument("--teacher", type=int, default=200, help="steps of the many-step image")
    parser.add_argument("--levels", type=int, default=50, help="of the error table")
    parser.add_argument("--images", type=int, default=1000, help="of the error table")
    parser.add_argument("--resamples", type=int, default=100, help="of the FID's interval")
    parser.add_argument("--equal-seconds", type=float, default=0.0, help="compare best-of-N in this time instead")
    parser.add_argument("--files", nargs="*", default=[], help="schedule files for --equal-seconds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/schedules"))
    parser.add_argument("--show", action="store_true", help="only print what --out has")
    given = parser.parse_args()

    for name in ("schedules", "teacher", "features"):
        (given.out / name).mkdir(parents=True, exist_ok=True)
    file = given.out / ("equal.jsonl" if given.equal_seconds else "rows.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        with file.open("a") as opened:
            opened.write(json.dumps(row) + "\n")

    cells = cells_of(given)
    if not given.show:
        with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
            if given.equal_seconds:
                done = {(row["prompt"], row["equal"], row["limit"]) for row in rows}
                prompts = load_prompts("test")[:: max(1, 200 // given.prompts)][: given.prompts]
                jobs = [
                    (prompt, n, name, given) for n, prompt in enumerate(prompts) for name in ("default", *given.files)
                    if (prompt, name, given.equal_seconds) not in done
                ]  # fmt: skip
                run(pool, equal_seconds, jobs, keep)
            else:
                errors_of(given)
                lacking = [one for one in cells if not (given.out / "schedules" / f"{slug(one)}.json").is_file()]
                first = [one for one in lacking if one[4] not in ("start only", "random")]
                for some in (first, [one for one in lacking if one not in first]):
                    run(pool, fit, [(one, given) for one in some], lambda text: print(text))
                parts = [(g, n) for g in given.guidance for n in range(-(-given.prompts // given.part))]
                taught = [(g, n, given) for g, n in parts if not teacher_file(given, g, n).is_file()]
                run(pool, teach, taught, lambda text: None)
                done = {(tuple(r["cell"]), r["part"], r["shape"], r["schedule"]) for r in rows}
                jobs = []
                for part in range(-(-given.prompts // given.part)):
                    for cell in cells:
                        digest = read_schedule_file(given.out / "schedules" / f"{slug(cell)}.json").schedule.digest
                        if (cell, part, shape_of(given), digest) not in done:
                            jobs.append((cell, part, given))
                run(pool, sample, jobs, keep)
    if given.equal_seconds:
        show_equal(rows, given)
    else:
        show([row for row in rows if tuple(row["cell"]) in set(cells)], given)


if __name__ == "__main__":
    main()
