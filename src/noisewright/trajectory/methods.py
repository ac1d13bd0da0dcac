"""The methods of fitting on one problem: each gives a schedule with what it was made of and what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisewright.diffusion.schedule import Schedule
from noisewright.diffusion.solvers import AnySolver
from noisewright.samplers.protocol import Sampler
from noisewright.trajectory import dmn, gits, tune, vrg
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, identity
from noisewright.trajectory.metrics import Metric, NoiseBatch, Teacher, cost_of, noises_in
from noisewright.trajectory.path import ModelPath, path_of, with_schedule
from noisewright.trajectory.progress import Report, Work
from noisewright.verifiers.protocol import is_lasting

MOST_LISTED = 20
"""Prompts that a file lists; of more it has the number and a hash."""

LATENT, PIXELS = 2.0, 1.0
"""DMN's power p, by what the states are."""


@dataclass(frozen=True)
class FitProblem:
    """What a schedule is fitted for.

    Attributes:
        sampler: the model, with any of its prompts.
        start: the schedule to begin with, of as many steps as are wanted.
        start_name: how that is called in records.
        solver: deterministic.
        cache: where what the model was asked is kept.
        report: what is called with the progress.
    """

    sampler: Sampler
    start: Schedule
    start_name: str
    solver: AnySolver
    cache: DiskCache = field(default_factory=DiskCache)
    report: Report | None = None

    @property
    def path(self) -> ModelPath:
        """The model's levels, to where the start ends."""
        return path_of(with_schedule(self.sampler, self.start, self.solver))

    def fitted(self, fit: vrg.Fit, method: str, made: dict[str, Any]) -> FittedSchedule:
        """What was found, with what it was made for."""
        about = {"method": method, **made}
        return FittedSchedule(fit.schedule, self.solver.name, identity(self.sampler), about, fit.figures)


class FitInterrupted(KeyboardInterrupt):
    """A search that Ctrl-C stopped.

    Attributes:
        best: the best schedule that it had by then.
        evaluations: how many it was to try; ``best.figures["evaluations"]`` were.
        why_anew: why the same call begins anew; "" where it goes on, if what the model was asked is kept.
    """

    def __init__(self, best: FittedSchedule, evaluations: int, why_anew: str) -> None:
        super().__init__(f"interrupted after {best.figures['evaluations']} of {evaluations} schedules")
        self.best, self.evaluations, self.why_anew = best, evaluations, why_anew


def fit_by_vrg(
    problem: FitProblem,
    table: ErrorTable,
    *,
    gamma: float = 0.01,
    penalty: float = 100.0,
    target: float | None = None,
    fixed_start: bool = False,
    seed: int = 0,
) -> FittedSchedule:
    """By :func:`~.fit_vrg`; its order is that of the solver. It draws nothing: ``seed`` is for the record."""
    work = Work(vrg.ITERATIONS, problem.report)
    work.begin("lowering the cumulative error", vrg.ITERATIONS + 1, "iterations")
    fit = vrg.fit_vrg(
        problem.start, table, problem.path, gamma=gamma, penalty=penalty, target=target,
        order=vrg.order_of(problem.solver), fixed_start=fixed_start, spend=counting(work),
    )  # fmt: skip
    return problem.fitted(fit, "vrg", {
        "seed": seed, "from": problem.start_name, "gamma": gamma, "penalty": penalty, "target": target,
        "fixed_start": fixed_start,
        "errors_of": {"images": table.images, "source": table.source, **table.settings},
    })  # fmt: skip


def fit_by_dmn(problem: FitProblem, *, power: float, seed: int = 0) -> FittedSchedule:
    """By :func:`~.fit_dmn`; ``power`` is :data:`LATENT` or :data:`PIXELS`."""
    steps = problem.start.steps
    evaluations = 2 * dmn.EVALUATIONS_A_STEP * steps
    work = Work(evaluations, problem.report)
    work.begin("minimising the bound", evaluations, "evaluations")
    fit = dmn.fit_dmn(problem.path, steps, power=power, seed=seed, spend=counting(work))
    return problem.fitted(fit, "dmn", {"seed": seed, "power": power})


def fit_by_gits(
    problem: FitProblem,
    batches: Sequence[NoiseBatch],
    *,
    nodes: int = 61,
    cost: str = "dev",
    factor: float = 1.15,
    seed: int = 0,
    guidance_scale: float | None = None,
) -> FittedSchedule:
    """By :func:`~.teacher_costs` of some noises and :func:`~.fit_gits`; seed and guidance are for the record."""
    work = Work((nodes - 1) * noises_in(batches), problem.report)
    work.begin("running the many-step sampler", noises_in(batches), "noises")

    def spend(calls: float, made: bool) -> None:
        work.spend(calls, made)
        work.count(round(calls / (nodes - 1)))

    noises = [(with_schedule(one.sampler, problem.start, problem.solver), one.seeds) for one in batches]
    costs, levels, path = gits.teacher_costs(noises, nodes=nodes, cost=cost, cache=problem.cache, spend=spend)
    fit = gits.fit_gits(costs, levels, path, problem.start.steps, factor=factor)
    return problem.fitted(fit, "gits", {
        "seed": seed, "cost": cost, "factor": factor, "nodes": nodes, "samples": noises_in(batches),
        "guidance_scale": guidance_scale, "prompts": listed(batches),
    })  # fmt: skip


def fit_by_search(
    problem: FitProblem,
    metric: Metric,
    tuning: Sequence[NoiseBatch],
    reporting: Sequence[NoiseBatch],
    *,
    evaluations: int = 120,
    fixed_start: bool = False,
    seed: int = 0,
    guidance_scale: float | None = None,
) -> FittedSchedule:
    """By :func:`~.tune` on some noises, reported on others; the guidance is for the record.

    Raises:
        FitInterrupted: on Ctrl-C, with the best so far.
    """
    start, solver = problem.start, problem.solver
    work = Work(
        teacher_cost(metric, [*tuning, *reporting]) + evaluations * cost_of(start, solver, tuning)
        + 2 * cost_of(start, solver, reporting), problem.report,
    )  # fmt: skip
    prepare_teacher(metric, [*tuning, *reporting], work)
    made = {
        "seed": seed, "from": problem.start_name, "metric": metric.name, "samples": noises_in(tuning),
        "fixed_start": fixed_start, "evaluations": evaluations, "teacher_steps": getattr(metric, "steps", None),
        "guidance_scale": guidance_scale, "prompts": listed(tuning), "report_prompts": listed(reporting),
    }  # fmt: skip
    try:
        fit = tune.tune(
            start, problem.path, solver, metric, tuning, reporting, evaluations=evaluations, seed=seed,
            free_start=not fixed_start, cache=problem.cache, work=work,
        )  # fmt: skip
    except tune.Interrupted as stopped:
        why = "" if is_lasting(metric) else f"nothing says when {metric.name} changes"
        raise FitInterrupted(problem.fitted(stopped.best, "search", made), evaluations, why) from None
    return problem.fitted(fit, "search", made)


def teacher_cost(metric: Metric, batches: Sequence[NoiseBatch]) -> int:
    """Network calls times images of the many-step images that a metric compares with."""
    return metric.steps * noises_in(batches) if isinstance(metric, Teacher) else 0


def prepare_teacher(metric: Metric, batches: Sequence[NoiseBatch], work: Work) -> None:
    """Make the many-step images that a metric compares with, where it does, so that they are counted by themselves."""
    if not isinstance(metric, Teacher):
        return
    work.begin("making many-step images", noises_in(batches), "images")
    for one in batches:
        made = metric.prepare(one)
        work.spend(teacher_cost(metric, [one]), made)
        work.count(len(one.seeds))


def listed(batches: Sequence[NoiseBatch]) -> Any:
    """The prompts of some noises for a file: all of a few, else how many and their hash."""
    prompts = list(dict.fromkeys(one.prompt for one in batches))
    if len(prompts) <= MOST_LISTED:
        return prompts
    return {"count": len(prompts), "sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest()}


def counting(work: Work) -> Callable[[float, bool], None]:
    """A ``spend`` whose costs are what is counted."""

    def spend(cost: float, made: bool) -> None:
        work.spend(cost, made)
        work.count(round(cost))

    return spend
