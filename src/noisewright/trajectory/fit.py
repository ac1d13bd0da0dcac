"""``noisewright.fit_schedule``: a better schedule for a model, a solver and a number of steps; nothing is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.outside.files import check_directory
from noisewright.outside.messages import short
from noisewright.schemas.schedules import FitArguments, WrongArgument, argument, check_arguments
from noisewright.trajectory import gits
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.dmn import MOST_DMN_STEPS
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.files import FittedSchedule, check_same_model, identity
from noisewright.trajectory.methods import (
    LATENT,
    PIXELS,
    FitInterrupted,
    FitProblem,
    fit_by_dmn,
    fit_by_gits,
    fit_by_search,
    fit_by_vrg,
)
from noisewright.trajectory.metric_names import TEACHER, check_metrics, make_metrics, not_kept
from noisewright.trajectory.metrics import TEACHER_STEPS, noise_batches
from noisewright.trajectory.model import (
    PromptedModel,
    PromptSource,
    Start,
    deterministic_solver,
    prompted_model,
    prompts_of,
    read_start,
    reporting,
    start_schedule,
)
from noisewright.trajectory.progress import Progress

log = logging.getLogger("noisewright")

__all__ = ["METHODS", "FitInterrupted", "Progress", "fit_schedule"]

METHODS = ("vrg", "gits", "dmn", "search")

OF_METHODS: dict[str, tuple[tuple[str, ...], Any]] = {
    "start": (("vrg", "search"), "logsnr"), "fixed_start": (("vrg", "search"), False),
    "errors": (("vrg",), None), "gamma": (("vrg",), 0.01), "penalty": (("vrg",), 100.0), "target": (("vrg",), None),
    "cost": (("gits",), "dev"), "factor": (("gits",), 1.15), "nodes": (("gits",), 61),
    "samples": (("gits", "search"), 64), "prompts": (("gits", "search"), None),
    "guidance_scale": (("gits", "search"), None),
    "metric": (("search",), TEACHER), "evaluations": (("search",), 120),
    "teacher_steps": (("search",), TEACHER_STEPS), "features": (("search",), None), "reference": (("search",), None),
}  # fmt: skip
"""Arguments that some methods have no use for: the methods that take them, and their defaults there."""

FEWEST_STEPS = {"dmn": 2, "search": 2}

SPARE_SEEDS = 1_000_000
"""Tuning uses the seeds from ``seed``, the report those from this much later."""


def fit_schedule(
    model: Any = "noisewright/shapes",
    *,
    steps: int,
    method: str,
    solver: str = "ddim",
    start: Start | None = None,
    errors: ErrorTable | str | Path | None = None,
    gamma: float | None = None,
    penalty: float | None = None,
    target: float | None = None,
    fixed_start: bool | None = None,
    cost: str | None = None,
    factor: float | None = None,
    nodes: int | None = None,
    samples: int | None = None,
    metric: Any = None,
    evaluations: int | None = None,
    teacher_steps: int | None = None,
    prompts: PromptSource | None = None,
    guidance_scale: float | None = None,
    features: str | None = None,
    reference: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 16,
    keep: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    dtype: Any = None,
    progress: bool | Callable[[Progress], None] | None = None,
) -> FittedSchedule:
    """Fit the noise levels of a few-step sampler; nothing is trained, and the model is left as it was.

    Methods, what they cost in guided network calls, and where they come from:

    - ``vrg`` lowers the cumulative prediction error within a trust region: none, once ``errors`` are measured
      (Xu, Liu and Kong 2025);
    - ``gits`` picks levels of a many-step run: ``(nodes - 1) x samples`` (Chen et al. 2024);
    - ``dmn`` minimises a bound of the error of multistep solvers: none (Xue et al. 2024);
    - ``search`` tunes up to six numbers on a metric by CMA-ES: ``evaluations x samples x steps``, twice
      ``samples x steps`` for the report, and with the metric teacher ``2 x samples x teacher_steps`` (Hansen 2016).

    An argument that the method has no use for is refused.

    Args:
        model: a bundled model, a pipeline directory, a hub id, a pipeline object or a sampler.
        steps: K, network calls of a solver that asks once a step, 1 to 10,000; at least 2 of dmn and search.
        method: ``vrg``, ``gits``, ``dmn`` or ``search``.
        solver: a deterministic one of ``noisewright list solvers``.
        start: of vrg and search: what to begin with, a rule of ``noisewright list schedules``, a file or a fitted
            schedule of K steps; by default logsnr. The result ends where it does.
        errors: of vrg: the table of :func:`noisewright.measure_schedule_errors`, or its file.
        gamma: of vrg: half width of the trust region, in (0, 1); by default 0.01.
        penalty: of vrg: weight of a moved start; by default 100.
        target: of vrg: abar of the start, in (0, 1); by default that of ``start``.
        fixed_start: of vrg and search: leave the noisiest level where it is; by default it may move.
        cost: of gits: ``dev`` (the default), ``l1`` or ``l2``; see :func:`~.teacher_costs`.
        factor: of gits: weight of later steps, above 0; by default 1.15.
        nodes: of gits: nodes of the many-step run, 4 to 1,001, more than K; by default 61.
        samples: of gits and search: noises to fit on; by default 64. Search reports on as many others.
        metric: of search: ``teacher`` (the default: distance to the many-step image of the same noise), ``fid``, a
            verifier's name, a function ``(images, prompt) -> scores`` or a verifier.
        evaluations: of search: schedules to try, at least 2; by default 120.
        teacher_steps: of search by teacher: steps of the many-step image; by default 200.
        prompts: of gits and search: prompts or classes, or the Path of a file with one a line; needed by models of
            prompts. Of several prompts search tunes on every second and reports on the others.
        guidance_scale: of gits and search: as in diffusers; by default the model's.
        features, reference: of search by fid: the feature network, and the file of a real set's statistics.
        seed: the first seed; the report uses seeds from 1,000,000 later.
        batch_size: images at once.
        keep: a directory where what the model was asked is kept, so that a call that was killed goes on and a later one
            asks for less; by default nothing is kept. Values of functions and servers are not kept.
        force: take a start or errors that were made for another model.
        device, dtype: where and how to load a model that is named.
        progress: a function, which is called with a :class:`~.Progress` after each piece of work. By default a bar
            where somebody looks, in a notebook or a terminal; True shows lines elsewhere, False nothing.

    Returns:
        The schedule, with ``figures`` of what was measured, ``notes`` of what to beware of, and ``save(file)``.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
        VerifierFailed: where the metric is a verifier that fails before it gave any number.
        FitInterrupted: where Ctrl-C stops a search, with the best so far.
    """
    given = check_arguments(
        FitArguments, steps=steps, method=method, solver=solver, gamma=gamma, penalty=penalty, target=target,
        fixed_start=fixed_start, cost=cost, factor=factor, nodes=nodes, samples=samples, evaluations=evaluations,
        teacher_steps=teacher_steps, guidance_scale=guidance_scale, features=features,
        reference=reference, seed=seed, batch_size=batch_size, keep=keep, force=force, device=device, dtype=dtype,
        progress=progress,
    )  # fmt: skip
    unchecked = {"start": start, "errors": errors, "metric": metric, "prompts": prompts}
    settings = _of_method(given.method, {**dict(given), **unchecked})
    rule = deterministic_solver(given.solver)
    start_name = _read_start(settings["start"], given.steps)
    metrics = _check_method(given.method, given.steps, settings)
    table = _read_errors(given.method, settings["errors"])
    cache = DiskCache(None if given.keep is None else check_directory(given.keep, "keep"))
    with reporting(given.progress) as report:
        loaded = prompted_model(model, prompts_of(prompts), given.guidance_scale, given.device, given.dtype)
        loaded = loaded.with_prompts() if given.method in ("gits", "search") else loaded.with_default_prompts()
        sampler = loaded.sampler(loaded.prompts[0])
        begin = start_schedule(settings["start"], sampler, given.steps, given.force)
        problem = FitProblem(sampler, begin, start_name, rule, cache, report)
        if given.method == "vrg":
            return _by_vrg(problem, table, settings, given)
        if given.method == "dmn":
            return fit_by_dmn(problem, power=LATENT if loaded.is_latent else PIXELS, seed=given.seed)
        if given.method == "gits":
            return _by_gits(problem, loaded, settings, given)
        return _by_search(problem, loaded, metrics, settings, given)


def _of_method(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :data:`OF_METHODS` with the defaults of a method.

    Raises:
        ValueError: on an unknown method, or an argument that it has no use for.
    """
    if method not in METHODS:
        raise ValueError(registry.unknown("method", method, list(METHODS)))
    found = {}
    for name, (methods, default) in OF_METHODS.items():
        if given[name] is not None and method not in methods:
            able, of = " or ".join(methods), argument("method")
            raise WrongArgument(f"expected {argument(name)} with {of} {able} only, got it with {of} {method}")
        found[name] = default if given[name] is None else given[name]
    return found


def _read_start(start: Start, steps: int) -> str:
    """How the start is called; refuses an unknown name, or a file of another length."""
    found = read_start(start)
    if not isinstance(found, FittedSchedule):
        return found
    name = "a fitted schedule" if isinstance(start, FittedSchedule) else str(start)
    if found.schedule.steps != steps:
        raise ValueError(f"expected a schedule of {steps} steps, got {found.schedule.steps} in {name}")
    return name


def _check_method(method: str, steps: int, settings: Mapping[str, Any]) -> list[Any]:
    """Refuse settings that the method cannot follow, before a model is loaded; gives the metric of a search."""
    if steps < FEWEST_STEPS.get(method, 1):
        raise ValueError(f"expected at least {FEWEST_STEPS[method]} steps for {method}, got {steps}")
    if method == "dmn" and steps > MOST_DMN_STEPS:
        raise WrongArgument(f"expected {argument('steps')} of at most {MOST_DMN_STEPS} for dmn, got {short(steps)}")
    if method == "gits":
        gits.check_settings(steps, nodes=settings["nodes"], cost=settings["cost"], factor=settings["factor"])
    if method != "search":
        return []
    found = check_metrics(settings["metric"], settings["features"], settings["reference"])
    if len(found) != 1:
        raise WrongArgument(f"expected one {argument('metric')} to search by, got {short(found)}")
    return found


def _read_errors(method: str, errors: ErrorTable | str | Path | None) -> ErrorTable | None:
    if method != "vrg" or isinstance(errors, ErrorTable):
        return errors if isinstance(errors, ErrorTable) else None
    if errors is None:
        raise WrongArgument(
            f"expected {argument('errors')} with {argument('method')} vrg, a table of `schedule measure`, got none"
        )
    if not isinstance(errors, (str, Path)):
        raise TypeError(f"expected errors as a table or its file, got {short(errors)}")
    return ErrorTable.load(errors)


def _by_vrg(
    problem: FitProblem, table: ErrorTable | None, settings: Mapping[str, Any], given: FitArguments
) -> FittedSchedule:
    assert table is not None  # noqa: S101 - see _read_errors
    check_same_model(table.identity, identity(problem.sampler), "an error table of", given.force)
    found = fit_by_vrg(
        problem, table, gamma=settings["gamma"], penalty=settings["penalty"], target=settings["target"],
        fixed_start=settings["fixed_start"], seed=given.seed,
    )  # fmt: skip
    if isinstance(settings["errors"], (str, Path)):
        found.made["errors"] = str(settings["errors"])
    return found


def _by_gits(
    problem: FitProblem, loaded: PromptedModel, settings: Mapping[str, Any], given: FitArguments
) -> FittedSchedule:
    batches = noise_batches(
        loaded.sampler, loaded.prompts, settings["samples"], seed=given.seed, batch=given.batch_size
    )
    return fit_by_gits(
        problem, batches, nodes=settings["nodes"], cost=settings["cost"], factor=settings["factor"], seed=given.seed,
        guidance_scale=loaded.guidance_scale,
    )  # fmt: skip


def _by_search(
    problem: FitProblem, loaded: PromptedModel, metrics: list[Any], settings: Mapping[str, Any], given: FitArguments
) -> FittedSchedule:
    """Several prompts are dealt out, one to tune on, the next to report on."""
    (metric,) = make_metrics(
        metrics, problem.cache, teacher_steps=settings["teacher_steps"], features=settings["features"],
        reference=settings["reference"], device=given.device,
    )  # fmt: skip
    shared = len(loaded.prompts) == 1 or loaded.has_classes
    sides = (loaded.prompts, loaded.prompts) if shared else (loaded.prompts[::2], loaded.prompts[1::2])
    tuning, reporting = (
        noise_batches(loaded.sampler, side, settings["samples"], seed=first, batch=given.batch_size)
        for side, first in zip(sides, (given.seed, given.seed + SPARE_SEEDS), strict=True)
    )
    found = fit_by_search(
        problem, metric, tuning, reporting, evaluations=settings["evaluations"], fixed_start=settings["fixed_start"],
        seed=given.seed, guidance_scale=loaded.guidance_scale,
    )  # fmt: skip
    for line in not_kept([metric], problem.cache):
        log.warning("%s", line)
    return found
