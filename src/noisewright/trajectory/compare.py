"""``noisewright.compare_schedules``: schedules on the same noises, by any metrics, with intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.diffusion.schedule import Schedule, ending_clean
from noisewright.diffusion.solvers import AnySolver, nfe
from noisewright.outside.files import check_directory
from noisewright.outside.messages import short
from noisewright.schemas.schedules import CompareArguments, WrongArgument, argument, check_arguments
from noisewright.trajectory.comparison import ComparedSchedule, Comparison, metric_value
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.files import FittedSchedule
from noisewright.trajectory.fit import SPARE_SEEDS
from noisewright.trajectory.methods import prepare_teacher, teacher_cost
from noisewright.trajectory.metric_names import TEACHER, check_metrics, make_metrics, not_kept
from noisewright.trajectory.metrics import (
    TEACHER_STEPS,
    Metric,
    NoiseBatch,
    cost_of,
    groups_of,
    metric_values,
    noise_batches,
    noises_in,
)
from noisewright.trajectory.model import (
    PromptSource,
    Start,
    deterministic_solver,
    prompted_model,
    prompts_of,
    read_start,
    reporting,
    start_schedule,
)
from noisewright.trajectory.progress import Progress, Report, Work

log = logging.getLogger("noisewright")

SEED = 2 * SPARE_SEEDS
"""No fit has tuned or reported on seeds from here on, unless it was told to."""


def compare_schedules(
    model: Any = "noisewright/shapes",
    schedules: Start | Sequence[Start] | Mapping[str, Start] = (),
    *,
    metric: Any = TEACHER,
    samples: int = 64,
    steps: int | None = None,
    solver: str | None = None,
    teacher_steps: int = TEACHER_STEPS,
    prompts: PromptSource | None = None,
    guidance_scale: float | None = None,
    features: str | None = None,
    reference: str | Path | None = None,
    keep_ends: bool = False,
    seed: int = SEED,
    batch_size: int = 16,
    keep: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    dtype: Any = None,
    progress: bool | Callable[[Progress], None] | None = None,
) -> Comparison:
    """Compare schedules on the same noises, by default on seeds that no fit has seen.

    Cost, in guided network calls: ``samples`` times the sum of all schedules' NFE, and with the metric teacher
    ``samples x teacher_steps``; what is kept is not asked again.

    Args:
        model: as :func:`noisewright.fit_schedule` takes it.
        schedules: names of ``noisewright list schedules``, files, fitted schedules; or these by the names that they are
            to have. Changes are counted from the first.
        metric: ``teacher``, ``fid``, a verifier's name, a function ``(images, prompt) -> scores``, a verifier, or a
            list of these.
        samples: noises, 2 to 100,000, the same for all, dealt out over the prompts.
        steps: of named rules; by default those of the first file or fitted schedule.
        solver: for all; by default what each was fitted for, and ddim for names.
        teacher_steps: for teacher: steps of the many-step image, at least 2.
        prompts: prompts or classes; needed by models of prompts.
        guidance_scale: as in diffusers; by default the model's.
        features, reference: for fid: the feature network, and the file of a real set's statistics.
        keep_ends: leave ends above the clean image, as of the rule ``pipeline``, where they are. By default all
            schedules are brought to it, so that only their levels differ.
        seed: the first.
        batch_size: images at once.
        keep, force, device, dtype, progress: as in :func:`noisewright.fit_schedule`.

    Raises:
        ValueError, TypeError: wrong use, in one line, before a model is loaded where that can be told.
        VerifierFailed: where a verifier fails before it gave any number.
    """
    given = check_arguments(
        CompareArguments, samples=samples, steps=steps, solver=solver, teacher_steps=teacher_steps,
        guidance_scale=guidance_scale, features=features, reference=reference, keep_ends=keep_ends, seed=seed,
        batch_size=batch_size, keep=keep, force=force, device=device, dtype=dtype, progress=progress,
    )  # fmt: skip
    named = _named(schedules)
    found = {name: read_start(one) for name, one in named.items()}
    fits = {name: one for name, one in found.items() if isinstance(one, FittedSchedule)}
    count = given.steps or next((one.schedule.steps for one in fits.values()), None)
    if count is None:
        raise WrongArgument(f"expected {argument('steps')} with names of schedules alone, got none")
    solvers = {
        name: deterministic_solver(given.solver or (fits[name].solver if name in fits else "ddim")) for name in named
    }
    wanted = check_metrics(metric, given.features, given.reference)
    cache = DiskCache(None if given.keep is None else check_directory(given.keep, "keep"))
    with reporting(given.progress) as report:
        loaded = prompted_model(
            model, prompts_of(prompts), given.guidance_scale, given.device, given.dtype
        ).with_prompts()
        sampler = loaded.sampler(loaded.prompts[0])
        lengths = {name: one.schedule.steps for name, one in fits.items()}
        made = {
            name: start_schedule(one, sampler, lengths.get(name, count), given.force) for name, one in named.items()
        }
        metrics = make_metrics(
            wanted, cache, teacher_steps=given.teacher_steps, features=given.features, reference=given.reference,
            device=given.device,
        )  # fmt: skip
        batches = noise_batches(loaded.sampler, loaded.prompts, given.samples, seed=given.seed, batch=given.batch_size)
        comparison = compare(
            made, solvers, metrics, batches, seed=given.seed, keep_ends=given.keep_ends, cache=cache, report=report
        )
    for line in not_kept(metrics, cache):
        log.warning("%s", line)
    return comparison


def compare(
    schedules: Mapping[str, Schedule],
    solvers: Mapping[str, AnySolver],
    metrics: Sequence[Metric],
    batches: Sequence[NoiseBatch],
    *,
    seed: int = 0,
    keep_ends: bool = False,
    cache: DiskCache | None = None,
    report: Report | None = None,
) -> Comparison:
    """Compare levels that are there already, on noises that are there; what :func:`compare_schedules` rests on.

    Args:
        schedules: by their names; changes are counted from the first.
        solvers: of each.
        metrics: what to measure, of the same images.
        batches: the noises.
        seed: of the first, for the record.
        keep_ends: leave ends above the clean image where they are.
        cache: where the values are kept.
        report: what is called with the progress.
    """
    made = dict(schedules) if keep_ends else {name: ending_clean(one) for name, one in schedules.items()}
    costs = {name: cost_of(one, solvers[name], batches) for name, one in made.items()}
    work = Work(sum(costs.values()) + sum(teacher_cost(one, batches) for one in metrics), report)
    for one in metrics:
        prepare_teacher(one, batches, work)
    values = {}
    work.begin("comparing", len(made), "schedules")
    for name, levels in made.items():
        work.count(0, note=name)
        values[name] = metric_values(levels, solvers[name], batches, metrics, cache, work.spend)
        work.count()
    groups = groups_of(batches)
    first = next(iter(values.values()))
    rows = [
        ComparedSchedule(
            name, levels, solvers[name].name, nfe(solvers[name], levels, 0, levels.steps),
            {one.name: metric_value(one, values[name][one.name], None if number == 0 else first[one.name], groups)
             for one in metrics}, _end(levels), _end(schedules[name]),
        )
        for number, (name, levels) in enumerate(made.items())
    ]  # fmt: skip
    return Comparison(
        rows, {one.name: one.lower for one in metrics}, noises_in(batches), len({one.prompt for one in batches}), seed,
        "noises" if groups is None else "prompts", keep_ends,
    )  # fmt: skip


def _named(schedules: Any) -> dict[str, Start]:
    """What is to be compared, by its name; what is given twice counts once.

    Raises:
        ValueError, TypeError: on none, or what is no schedule.
    """
    if isinstance(schedules, Mapping):
        found = {str(name): one for name, one in schedules.items()}
    else:
        alone = isinstance(schedules, (str, Path, FittedSchedule))
        if not alone and not isinstance(schedules, (list, tuple)):
            raise TypeError(f"expected schedules as a list, got {short(schedules)}")
        found = {}
        for one in [schedules] if alone else schedules:
            name = str(one) if isinstance(one, (str, Path)) else _name_of(one, found)
            found[name] = one
    if not found:
        raise ValueError("expected schedules to compare, got none")
    return found


def _name_of(one: Any, taken: Mapping[str, Any]) -> str:
    """What a fitted schedule is called: its method and start, with a number where there are two."""
    made = one.made if isinstance(one, FittedSchedule) else {}
    start = f" from {made['from']}" if made.get("from") else ""
    name = f"{made.get('method', 'fitted')}{start}"
    number = sum(known == name or known.startswith(f"{name} (") for known in taken)
    return name if not number else f"{name} ({number + 1})"


def _end(schedule: Schedule) -> float:
    return schedule.sigma[-1] / schedule.alpha[-1]
