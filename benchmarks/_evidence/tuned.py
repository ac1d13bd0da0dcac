"""Levels that ``search`` tunes on the FID, and on the FID and the distance together (claim 8): fits and figures.

Tuned on dev noises (of shapes: dev prompts, against scenes of dev prompts), reported on the test noises that the other
schedules were measured on.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

import _schedules_fits as fits
import _schedules_model as model
from _evidence.kept import Point
from _evidence.places import weights
from _evidence.vrg import FIDS, given_by
from _schedules_fid import FidRows
from _schedules_store import NAMED, Cell, hashed, parts_of
from _schedules_study import Study
from _schedules_work import Job
from noisewright.diffusion.schedule import Schedule
from noisewright.measures.bootstrap import interval
from noisewright.measures.statistics import FeatureStatistics
from noisewright.trajectory.methods import fit_by_search
from noisewright.trajectory.metrics import Fid, Metric, NoiseBatch, Teacher

STEPS, START = 5, "uniform"
EVALUATIONS, NOISES, REPORTED = 60, 400, 80
ON = ("fid", "both")
RESAMPLES = 20


class Both:
    """The FID and the distance to the many-step image, each over what the start has: 2 is as good as the start.

    Args:
        teacher, fid: the two.
        levels: the start's distance and FID.
    """

    name, lower, lasting = "fid-and-distance", True, True

    def __init__(self, teacher: Teacher, fid: Fid, levels: tuple[float, float]) -> None:
        self.teacher, self.fid, self.levels = teacher, fid, levels

    @property
    def fingerprint(self) -> str:
        parts = (self.teacher.fingerprint, self.fid.fingerprint)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def values(self, batch: NoiseBatch, images: Tensor) -> Tensor:
        return torch.cat([self.teacher.values(batch, images)[:, None], self.fid.values(batch, images)], 1)

    def summary(self, values: Tensor) -> float:
        distance, fid = self.teacher.summary(values[:, 0]), self.fid.summary(values[:, 1:])
        return distance / self.levels[0] + fid / self.levels[1]

    def interval(
        self, values: Tensor, other: Tensor | None = None, groups: Sequence[str | int] | None = None
    ) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(RESAMPLES):
            rows = torch.randint(len(values), (len(values),), generator=generator)
            found.append(self.summary(values[rows]) - (0.0 if other is None else self.summary(other[rows])))
        low, high = np.percentile(found, [2.5, 97.5])
        return float(low), float(high)


def reference(given: Namespace) -> FeatureStatistics:
    """What the FID is tuned against: of classes the training pictures, of shapes scenes of the dev prompts."""
    if model.ground.classes:
        known = fits.reference_of(given.out, given.prompts, given.scenes, False)
        assert known is not None
        return known
    file = given.out / f"reference-{hashed('dev reference', model.network().fingerprint)}.safetensors"
    if not file.is_file():
        found = FeatureStatistics(model.network().fingerprint)
        for _, pictures in fits.scenes(model.prompts_of("dev"), given.scenes, 3):
            found.add(model.network()(pictures).features)
        found.save(file)
    return FeatureStatistics.load(file)


def fitted_on(given: Namespace, on: str, only: bool) -> Schedule | None:
    """The schedule that ``search`` finds on a metric; None where it is not there and only that is wanted."""
    parts = parts_of("dev", NOISES, len(model.prompts_of("dev")))
    more = [type(part)("dev", part.prompt, part.block + 50) for part in parts[: REPORTED // 8]]
    key = hashed("tuned", model.fingerprint(), model.network().fingerprint, on, STEPS, START, given.guidance, NOISES,
                 EVALUATIONS)  # fmt: skip
    file = given.out / "fits" / f"search-on-{on}-{STEPS}-ddim-{key}.json"
    if only and not file.is_file():
        return None

    def find() -> object:
        fid = Fid(model.network(), reference(given), RESAMPLES)
        metric: Metric = fid
        tuning, reporting = (fits.batches(some, given.guidance) for some in (parts, more))
        if on == "both":
            teacher = model.teacher_of(given.out, given.guidance, given.tuning_teacher)
            metric = Both(teacher, fid, _levels(given, teacher, fid, tuning))
        return fit_by_search(
            fits.problem(given.out, START, STEPS, "ddim", given.guidance), metric, tuning, reporting,
            evaluations=EVALUATIONS, guidance_scale=given.guidance,
        )  # fmt: skip

    found = fits.fitted(file, only, partial(find))
    return None if found is None else found.schedule


def _levels(given: Namespace, teacher: Teacher, fid: Fid, tuning: Sequence[NoiseBatch]) -> tuple[float, float]:
    from noisewright.diffusion.solvers import Ddim
    from noisewright.trajectory.disk_cache import DiskCache
    from noisewright.trajectory.metrics import metric_values

    found = metric_values(model.named(START, STEPS), Ddim(), tuning, [teacher, fid], DiskCache(given.out))
    return teacher.summary(found[teacher.name]), fid.summary(found[fid.name])


def schedules_of(study: Study, only: bool) -> dict[str, Schedule]:
    """What is compared: the named schedule that tuning likes best, the start, search on the distance, FID and both."""
    given = study.given
    cells = study.control_cells("ddim", STEPS)
    chosen = {
        "best named": study.best(cells, ("before",)), START: study.best([_start(given)], ("before",)),
        "search on the distance": study.best(cells, ("search",)),
    }  # fmt: skip
    found = {name: one[1].option.schedule for name, one in chosen.items() if one is not None}
    for on in ON:
        made = fitted_on(given, on, only)
        if made is not None:
            found["search on the FID" if on == "fid" else "search on both"] = made
    return found


def _start(given: Namespace) -> Cell:
    assert START in NAMED
    return Cell(given.guidance, "ddim", STEPS, START, "before")


def measure(ground: str, workers: int) -> None:
    """The fits, and both figures of each schedule; what is there is not made again."""
    given = given_by(FIDS[ground])
    given.workers = workers
    study = Study(given, only=False)
    some = schedules_of(study, False)
    fits.reference_of(study.out, given.prompts, given.scenes, False)
    study.run("distances", [_distance(study, one, part) for one in some.values() for part in _parts(study)])
    study.run_as_given("FIDs", [study.fid_job(one, part) for one in some.values() for part in study.fid_parts()])
    if study.pool:
        study.pool.shutdown()


def _parts(study: Study) -> list:
    return study.report_parts(_start(study.given), study.given.control_count)


def _distance(study: Study, schedule: Schedule, part: object) -> Job:
    return study.report_job(_start(study.given), schedule, part)


def tuned_points(ground: str) -> list[Point]:
    """Each schedule's distance and FID on test noises, those that are there."""
    given = given_by(FIDS[ground])
    study = Study(given, only=True)
    rows = FidRows(study, fits.reference_of(study.out, given.prompts, given.scenes, True))
    points = []
    for name, schedule in schedules_of(study, True).items():
        jobs = [study.rows.get(_distance(study, schedule, part).key) for part in _parts(study)]
        fid = rows.value(schedule)
        if fid is None or not all(jobs):
            continue
        values = np.array([value for row in jobs if row for value in row["values"]])
        groups = None if model.ground.classes else [row["prompt"] for row in jobs if row for _ in row["values"]]
        low, high = interval(values, groups=groups)
        numbers = {"distance": values.mean(), "distance low": low, "distance high": high, "fid": fid["value"],
                   "fid low": fid["interval"][0], "fid high": fid["interval"][1]}  # fmt: skip
        labels = {"model": ground, "schedule": name, "features": f"{model.ground.network} "
                  f"{weights(model.ground.network)}"}  # fmt: skip
        points.append(Point(labels, {key: np.array([float(value)]) for key, value in numbers.items()}))
    return points
