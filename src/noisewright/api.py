"""What Python users call: :func:`search` on a pipeline they hold, :func:`load` for one they name."""

from __future__ import annotations

import atexit
import contextlib
import difflib
import inspect
import logging
import numbers
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from noisewright import __version__, registry, trust
from noisewright.bounds import LARGEST_SIDE, MOST_IN_A_BATCH, MOST_STEPS, MOST_VERIFIERS, at_most, no_longer, no_more
from noisewright.budget import Budget, parse_budget
from noisewright.builtins import BEGINS_ANEW, FULL_STEPS, PREVIEWS, STEP_NOISE
from noisewright.errors import BudgetExhausted, TargetReached, out_of_memory
from noisewright.evaluate import report
from noisewright.files import check_directory, not_files, write_atomically, write_picture
from noisewright.metadata import encode_png, read_image, read_recipe
from noisewright.particle import ENSEMBLES, Candidate, ensemble_weights, read_ensemble
from noisewright.run import CurvePoint, Run, Target, without_gradient
from noisewright.sampler import Sampler
from noisewright.samplers.classes import is_class_conditional, labels_of, read_class
from noisewright.samplers.pipeline import LEVELS, PipelineSampler, load_pipeline
from noisewright.schemas.checked import sayable
from noisewright.schemas.reading import cut, is_file, short
from noisewright.schemas.request import as_path, check_arguments
from noisewright.shapes.prompts import parse
from noisewright.store import Store, digest_of, read_run
from noisewright.texts import clean
from noisewright.verifier import Verifier, as_verifier, let_check
from noisewright.verifiers.cache import all_cached

log = logging.getLogger("noisewright")

DEFAULT_BUDGET = "16 images"
RESERVED = (
    "latents", "generator", "num_images_per_prompt", "output_type", "return_dict", "callback_on_step_end",
    "class_labels",
)  # fmt: skip
"""Arguments of a pipeline's call that the search sets, or that would change what it sees."""

NONE: tuple[list[str], ...] = ([], ["none"])
"""What asks for no judge at all, where the model's card names one."""


@dataclass(frozen=True)
class Shown:
    """A candidate as a person sees it.

    Attributes:
        id: its name in the run.
        seed: the seed that makes it in plain diffusers, or None.
        scores: by verifier and judge name.
        file: its PNG.
    """

    id: str
    seed: int | None
    scores: dict[str, float]
    file: Path

    @property
    def image(self) -> Image.Image:
        array, _ = read_image(self.file)
        return Image.fromarray(array)


@dataclass(frozen=True)
class Result:
    """What a search found and what it cost.

    Attributes:
        best: the best candidate.
        baseline: what the model gives by itself for the same seed.
        nfe: guided model evaluations; ``forwards``: network passes (two per NFE under guidance).
        images: finished images.
        seconds: by phase, and ``total``.
        stopped: why it ended.
        run: the run directory.
        candidates: everything that was finished, in order.
        curve: best-so-far after each candidate.
        warnings: what the user should know.
    """

    best: Shown
    baseline: Shown
    nfe: int
    forwards: int
    images: int
    seconds: dict[str, float]
    stopped: str
    run: Path
    verifiers: tuple[str, ...]
    judges: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    warnings: tuple[str, ...] = ()
    interrupted: bool = field(default=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""

        def shown(one: Shown) -> dict[str, Any]:
            scores = {name: None if value != value else value for name, value in one.scores.items()}
            return {"id": one.id, "seed": one.seed, "scores": scores, "file": str(one.file)}

        return {
            "best": shown(self.best),
            "baseline": shown(self.baseline),
            "nfe": self.nfe,
            "forwards": self.forwards,
            "images": self.images,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "run": str(self.run),
            "warnings": list(self.warnings),
        }

    def save(self, directory: str | Path) -> Path:
        """Copy the run directory to ``directory`` (which must be new or empty)."""
        directory = as_path("a directory", directory)
        if directory.is_file():
            raise ValueError(f"expected a new or empty directory, got the file {directory}")
        target = check_directory(directory, "directory")
        if target.resolve() == self.run.resolve():
            return target
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(f"expected a new or empty directory, got {target}")
        shutil.copytree(self.run, target, dirs_exist_ok=True, ignore=not_files)
        return target

    def plot(self, file: str | Path | None = None) -> Any:
        """The best-so-far curve as a matplotlib figure; written to ``file`` where one is given."""
        return report.plot_curve(self.curve, self.verifiers, file)


def load(model: str = "noisewright/shapes", *, device: str | None = None, dtype: str | None = None) -> Any:
    """Load a bundled model, a pipeline directory or a hub id as a diffusers pipeline (safetensors only).

    Raises:
        ValueError: in one line, what is wrong with the name or the files.
    """
    asked = check_arguments(device=device, dtype=dtype)
    name = registry.find_model(str(as_path("a model", model)))
    check_device(asked.device)
    return load_pipeline(name, device=asked.device, dtype=asked.dtype)


def check_device(name: str | None) -> None:
    """Raise a ValueError for a device that is not here."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"expected a device that torch has here (cpu, cuda, mps, ...), got {short(name)}"
        ) from None


@dataclass
class Plan:
    """Everything a run needs, checked, before anything is spent."""

    sampler: Sampler
    final: Sampler
    verifiers: list[Verifier]
    judges: list[Verifier]
    search: Callable[..., None]
    search_args: dict[str, Any]
    budget: Budget
    target: Target
    batch_size: int
    spec: dict[str, Any]
    warnings: list[str]


def search(
    pipe: Any,
    prompt: str | None = None,
    *,
    class_label: str | int | None = None,
    verifier: Any = None,
    judge: Any = None,
    search: str = "random",
    search_args: Mapping[str, Any] | None = None,
    budget: str | int | Budget | Sequence[str] | None = None,
    target: float | Mapping[str, float] | None = None,
    num_inference_steps: int | None = None,
    search_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    solver: str | None = None,
    eta: float | None = None,
    schedule: str | None = None,
    force: bool = False,
    seed: int = 0,
    ensemble: str | Mapping[str, float] = "rank",
    score_cache: str | Path | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[Run], None] | None = None,
    pictures: bool = True,
    **pipe_kwargs: Any,
) -> Result:
    """Search for the noise that gives the best image, on a pipeline that is left as it was found.

    Args:
        pipe: a diffusers pipeline, a directory or a model id (``"noisewright/shapes"``), or a
            :class:`noisewright.sampler.Sampler`.
        prompt: what to make.
        class_label: instead of a prompt for a class-conditional pipeline: the name or the number of a class. A prompt
            that is the name of one is taken for it; verifiers get the name as their prompt.
        verifier: a name (``"clip"``, ``"clip:MODEL"``, ``"file.py:function"``), a function ``(images, prompt) ->
            scores`` with images (batch, 3, height, width) in [0, 1], an object of the protocol, or a list of these. By
            default what the model's card names, else ``clip``.
        judge: the same, for verifiers that the search never sees; reported for baseline and best. By default the first
            that the model's card names and that is no verifier here; none with ``"none"`` or an empty list.
        search: a name from ``noisewright list searches``; ``search_args`` are its own arguments.
        budget: ``"64 images"``, ``"1920 nfe"``, ``"30 s"``, or several; the first that runs out ends the search. The
            baseline and the final rendering are paid from it.
        target: stop as soon as a candidate scores this; with several verifiers a mapping from name to score.
        num_inference_steps, guidance_scale, negative_prompt, height, width: as in diffusers.
        search_steps: search with this many steps and render the winner with ``num_inference_steps``.
        solver: ``None`` (the pipeline's own) or a name from ``noisewright list solvers``; ``eta`` in [0, 1] for those
            that have it.
        schedule: ``None`` (the pipeline's own noise levels), a name from ``noisewright list schedules``, or a schedule
            file; with the pipeline's own scheduler only where noisewright has its equal.
        force: take a schedule file that was made for another model: its levels, with this model's own times.
        seed: candidate k starts from the noise of ``torch.Generator("cpu").manual_seed(seed + k)``.
        ensemble: ``"rank"`` (mean rank within the prompt), ``"zsum"``, or the weights of a weighted sum of the scores
            as they are: ``{"clip": 1, "aesthetic": 0.5}`` or ``"clip=1,aesthetic=0.5"``.
        score_cache: a directory that keeps scores from run to run (:mod:`noisewright.verifiers.cache`); by default
            none is kept.
        batch_size: the first micro-batch size; halved when memory runs out.
        device, dtype: where and how to load a ``pipe`` that is given by name.
        out: the run directory; a run of the same settings there is continued. By default a temporary one, which
            ``result.save()`` copies. Paths of the result are full ones.
        progress: called with the run after each micro-batch.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.
        pipe_kwargs: further arguments of the pipeline's call.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
        RunMismatch: where ``out`` holds another run.
        VerifierFailed: where a verifier fails; what was made stays in the run directory.
        UnsupportedPipeline: where the pipeline cannot be entered through its scheduler.
    """
    asked = check_arguments(out=out, progress=progress, pictures=pictures)
    # in full, before code of the user's may change the working directory
    where = None if asked.out is None else check_directory(asked.out, "out")
    plan = make_plan(
        pipe, prompt, class_label=class_label, verifier=verifier, judge=judge, search=search, search_args=search_args,
        budget=budget, target=target, num_inference_steps=num_inference_steps, search_steps=search_steps,
        guidance_scale=guidance_scale, negative_prompt=negative_prompt, height=height, width=width, solver=solver,
        eta=eta, schedule=schedule, force=force, seed=seed, ensemble=ensemble, score_cache=score_cache,
        batch_size=batch_size, device=device, dtype=dtype, **pipe_kwargs,
    )  # fmt: skip
    if where is None:
        where = Path(tempfile.mkdtemp(prefix="noisewright-"))
        atexit.register(shutil.rmtree, where, ignore_errors=True)
    return execute(plan, where, progress, pictures=asked.pictures)


def make_plan(
    pipe: Any,
    prompt: str | None = None,
    *,
    class_label: str | int | None = None,
    verifier: Any = None,
    judge: Any = None,
    search: str = "random",
    search_args: Mapping[str, Any] | None = None,
    budget: str | int | Budget | Sequence[str] | None = None,
    target: float | Mapping[str, float] | None = None,
    num_inference_steps: int | None = None,
    search_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    solver: str | None = None,
    eta: float | None = None,
    schedule: str | None = None,
    force: bool = False,
    seed: int = 0,
    ensemble: str | Mapping[str, float] = "rank",
    score_cache: str | Path | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **pipe_kwargs: Any,
) -> Plan:
    """Check everything that can be checked before anything is spent; the arguments are :func:`search`'s."""
    warnings: list[str] = []
    if prompt is not None or class_label is None:
        check_prompt(prompt)
    no_longer(class_label=class_label, negative_prompt=negative_prompt)
    asked = check_arguments(
        class_label=class_label, search=search, search_args=search_args, target=target,
        num_inference_steps=num_inference_steps, search_steps=search_steps, guidance_scale=guidance_scale,
        negative_prompt=negative_prompt, height=height, width=width, solver=solver, eta=eta, schedule=schedule,
        force=force, seed=seed, ensemble=ensemble, score_cache=score_cache, batch_size=batch_size, device=device,
        dtype=dtype,
    )  # fmt: skip
    class_label, search, search_args, target = asked.class_label, asked.search, asked.search_args, asked.target
    num_inference_steps, search_steps, batch_size = asked.num_inference_steps, asked.search_steps, asked.batch_size
    guidance_scale, negative_prompt, seed = asked.guidance_scale, asked.negative_prompt, asked.seed
    height, width, solver, eta, schedule = asked.height, asked.width, asked.solver, asked.eta, asked.schedule
    force, ensemble, score_cache, device, dtype = (
        asked.force, asked.ensemble, asked.score_cache, asked.device, asked.dtype
    )  # fmt: skip
    at_most(MOST_STEPS, num_inference_steps=num_inference_steps, search_steps=search_steps)
    at_most(MOST_IN_A_BATCH, batch_size=batch_size)
    at_most(LARGEST_SIDE, height=height, width=width)
    for given, what in ((verifier, "verifiers"), (judge, "judges")):
        no_more(MOST_VERIFIERS, what, given if isinstance(given, (list, tuple)) else [given])
    if not ensemble_weights(ensemble) and ensemble not in ENSEMBLES:
        raise ValueError(registry.unknown("ensemble", str(ensemble), list(ENSEMBLES)))
    limits = parse_budget(DEFAULT_BUDGET if budget is None else budget)
    function = registry.make_search(search)
    arguments = registry.check_arguments(search, search_args or {})
    rule = registry.make_solver(solver, eta)
    needs = registry.entry("search", search).needs
    if schedule is not None and is_file(schedule):
        schedule = str(Path(schedule).absolute())  # as below: a verifier may change the working directory
    elif schedule is not None:
        registry.entry("schedule", schedule)
    if score_cache is not None:
        score_cache = check_directory(score_cache, "score_cache")
    if STEP_NOISE in needs and rule is None and not isinstance(pipe, Sampler):
        rule = registry.make_solver("ddim", 1.0)
        warnings.append(f"{search} needs step noise: solver ddim with eta 1, for the baseline too")

    for name in RESERVED:
        if name in pipe_kwargs:
            raise ValueError(f"expected no {name}, which noisewright sets itself, got {short(pipe_kwargs[name])}")
    if (device or dtype) and not isinstance(pipe, (str, Path)):
        given = "device" if device else "dtype"
        raise ValueError(f"expected no {given} beside a pipeline that is loaded already, got {short(device or dtype)}")
    if (height is None) != (width is None):  # some pipelines ignore one without the other
        raise ValueError("expected height and width together, got one of them")
    if isinstance(pipe, (str, Path)):
        pipe = load(str(pipe), device=device, dtype=dtype)
    info = registry.card(getattr(pipe, "name_or_path", None))
    _check_taken(pipe, pipe_kwargs)
    prompt, class_label = _condition(pipe, prompt, class_label, info)
    if verifier is None:
        verifier = trust.of_card(info, "verifier", getattr(pipe, "name_or_path", "")) or "clip"
    verifiers = _verifiers(verifier, pipe)
    judges, notes = _judges(judge, verifiers, prompt, info, pipe)
    warnings += notes
    shared = {one.name for one in verifiers} & {one.name for one in judges}
    if shared:
        raise ValueError(f"expected a judge that the search never sees, got {', '.join(sorted(shared))} as both")
    _check_verifiers(verifiers, judges, prompt, search)
    if score_cache is not None:
        every = all_cached([*verifiers, *judges], score_cache)
        verifiers, judges = every[: len(verifiers)], every[len(verifiers) :]
    goal = _target(target, verifiers)
    warnings += _unknown_words(prompt, info)

    sampler: Sampler
    if isinstance(pipe, Sampler):
        settings = {"guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "height": height,
                    "width": width, "solver": solver, "eta": eta, "schedule": schedule, "force": force or None,
                    **pipe_kwargs}  # fmt: skip
        _check_sampler(pipe, prompt, settings)
        sampler = pipe if num_inference_steps is None else pipe.with_steps(num_inference_steps)
    else:
        default = info.get("default", {})
        steps = num_inference_steps or default.get("num_inference_steps") or _default_steps(pipe)
        at_most(MOST_STEPS, num_inference_steps=steps)
        scale = guidance_scale if guidance_scale is not None else default.get("guidance_scale")
        try:
            sampler = PipelineSampler(
                pipe, prompt, class_label=class_label, num_inference_steps=steps, guidance_scale=scale,
                negative_prompt=negative_prompt, height=height, width=width, solver=rule, model=_model_name(pipe),
                pipe_kwargs=pipe_kwargs,
            )  # fmt: skip
            anew = BEGINS_ANEW in needs and not sampler.begins_anywhere
            if rule is None and (anew or (PREVIEWS in needs and not sampler.knows_levels)):
                why = f"solver ddim for {search}: {type(pipe.scheduler).__name__} cannot be entered on its way"
                sampler = sampler.with_levels("pipeline", registry.make_solver("ddim", eta))
                warnings.append(f"{why}; for the baseline too")
            if schedule is not None:
                sampler = _on_levels(sampler, schedule, num_inference_steps, eta, warnings, force)
        except Exception as error:
            if not out_of_memory(error):
                raise
            shown = "the model's own" if height is None else f"{height}x{width}"
            raise ValueError(f"expected a model and a size whose noise fit in memory, got size {shown}") from None
    final = sampler
    asked = final.description["num_inference_steps"]
    if search_steps == asked:
        warnings.append(f"search_steps has no effect: the model takes {asked} steps anyway")
    if force and (schedule is None or not Path(schedule).is_file()):
        warnings.append("force has no effect without a schedule file")
    if len(verifiers) == 1 and ensemble != "rank" and not ensemble_weights(ensemble):
        warnings.append(f"ensemble {ensemble} has no effect with one verifier")
    if eta == 0 and rule is None and sampler.stochastic:
        warnings.append("eta 0 has no effect: the pipeline's own scheduler draws its noise whatever eta is")
    if num_inference_steps is not None and any(pipe_kwargs.get(name) is not None for name in LEVELS):
        warnings.append(f"num_inference_steps has no effect beside {' or '.join(LEVELS)} of the pipeline")
    warnings += getattr(sampler, "warnings", [])
    if search_steps is not None and search_steps != asked:
        sampler = final.with_steps(search_steps)
        if FULL_STEPS in needs:
            raise ValueError(f"expected no search_steps with {search}, which changes states on their way")
    if PREVIEWS in needs and not getattr(sampler, "can_preview", True):
        kind = sampler.pipe.scheduler.config.get("prediction_type")  # type: ignore[attr-defined]
        raise ValueError(f"expected a prediction that previews can be made of for {search}, got {kind!r}")
    if BEGINS_ANEW in needs and not getattr(sampler, "begins_anywhere", True):
        raise ValueError(f"expected a solver that can be entered on its way for {search}, got the pipeline's own")
    _rehearse(function, sampler, verifiers, arguments, seed, limits)
    if limits == Budget():
        raise ValueError("expected a budget such as '64 images', got none")
    renders = 1 if sampler is final else 2
    each = final.nfe(0, final.schedule.steps)
    if (limits.images or renders) < renders or (limits.nfe or renders * each) < renders * each:
        raise ValueError(f"expected a budget of at least {renders} images ({renders * each} nfe), got {limits}")

    size = batch_size or default_batch_size(sampler)
    spec: dict[str, Any] = {
        "sampler": final.description,
        "search_steps": sampler.description["num_inference_steps"],
        "search_steps_taken": sampler.schedule.steps,
        "search": search,
        "search_args": arguments,
        "seed": seed,
        "verifiers": [{"name": one.name, "fingerprint": one.fingerprint} for one in verifiers],
        "judges": [{"name": one.name, "fingerprint": one.fingerprint} for one in judges],
        "ensemble": read_ensemble(ensemble, [one.name for one in verifiers]),
        "budget": {"images": limits.images, "nfe": limits.nfe, "seconds": limits.seconds},
        "target": goal.scores,
        "batch_size": size,
    }
    return Plan(sampler, final, verifiers, judges, function, arguments, limits, goal, size, spec, warnings)


def _on_levels(
    sampler: PipelineSampler, schedule: str, steps: int | None, eta: float | None, warnings: list[str], force: bool
) -> PipelineSampler:
    """The sampler on the levels that ``schedule`` names; a file's solver is used where none was asked for.

    Raises:
        ValueError: on a file for another model, unless by force, or for another number of steps than was asked for.
    """
    levels, solver = registry.schedule_from(schedule, sampler, force)
    rule = None
    if solver is not None:
        if steps is not None and steps != levels.steps:
            raise ValueError(f"expected the {levels.steps} steps of {schedule}, got {steps}")
        if sampler.given_solver is None and solver in registry.names("solver") and solver != "pipeline":
            rule = registry.make_solver(solver, eta)
            warnings.append(f"solver {solver}, which the schedule was made for")
    return sampler.with_levels(levels, rule)


class _Rehearsed(Exception):
    """A search came to its first verb."""


class _Rehearsal:
    """What a search sees of a run before its first verb, which ends the rehearsal."""

    def __init__(self, sampler: Sampler, verifiers: Sequence[Verifier], seed: int, budget: Budget) -> None:
        self.without_gradient = without_gradient(sampler, verifiers)
        self.schedule = sampler.schedule
        self.steps = sampler.schedule.steps
        self.stochastic = sampler.stochastic
        self.seed = seed
        self.budget = budget
        self._sampler = sampler

    @property
    def noise_size(self) -> int:
        return self._sampler.noise([self.seed])[0].numel()

    def __getattr__(self, name: str) -> Any:
        raise _Rehearsed(name)


def _rehearse(
    function: Callable[..., Any],
    sampler: Sampler,
    verifiers: Sequence[Verifier],
    arguments: Mapping[str, Any],
    seed: int,
    budget: Budget,
) -> None:
    """Let a search check its arguments, before anything is spent."""
    with contextlib.suppress(_Rehearsed):
        function(_Rehearsal(sampler, verifiers, seed, budget), **arguments)


def execute(
    plan: Plan,
    out: str | Path,
    progress: Callable[[Run], None] | None = None,
    request: Mapping[str, Any] | None = None,
    pictures: bool = True,
) -> Result:
    """Run a plan in a directory; a run of the same settings there is continued.

    Ctrl-C ends it with the best so far.

    Args:
        plan: from :func:`make_plan`.
        out: the run directory.
        progress: called with the run after each micro-batch.
        request: :func:`make_plan`'s arguments, JSON-ready, from which ``noisewright resume`` can plan again.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.
    """
    if pictures:
        report.prepare()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    asked = dict(request) if request is not None else None
    store = Store.create(check_directory(out, "out"), plan.spec, versions(), now, asked)
    try:
        store.write(status="running", stopped=None)
        run = Run(
            store, plan.sampler, plan.verifiers, seed=plan.spec["seed"], budget=plan.budget,
            ensemble=plan.spec["ensemble"], target=plan.target, final=plan.final, search=plan.spec["search"],
            batch_size=plan.batch_size, judges=plan.judges, on_progress=progress,
        )  # fmt: skip
        run.warnings.extend(plan.warnings)
        interrupted = False
        try:
            stopped = _search(plan, run)
            run.render()
        except KeyboardInterrupt:
            stopped, interrupted = "interrupted", True
        except BaseException as error:
            if store.is_new and isinstance(error, (ValueError, TypeError)):  # wrong use: as if it had never begun
                store.discard()
            else:
                _mark_failed(store, error)
            raise
        try:
            return _conclude(plan, run, stopped, interrupted, pictures)
        except KeyboardInterrupt:
            if interrupted or run.best is None:
                raise
            return _conclude(plan, run, "interrupted", True, pictures)
        except BaseException as error:
            _mark_failed(store, error)
            raise
    finally:
        store.close()


def _search(plan: Plan, run: Run) -> str:
    """Run the search function; returns why it stopped."""
    try:
        plan.search(run, **plan.search_args)
    except BudgetExhausted as error:
        return f"budget: {error}"
    except TargetReached:
        return "target"
    return "finished"


def _conclude(plan: Plan, run: Run, stopped: str, interrupted: bool, pictures: bool) -> Result:
    """Judge, write what a person looks at, and sum up."""
    store = run.store
    if run.best is None:
        store.write(status="interrupted", stopped=stopped)
        raise KeyboardInterrupt
    judged = run.judge() if not interrupted else {}
    for text in getattr(run.final, "warnings", ()):  # what showed on the way
        run.say(text)
    best, baseline = run.best, run.baseline or run.draft_baseline or run.best
    if run.baseline is None:
        run.say("interrupted before the baseline was rendered: what is shown as the baseline is " + (
            "its draft with fewer steps" if run.draft_baseline is not None else "the best itself"
        ))  # fmt: skip
    shown = {
        name: _show(run, one, judged.get(one.id, {}), f"{name}.png")
        for name, one in (("best", best), ("baseline", baseline))
    }
    curve = run.curve()
    names = tuple(verifier.name for verifier in run.verifiers)
    candidates = list(run.candidates.values())
    if pictures:
        _draw(run, shown["baseline"], shown["best"], curve, names)
    seconds = {name: round(value, 4) for name, value in run.seconds.items()}
    seconds["total"] = round(run.elapsed, 4)
    result = Result(
        best=shown["best"], baseline=shown["baseline"], nfe=run.spent.nfe, forwards=run.spent.forwards,
        images=run.spent.images, seconds=seconds, stopped=stopped, run=store.root, verifiers=names,
        judges=tuple(judge.name for judge in plan.judges), candidates=tuple(candidates), curve=tuple(curve),
        warnings=(*run.warnings, *run.failures(), *run.bills()), interrupted=interrupted,
    )  # fmt: skip
    summary = result.to_json()
    for key in ("best", "baseline"):
        summary[key]["file"] = Path(summary[key]["file"]).name
    summary.pop("run")
    files = {one.file.name: digest_of(one.file.read_bytes()) for one in shown.values()}
    store.write(status="interrupted" if interrupted else "done", stopped=stopped, summary=summary, files=files)
    return result


def _draw(run: Run, baseline: Shown, best: Shown, curve: Sequence[CurvePoint], names: Sequence[str]) -> None:
    """Write what a person looks at first: before and after, the contact sheet, the curve."""
    root, store = run.store.root, run.store
    captions = [
        "\n".join([title, *(f"{name} {report.format_score(value)}" for name, value in one.scores.items())])
        for title, one in (("baseline", baseline), ("best", best))
    ]
    with store.writing(root / "before-after.png"):
        pair = report.before_after(
            baseline.file, best.file, prompt=run.prompt, captions=(captions[0], captions[1])
        )
        write_picture(pair, root / "before-after.png")
    with store.writing(root / "contact-sheet.png"):
        pool = list(run.candidates.values())
        full = [one for one in pool if one.particle.steps == run.final.schedule.steps]
        drafts = [one for one in pool if one.particle.steps != run.final.schedule.steps]  # their scores do not compare
        best_first = [*run.top(full, len(full)), *run.top(drafts, len(drafts))][: report.MOST_TILES]
        write_picture(report.contact_sheet(root, best_first, names), root / "contact-sheet.png")
    with store.writing(root / "curve.png"):
        report.plot_curve(curve, names, root / "curve.png")


def _show(run: Run, one: Candidate, judged: dict[str, float], file: str) -> Shown:
    """Write a candidate's PNG with its scores in the metadata."""
    scores = {**one.scores, **judged}
    made = run.ledger.images[one.id]
    try:
        array, recipe = read_recipe(run.store.root / one.file)
    except ValueError:  # another program rewrote the file: the pixels are those, the recipe is gone
        array, _ = read_image(run.store.root / one.file)
        versions = run.store.run["versions"]
        recipe = {**run.recipe(one.particle, made.size, made.place, versions), "pixels": made.pixels}
    recipe = {**recipe, "scores": scores}
    path = run.store.root / file
    with run.store.writing(path):
        write_atomically(path, encode_png(np.ascontiguousarray(array), recipe))
    return Shown(one.id, one.seed, scores, path)


def _mark_failed(store: Store, error: BaseException) -> None:
    """Say in run.json why it ended; a disk that is full stays silent here, the first error is the one to show."""
    try:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        store.write(status="failed", stopped=clean(f"{type(error).__name__}: {first}", 1000))
    except (OSError, RuntimeError):
        log.debug("run.json could not be updated", exc_info=True)


def _condition(
    pipe: Any, prompt: str | None, class_label: str | int | None, info: Mapping[str, Any]
) -> tuple[str, int | None]:
    """The prompt, and the number of the class where the pipeline is conditioned on classes: then the prompt names it.

    Raises:
        ValueError: in one line, on a class for a pipeline that takes none, on none for one that takes it, on a class
            that is none of its own, or on a prompt that names another class.
    """
    kind = type(pipe).__name__
    if isinstance(pipe, Sampler) or not is_class_conditional(pipe):
        if class_label is not None:
            what = "is a sampler, which has its own" if isinstance(pipe, Sampler) else "is not class-conditional"
            raise ValueError(f"expected no class_label, since {kind} {what}, got {short(class_label)}")
        check_prompt(prompt)
        return str(prompt), None
    labels = labels_of(pipe, info.get("labels"))
    if class_label is None:
        try:
            number, name = read_class(pipe, str(prompt), labels)
        except ValueError as error:
            raise ValueError(f"{kind} takes a class_label in place of a prompt: {error}") from None
        return name, number
    number, name = read_class(pipe, class_label, labels)
    if prompt is not None and read_class(pipe, prompt, labels)[0] != number:
        raise ValueError(f"expected one class, got the class_label {short(class_label)} and the prompt {short(prompt)}")
    return name, number


def _check_taken(pipe: Any, given: Mapping[str, Any]) -> None:
    """Refuse arguments that neither the search nor the pipeline has.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    accepted = [] if isinstance(pipe, Sampler) else list(inspect.signature(type(pipe).__call__).parameters)
    for name in given:
        if name not in accepted:
            own = inspect.signature(make_plan).parameters
            near = difflib.get_close_matches(name[:100], [*own, *accepted], n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{type(pipe).__name__} takes no {cut(name)}{hint}")


def _check_verifiers(verifiers: Sequence[Verifier], judges: Sequence[Verifier], prompt: str, search: str) -> None:
    """What verifiers can say before anything is spent of the prompt, and of what the search will show them.

    Raises:
        ValueError: in one line.
    """
    levels = sorted({float(one.preview_sigma) for one in verifiers if hasattr(one, "preview_sigma")})
    if len(levels) > 1:
        raise ValueError(f"expected verifiers that want previews at one level, got {', '.join(map(str, levels))}")
    for one in [*verifiers, *judges]:
        let_check(one, prompt)
        if hasattr(one, "preview_sigma"):
            if one in judges:
                raise ValueError(f"expected a judge that scores images alone, got {one.name}, which wants previews")
            if PREVIEWS in registry.entry("search", search).needs:
                raise ValueError(f"expected a verifier that scores images alone for {search}, got {one.name}")


def check_prompt(prompt: str | None) -> None:
    """Raise a ValueError for a prompt that is empty or no prompt at all."""
    if prompt is None:
        raise ValueError("expected a prompt (or a class label, for a class-conditional model), got none")
    if not isinstance(prompt, str):
        raise TypeError(f"expected a prompt as text, got {type(prompt).__name__}")
    if not sayable(prompt):
        raise ValueError(f"expected a prompt without NUL and half surrogate pairs, got {short(prompt)}")
    if not prompt.strip():
        raise ValueError("expected a prompt, got an empty one")
    no_longer(prompt=prompt)


def _unknown_words(prompt: str, info: dict[str, Any]) -> list[str]:
    words = set(info.get("words", []))
    strange = [word for word in re.findall(r"[^\s,.;:!?]+", prompt.lower()) if word not in words]
    if not words or not strange:
        return []
    return [f"the model {info.get('name', '')} was not trained on: {', '.join(dict.fromkeys(strange))}"]


def _verifiers(given: Any, pipe: Any) -> list[Verifier]:
    many = list(given) if isinstance(given, (list, tuple)) else [given]
    if not many:
        raise ValueError("expected at least one verifier, got an empty list")
    device = str(getattr(pipe, "device", "cpu"))
    many = [_in_full(one) if isinstance(one, str) else one for one in many]
    made = [registry.make_verifier(one, device) if isinstance(one, str) else as_verifier(one) for one in many]
    names = [one.name for one in made]
    if len(set(names)) != len(names):
        raise ValueError(f"expected verifiers with distinct names, got {', '.join(names)}")
    return made


def _in_full(verifier: str) -> str:
    """``FILE.py:FUNCTION`` with the file's full path: one verifier's file may change the working directory."""
    file, colon, function = verifier.rpartition(":")
    return f"{Path(file).absolute()}{colon}{function}" if file.endswith(".py") and Path(file).is_file() else verifier


def _judges(
    given: Any, verifiers: Sequence[Verifier], prompt: str, info: Mapping[str, Any], pipe: Any
) -> tuple[list[Verifier], list[str]]:
    """The judges that were asked for, or the first of the card's that is no verifier here and can judge this prompt.

    Returns:
        The judges, and a sentence where the card's cannot be asked.
    """
    if given is not None:
        none = isinstance(given, (str, list, tuple)) and list(given if not isinstance(given, str) else [given]) in NONE
        return [] if none else _verifiers(given, pipe), []
    named = trust.of_card(info, "judge", getattr(pipe, "name_or_path", ""))
    taken = {one.name for one in verifiers}
    free = [one for one in named if registry.score_name(one) not in taken]
    if not free:
        return [], []
    if free[0] == "shapes-oracle" and not _in_the_shapes_world(prompt):
        return [], [f"{free[0]} is not asked: it reads only prompts of the shapes world, such as 'two red circles'"]
    try:
        judges = _verifiers(free[0], pipe)
        _check_verifiers([], judges, prompt, "random")
    except (ValueError, OSError, ImportError) as error:
        return [], [f"{free[0]} is not asked: {next(iter(str(error).splitlines()), type(error).__name__)}"]
    return judges, []


def _in_the_shapes_world(prompt: str) -> bool:
    try:
        parse(prompt)
    except ValueError:
        return False
    return True


def _target(given: float | Mapping[str, float] | None, verifiers: Sequence[Verifier]) -> Target:
    names = [one.name for one in verifiers]
    if given is None:
        return Target()
    goals = given if isinstance(given, Mapping) else {names[0]: given}
    for name, value in goals.items():
        if name not in names:
            raise ValueError(registry.unknown("verifier", str(name), names))
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not abs(value) < float("inf"):
            raise (ValueError if number else TypeError)(f"expected a finite target for {name}, got {short(value)}")
    if len(names) > 1 and not isinstance(given, Mapping):
        raise ValueError(
            f"expected a target for each verifier by name ({names[0]}=SCORE), got {given:g}: a rank has no scale"
        )
    return Target({name: float(value) for name, value in goals.items()})


def _check_sampler(sampler: Sampler, prompt: str, settings: Mapping[str, Any]) -> None:
    """A sampler brings its prompt and its settings; others must not be asked for in vain."""
    own = sampler.description.get("prompt")
    if own != prompt:
        raise ValueError(f"expected the prompt of the sampler, {short(own)}, got {short(prompt)}")
    given = [name for name, value in settings.items() if value is not None]
    if given:
        raise ValueError(f"expected no {given[0]} beside a sampler, which has its own, got {short(settings[given[0]])}")


def _default_steps(pipe: Any) -> int:
    parameter = inspect.signature(type(pipe).__call__).parameters.get("num_inference_steps")
    return int(parameter.default) if parameter is not None and isinstance(parameter.default, int) else 50


def _model_name(pipe: Any) -> str:
    path = str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)
    for name in registry.names("model"):
        if str(registry.bundled(name)) == path:
            return name
    return path


def default_batch_size(sampler: Sampler) -> int:
    """How many images to try at once: as many small ones as a CPU likes, few large ones; a GPU halves from 16."""
    numel = sampler.noise([0]).numel()
    on_cpu = "cuda" not in str(sampler.description.get("device", "cpu"))
    return max(1, min(16, 2**16 // numel)) if on_cpu else 16


def versions() -> dict[str, str]:
    """What made a run."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"noisewright": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in ("diffusers", "transformers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "platform": f"{platform.system()} {platform.machine()}"}


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is a run directory."""
    try:
        read_run(path)
    except ValueError:
        return False
    return True
