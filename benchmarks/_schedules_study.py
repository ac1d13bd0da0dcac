"""What the benchmark of schedules has measured, and what it asks for next: stages, tuning, cells of the tables."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import _schedules_fits as fits
import _schedules_model as model
import _schedules_work as work
from _schedules_store import BLOCK, FITTED, NAMED, Cell, Part, Rows, parts_of
from _schedules_work import Arm, Job
from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.trajectory import vrg
from noisewright.trajectory.errors import ErrorTable

STARTS = ("logsnr", "quadratic", "uniform")
GAMMA_OF = {"pndm-f": "deis-2", "stsp": "deis-2"}
"""Solvers that take the gamma of another, cheaper one that they resemble (multistep, of high order)."""

COSTLY = ("pndm-f", "stsp")
SPLITTING = ("ltsp", "stsp")
EQUAL_STEPS = 8


@dataclass(frozen=True)
class Option:
    """A schedule among which tuning chooses.

    Attributes:
        name: its setting.
        schedule: its levels.
        figures: of its fit.
    """

    name: str
    schedule: Schedule
    figures: dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """What tuning chose, and its mean distance on the dev noises."""

    option: Option
    value: float


class Study:
    """All that is kept in a directory, and what makes the rest.

    Args:
        given: the settings.
        only: look at what is there, and make nothing.
    """

    def __init__(self, given: argparse.Namespace, only: bool) -> None:
        self.given, self.only = given, only
        self.out: Path = given.out
        self.rows = Rows(self.out / "rows.jsonl")
        self._errors: ErrorTable | None = None
        self.pool = None
        if given.workers > 1 and not only:
            self.pool = ProcessPoolExecutor(
                given.workers, get_context("spawn"), initializer=model.stand_on, initargs=(given.model,)
            )

    # What there is to choose from

    def errors(self) -> ErrorTable | None:
        given = self.given
        if self._errors is None:
            self._errors = fits.errors_of(
                self.out, given.images, given.levels, given.stride, given.error_guidance, self.only
            )
        return self._errors

    def options(self, cell: Cell) -> list[Option]:
        """The schedules of a cell; none where the rule has no such number of steps, or what it needs is lacking."""
        try:
            return [one for one in self._options(cell) if one is not None]
        except LookupError:
            return []

    def _options(self, cell: Cell) -> list[Option | None]:
        given, steps = self.given, cell.steps
        if cell.variant == "before":
            try:
                return [Option("", model.named(cell.start, steps), {})]
            except ValueError:
                return []
        if cell.variant in ("vrg", "vrg, start held"):
            return [self._vrg(cell, gamma) for gamma in given.gammas]
        if cell.variant in ("start only", "random"):
            chosen = self.tuned(Cell(cell.guidance, cell.solver, steps, cell.start, "vrg"))
            if chosen is None:
                raise LookupError
            if cell.variant == "start only":
                high = model.model_path().levels_of(chosen.option.schedule)[0]
                return [Option("", model.started_at(cell.start, steps, high), {})]
            start, gamma = model.named(cell.start, steps), float(chosen.option.name.split()[1])
            return [_drawn(start, gamma, n) for n in range(given.random)]
        if cell.variant == "dmn":
            found = fits.fit_dmn(self.out, steps, self.only)
        elif cell.variant == "gits":
            found = fits.fit_gits(self.out, steps, cell.guidance, self._tuning_parts(given.gits_noises), self.only)
        else:
            starts = [(self.tuned(Cell(cell.guidance, cell.solver, steps, s, "before")), s) for s in STARTS]
            known = [(one.value, s) for one, s in starts if one is not None]
            if len(known) < len(STARTS):
                raise LookupError
            found = fits.fit_search(
                self.out, min(known)[1], steps, cell.solver, cell.guidance, self._tuning_parts(given.search_noises),
                given.tuning_teacher, given.evaluations, self.only,
            )  # fmt: skip
        return [found and Option("", found.schedule, found.figures)]

    def _vrg(self, cell: Cell, gamma: float) -> Option | None:
        table, order = self.errors(), vrg.order_of(registry.make_solver(cell.solver))
        if table is None:
            return None
        held = cell.variant != "vrg"
        found = fits.fit_vrg(self.out, cell.start, cell.steps, order, gamma, held, table, self.only)
        return found and Option(f"gamma {gamma:g}", found.schedule, found.figures)

    # Tuning and reporting

    def tuning_jobs(self, cell: Cell) -> list[Job]:
        return [self._tuning(cell, one, part) for one in self.options(cell) for part in self.dev]

    def _tuning(self, cell: Cell, one: Option, part: Part) -> Job:
        solver = GAMMA_OF.get(cell.solver, cell.solver)
        return Job(self.out, "distance", one.schedule, solver, cell.guidance, part, self.given.tuning_teacher)

    @property
    def dev(self) -> list[Part]:
        return self._tuning_parts(self.given.tuning)

    def _tuning_parts(self, noises: int) -> list[Part]:
        name = self.given.tuning_set
        return parts_of(name, noises, len(model.prompts_of(name)))

    def tuning_value(self, cell: Cell, one: Option) -> float | None:
        """The mean distance on the dev noises; None where some are lacking."""
        found = [self.rows.get(self._tuning(cell, one, part).key) for part in self.dev]
        if any(row is None for row in found):
            return None
        return float(np.mean([value for row in found if row for value in row["values"]]))

    def tuned(self, cell: Cell) -> Tuned | None:
        """The best option on the dev noises; None where they lack."""
        options = self.options(cell)
        values = [self.tuning_value(cell, one) for one in options]
        known = [one for one in values if one is not None]
        if not options or len(known) < len(options):
            return None
        best = int(np.argmin(known))
        return Tuned(options[best], known[best])

    def best(self, cells: Iterable[Cell], variants: Sequence[str]) -> tuple[Cell, Tuned] | None:
        """The best cell of some variants, by the tuning metric."""
        found = [(cell, self.tuned(cell)) for cell in cells if cell.variant in variants]
        known = [(tuned.value, n, cell, tuned) for n, (cell, tuned) in enumerate(found) if tuned is not None]
        return min(known)[2:] if known else None

    def report_job(self, cell: Cell, schedule: Schedule, part: Part) -> Job:
        return Job(self.out, "distance", schedule, cell.solver, cell.guidance, part, self.given.teacher)

    def report_parts(self, cell: Cell, count: int) -> list[Part]:
        fewer = min(count, self.given.costly_count) if cell.solver in COSTLY else count
        return parts_of("test", fewer, len(model.prompts_of("test")))

    def report_jobs(self, cell: Cell, count: int) -> list[Job]:
        chosen = self.tuned(cell)
        if chosen is None:
            return []
        return [self.report_job(cell, chosen.option.schedule, part) for part in self.report_parts(cell, count)]

    def fid_job(self, schedule: Schedule, part: Part) -> Job:
        given = self.given
        return Job(self.out, "features", schedule, given.fid_solver, given.guidance, part, dtype=given.fid_dtype)

    # Running

    def run(self, title: str, jobs: Iterable[Job]) -> None:
        """Do what is lacking, all schedules on one block of noises before the next."""
        lacking = {job.key: job for job in jobs if not job.done(self.rows)}
        ordered = sorted(lacking.values(), key=lambda job: (job.part.block, job.part.prompt))
        self._do(title, work.work, ordered)

    def run_as_given(self, title: str, jobs: Iterable[Job]) -> None:
        self._do(title, work.work, [job for job in jobs if not job.done(self.rows)])

    def _do(self, title: str, function: Callable[[Any], dict[str, Any]], jobs: Sequence[Job]) -> None:
        began = said = time.perf_counter()
        evaluations = 0
        for number, row in enumerate((self.pool.map if self.pool else map)(function, jobs)):
            self.rows.add(row)
            evaluations += row["nfe"] * BLOCK[row["set"]]
            now = time.perf_counter()
            if now - said > 20 or number + 1 == len(jobs):
                said, took = now, now - began
                left = took / (number + 1) * (len(jobs) - number - 1)
                print(
                    f"{time.strftime('%H:%M:%S')} {title}: {number + 1} of {len(jobs)}, {took:.0f} s, "
                    f"{evaluations / took:.0f} NFE/s, {left / 60:.0f} min left", flush=True,
                )  # fmt: skip

    # Cells of the stages

    def table_cells(self) -> list[Cell]:
        given = self.given
        return [
            Cell(given.guidance, solver, steps, start, variant)
            for solver, steps, start, variant in itertools.product(
                given.solvers, given.steps, given.starts, ("before", "vrg")
            )
        ]  # fmt: skip

    def guidance_cells(self) -> list[Cell]:
        """Without the splitting solvers, whose second operator is the guidance."""
        given = self.given
        some = [name for name in given.solvers if name not in SPLITTING]
        grid = itertools.product(some, given.control_steps, given.starts, ("before", "vrg"))
        return [Cell(1.0, solver, steps, start, variant) for solver, steps, start, variant in grid]

    def control_cells(self, solver: str, steps: int) -> list[Cell]:
        given = self.given
        lines = [(name, "before") for name in NAMED]
        lines += itertools.product(given.control_starts, ("vrg", "vrg, start held", "start only", "random"))
        lines += [("-", name) for name in ("gits", "dmn", "search")]
        return [Cell(given.guidance, solver, steps, start, variant) for start, variant in lines]

    def tune(self, title: str, cells: Sequence[Cell]) -> None:
        """Tune cells; those that build on others' tuning after them."""
        later = ("start only", "random", "search")
        first = [cell for cell in cells if cell.variant not in later]
        if set(cells) - set(first):
            base = {Cell(c.guidance, c.solver, c.steps, c.start, "vrg") for c in cells if c.variant in later[:2]}
            starts = [
                Cell(c.guidance, c.solver, c.steps, s, "before") for c in cells if c.variant == "search" for s in STARTS
            ]
            first = list(dict.fromkeys([*first, *sorted(base, key=str), *starts]))
        for some in (first, [cell for cell in cells if cell.variant in later]):
            self.run(title, (job for cell in some for job in self.tuning_jobs(cell)))

    # The stages

    def gamma(self) -> None:
        self.tune("gamma", [cell for cell in self.table_cells() if cell.solver not in GAMMA_OF])

    def table(self) -> None:
        cells = self.table_cells()
        self.tune("gamma", cells)
        self.run("table", (job for cell in cells for job in self.report_jobs(cell, self.given.distance_count)))

    def controls(self) -> None:
        for steps, solver in itertools.product(self.given.control_steps, self.given.control_solvers):
            cells = self.control_cells(solver, steps)
            self.tune(f"controls, tuning, {solver}, {steps} steps", cells)
            jobs = [job for cell in cells for job in self.report_jobs(cell, self.given.control_count)]
            self.run(f"controls, {solver}, {steps} steps", jobs)

    def guidance(self) -> None:
        cells = self.guidance_cells()
        self.tune("without guidance, tuning", cells)
        jobs = [job for cell in cells for job in self.report_jobs(cell, self.given.distance_count)]
        self.run("without guidance", jobs)

    def equal_cells(self) -> list[Cell]:
        lines = [(name, "before") for name in NAMED]
        lines += [(start, "vrg") for start in self.given.control_starts] + [("-", "gits"), ("-", "dmn")]
        return [Cell(self.given.guidance, "dpmpp-2m", EQUAL_STEPS, start, variant) for start, variant in lines]

    def arms(self) -> list[Arm]:
        """The default steps, the best named 8-step schedule and the best fitted one, by the tuning metric."""
        found = [Arm("default, 25 steps", None, None, 25)]
        for variants, text in ((("before",), "named"), (FITTED, "fitted")):
            chosen = self.best(self.equal_cells(), variants)
            if chosen is not None:
                name = f"{text}, {EQUAL_STEPS} steps ({chosen[0].label}, dpmpp-2m)"
                found.append(Arm(name, chosen[1].option.schedule, "dpmpp-2m", EQUAL_STEPS))
        return found

    def equal_jobs(self) -> list[tuple[Arm, str, int]]:
        """Arms by prompt, their order turned round from prompt to prompt."""
        arms, found = self.arms(), []
        for number, prompt in enumerate(model.prompts_of("test")[: self.given.equal_prompts]):
            order = arms if number % 2 == 0 else arms[::-1]
            found += [(arm, prompt, 1000 * number) for arm in order]
        return found

    def equal(self) -> None:
        """In this process alone, whatever the number of workers: seconds are compared."""
        given = self.given
        self.tune("equal seconds, tuning", self.equal_cells())
        limit, guidance = given.equal_seconds, given.guidance
        jobs = [one for one in self.equal_jobs() if one[0].key(*one[1:], limit, guidance) not in self.rows]
        if jobs:
            for arm in self.arms():  # caches and clocks warm up before anything is timed
                work.equal_seconds(arm, model.prompts_of("dev")[0], 0, min(3.0, limit), guidance)
        began = time.perf_counter()
        for number, (arm, prompt, seed) in enumerate(jobs):
            self.rows.add(work.equal_seconds(arm, prompt, seed, limit, guidance))
            now = time.strftime("%H:%M:%S")
            print(f"{now} equal: {number + 1} of {len(jobs)}, {time.perf_counter() - began:.0f} s", flush=True)

    def fid_schedules(self, steps: int) -> dict[str, Schedule]:
        """What the FID is measured of, by name; levels that agree within 1 % once."""
        given, found = self.given, dict[str, Schedule]()
        cells = self.control_cells(given.fid_solver, steps)
        sets = {"starts": [cell for start in given.control_starts for cell in cells
                           if cell.start == start and cell.variant in ("before", "vrg")],
                "named": [cell for cell in cells if cell.variant == "before"],
                "fitted": [cell for cell in cells if cell.variant in FITTED]}  # fmt: skip
        for name, variants in (("best-named", ("before",)), ("winner", FITTED)):
            chosen = self.best(cells, variants)
            sets[name] = [chosen[0]] if chosen is not None else []
        wanted = [cell for name in given.fid for cell in sets.get(name, [c for c in cells if c.label == name])]
        for cell in wanted:
            tuned = self.tuned(cell)
            if tuned is not None and not any(alike(tuned.option.schedule, one) for one in found.values()):
                found.setdefault(cell.label, tuned.option.schedule)
        return found

    def fid_parts(self) -> list[Part]:
        return parts_of("fid", self.given.count, min(self.given.prompts, len(model.prompts_of("fid"))))

    def fid(self) -> None:
        for steps in self.given.control_steps:
            self.tune(f"fid, tuning, {steps} steps", self.control_cells(self.given.fid_solver, steps))
            fits.reference_of(self.out, self.given.prompts, self.given.scenes, False)
            some = self.fid_schedules(steps)
            jobs = [self.fid_job(schedule, part) for schedule in some.values() for part in self.fid_parts()]
            self.run_as_given(f"fid, {steps} steps, {len(some)} schedules", jobs)


def _drawn(start: Schedule, gamma: float, seed: int) -> Option | None:
    """A random schedule of VRG's box; None where two of its levels would lie beyond the model's noisiest."""
    try:
        return Option(f"draw {seed}", vrg.perturbed(start, model.model_path(), gamma, seed), {})
    except ValueError:
        return None


def alike(one: Schedule, other: Schedule) -> bool:
    """Whether the levels of two schedules are the same within 1 %."""
    levels = [model.model_path().levels_of(each) for each in (one, other)]
    return len(levels[0]) == len(levels[1]) and bool(np.allclose(*levels, rtol=0.01))
