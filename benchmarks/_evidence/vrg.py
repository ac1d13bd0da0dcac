"""What the benchmark of schedules has measured of VRG, in short (claim 8)."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np

import _schedules_fits as fits
import _schedules_model as model
import schedules
from _evidence.kept import Point, Table
from _evidence.places import ROOT, weights
from _schedules_fid import FidRows
from _schedules_show import Values
from _schedules_study import Study
from _schedules_text import before_of

OF_CIFAR10 = (
    "--model cifar10 --guidance 1 --solvers ddim dpm-solver-2 dpm-solver-3 deis-2 pndm-f --tuning 40 --tuning-set wide "
    "--search-noises 40 --gits-noises 40 --distance-count 40 --costly-count 40 --control-count 100 --control-solvers "
    "ddim --stage table --out benchmarks/results/schedules-cifar10"
)
OF_SHAPES = "--stage gamma table --tuning 16 --distance-count 24 --costly-count 20 --out benchmarks/results/schedules"
TUNED = "--tuning 40 --tuning-set wide --search-noises 40 --gits-noises 40 --control-count 80 --stage fid"
FIDS = {
    "cifar10": f"{OF_CIFAR10.replace('table', 'fid')} --control-steps 5 10 --fid starts",
    "shapes": f"{TUNED} --control-steps 5 10 --fid starts --out benchmarks/results/schedules",
}
"""Arguments of ``benchmarks/schedules.py``, as docs/schedule-figures.md has them."""


def given_by(text: str) -> Namespace:
    """The settings that ``benchmarks/schedules.py`` makes of its arguments; one ground a process."""
    with patch.object(sys, "argv", ["schedules.py", *text.split()]):
        found = schedules.arguments()
    found.out = ROOT / found.out
    model.stand_on(found.model)
    return found


def distances(text: str) -> Sequence[Point]:
    """Each cell of the table: the distance before VRG, the change, and its interval."""
    given = given_by(text)
    study = Study(given, only=True)
    points = []
    for cell in study.table_cells():
        after, before = study.tuned(cell), study.tuned(before_of(cell))
        if cell.variant != "vrg" or after is None or before is None:
            continue
        chosen = [("after", cell, after.option.schedule), ("before", before_of(cell), before.option.schedule)]
        values = Values(study, chosen, given.distance_count)
        if not values.prompts:
            continue
        change, low, high = values.change("after", "before")
        labels = {"model": given.model, "solver": cell.solver, "steps": str(cell.steps), "start": cell.start}
        numbers = {"before": float(values.of["before"].mean()), "change": change, "low": low, "high": high,
                   "noises": len(values.prompts)}  # fmt: skip
        points.append(Point(labels, {name: np.array([value]) for name, value in numbers.items()}))
    return points


def fids(text: str) -> Sequence[Point]:
    """Each schedule whose FID is there; of VRG's the change against its start, where both have their features."""
    given = given_by(text)
    study = Study(given, only=True)
    reference = fits.reference_of(study.out, given.prompts, given.scenes, True)
    rows, points = FidRows(study, reference), []
    network = f"{model.ground.network} {weights(model.ground.network)}"
    for steps in given.control_steps:
        some = study.fid_schedules(steps)
        for name, schedule in some.items():
            row = rows.value(schedule)
            if row is None:
                continue
            numbers = {"fid": row["value"], "low": row["interval"][0], "high": row["interval"][1]}
            start = some.get(name.partition(",")[0])
            if name.endswith(", vrg") and start is not None and (base := rows.value(start)) is not None:
                low, high = rows.change(schedule, start)
                if np.isfinite(low):
                    change = row["value"] - base["value"]
                    numbers |= {"change": change, "change low": low, "change high": high, "images": given.count}
            about = f"{given.fid_solver}, {steps} steps, guidance {given.guidance:g}, {given.count} images"
            labels = {"model": given.model, "sampling": about, "schedule": name, "features": network}
            points.append(Point(labels, {key: np.array([value]) for key, value in numbers.items()}))
    return points


TABLES = ("vrg-distance", "vrg-fid", "vrg-search")


def points_on(ground: str) -> dict[str, Sequence[Point]]:
    """The points of both tables of a ground."""
    from _evidence.tuned import tuned_points  # which stands on this module

    texts = {"shapes": OF_SHAPES, "cifar10": OF_CIFAR10}
    return {"vrg-distance": distances(texts[ground]), "vrg-fid": fids(FIDS[ground]), "vrg-search": tuned_points(ground)}


def vrg_tables(before: Mapping[str, Table], grounds: Sequence[str] = ("shapes", "cifar10")) -> dict[str, Table]:
    """Both tables, of what is there.

    Args:
        before: what was made before, by name: of a ground that has nothing now, its points are kept.
        grounds: whose.
    """
    found: dict[str, list[Point]] = {name: [] for name in TABLES}
    for ground in grounds:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a process stands on one ground
            for name, points in pool.submit(points_on, ground).result().items():
                found[name] += points
    about = {"from": "benchmarks/results/schedules*, by benchmarks/schedules.py"}
    made = {}
    for name, points in found.items():
        new = {one.labels["model"] for one in points}
        # FIDs by features of weights that the network no longer has are not found anew, and are none the worse.
        kept = [one for one in before.get(name, Table({}, ())).points if one.labels["model"] not in new]
        if points or kept:
            made[name] = Table(about, (*points, *kept))
    return made


def measure_fids(ground: str, workers: int) -> list[str]:
    """The command that makes the FIDs that are lacking, as words."""
    script = str(Path(schedules.__file__))
    return [sys.executable, script, *FIDS[ground].split(), "--workers", str(workers)]
