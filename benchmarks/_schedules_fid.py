"""FIDs of the benchmark of schedules, with their intervals, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

import _schedules_fits as fits
import _schedules_model as model
from _schedules_store import FITTED, NAMED, hashed
from _schedules_text import correlation, ends, fall, heading, line
from noisewright.diffusion.schedule import Schedule
from noisewright.measures.statistics import FeatureStatistics
from noisewright.trajectory.comparison import metric_value
from noisewright.trajectory.metrics import Fid

if TYPE_CHECKING:
    from _schedules_study import Study


def fids(study: Study) -> None:
    drops = []
    for steps in study.given.control_steps:
        drops += fids_of(study, steps)
    if len(drops) > 2:
        found = correlation(np.array(drops))
        print(f"\nDrop of the FID against the drop of the CPE, gammas as chosen by the distance: {found}")


def fids_of(study: Study, steps: int) -> list[tuple[float, float]]:
    """The FIDs at one number of steps; gives (drop of CPE, drop of FID) of each VRG fit."""
    given, solver = study.given, study.given.fid_solver
    some = study.fid_schedules(steps)
    reference = fits.reference_of(study.out, given.prompts, given.scenes, True)
    cells = study.control_cells(solver, steps)
    winner, named = (study.best(cells, variants) for variants in (FITTED, ("before",)))
    if winner is None or named is None:
        return []
    best = next((name for name, one in some.items() if one.digest == winner[1].option.schedule.digest), None)
    fid_rows = FidRows(study, reference)
    found = {name: fid_rows.value(one) for name, one in some.items()}
    known = {name: row for name, row in found.items() if row is not None}
    if not known:
        return []
    count = sum(len(part.seeds) for part in study.fid_parts())
    heading(f"FID: {solver}, {steps} steps, guidance {given.guidance:g}, {given.fid_dtype}, {count} images a schedule,"
            f" reference of {fid_rows.count} images",
            ["schedule", "NFE", "FID, 95 %", "winner's change against it, 95 %"])  # fmt: skip
    beaten = []
    for name in sorted(known, key=lambda one: float(known[one]["value"])):
        row, change = known[name], ""
        if best in known and name != best:
            few, many = fid_rows.change(some[best], some[name])
            change = f"{known[best]['value'] - row['value']:+.3f} {ends(few, many, 3)}"
            beaten += [(many < 0, name)] if name in NAMED else []
        mark = " **(tuned winner)**" if name == best else ""
        mark += " (best named, by tuning)" if some[name].digest == named[1].option.schedule.digest else ""
        low, high = row["interval"]
        line(name + mark, model.cost_of(solver, some[name]), f"{row['value']:.3f} [{low:.3f}, {high:.3f}]", change)
    if beaten:
        not_beaten = [name for won, name in beaten if not won]
        print(f"\nThe tuned winner, {best}, has a lower FID than {len(beaten) - len(not_beaten)} of {len(beaten)} named"
              " schedules of other levels with an interval below 0"
              f"{'; not than ' + ', '.join(not_beaten) if not_beaten else ''}.")  # fmt: skip
    lacking = sorted(set(found) - set(known))
    if lacking:
        print(f"\nNot measured yet: {', '.join(lacking)}.")
    drops = []
    print()
    for cell in cells:
        tuned = study.tuned(cell) if cell.variant in ("vrg", "vrg, start held") else None
        if tuned is not None and {cell.start, cell.label} <= set(known):
            drops.append((fall(tuned.option), 1 - known[cell.label]["value"] / known[cell.start]["value"]))
            print(f"{cell.label}: the CPE falls by {drops[-1][0]:.1%}, the FID by {drops[-1][1]:.1%}.")
    return drops


class FidRows:
    """FIDs with their intervals, kept as rows: the features themselves are many megabytes.

    Args:
        study: whose images.
        reference: what they are compared to; where it is not there, only what was kept is told.
    """

    def __init__(self, study: Study, reference: FeatureStatistics | None) -> None:
        self.study, self.reference = study, reference
        self.count = reference.count if reference else study.given.prompts * study.given.scenes
        self.known: dict[str, torch.Tensor] = {}

    def metric(self, reference: FeatureStatistics) -> Fid:
        return Fid(model.network(), reference, self.study.given.resamples)

    def value(self, schedule: Schedule) -> dict[str, Any] | None:
        """A row with ``value`` and ``interval``; None where images lack."""

        def made() -> dict[str, Any] | None:
            features = self.features(schedule)
            if features is None or self.reference is None:
                return None
            found = metric_value(self.metric(self.reference), features)
            return {"value": found.value, "interval": list(found.interval)}

        return self.row([schedule], made)

    def change(self, schedule: Schedule, other: Schedule) -> tuple[float, float]:
        """The interval of the change from another schedule, on the same noises; both have values."""

        def made() -> dict[str, Any] | None:
            pair = [self.features(one) for one in (schedule, other)]
            if pair[0] is None or pair[1] is None or self.reference is None:
                return None
            return {"interval": list(self.metric(self.reference).interval(pair[0], pair[1]))}

        row = self.row([schedule, other], made)
        return (row["interval"][0], row["interval"][1]) if row else (float("nan"), float("nan"))

    def row(self, some: Sequence[Schedule], make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        jobs = [self.study.fid_job(one, part).key for one in some for part in self.study.fid_parts()]
        key = hashed("fid", self.study.given.resamples, self.count, jobs)
        if key not in self.study.rows:
            made = make()
            if made is None:
                return None
            about = {"kind": "fid", "schedules": [one.digest for one in some], "jobs": len(jobs)}
            self.study.rows.add({"key": key, **about, **made})
        return self.study.rows.get(key)

    def features(self, schedule: Schedule) -> torch.Tensor | None:
        """(images, d); None where some lack."""
        if schedule.digest not in self.known:
            jobs = [self.study.fid_job(schedule, part) for part in self.study.fid_parts()]
            if not all(job.done(self.study.rows) for job in jobs):
                return None
            self.known[schedule.digest] = torch.cat([load_file(job.file)["features"] for job in jobs]).double()
        return self.known[schedule.digest]
