"""A plan: what a run was asked for, checked, with everything it needs, before anything is spent."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from noisewright import registry
from noisewright.errors import out_of_memory
from noisewright.outside.bounds import (
    LARGEST_SIDE,
    MOST_IN_A_BATCH,
    MOST_STEPS,
    MOST_VERIFIERS,
    at_most,
    no_longer,
    no_more,
)
from noisewright.outside.files import check_directory
from noisewright.registry import trust
from noisewright.registry.builtins import BEGINS_ANEW, FULL_STEPS, PREVIEWS, STEP_NOISE
from noisewright.run.budget import Budget, parse_budget
from noisewright.run.particle import ENSEMBLES, ensemble_weights, read_ensemble
from noisewright.run.verbs import Target, without_gradient
from noisewright.samplers.classes import is_class_conditional, labels_of, read_class
from noisewright.samplers.pipeline import LEVELS, PipelineSampler, load_pipeline
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.schemas.checked import sayable
from noisewright.schemas.reading import cut, is_file, short
from noisewright.schemas.request import as_path, check_arguments
from noisewright.shapes.prompts import parse
from noisewright.verifiers.cache import all_cached
from noisewright.verifiers.protocol import Verifier, as_verifier, let_check

DEFAULT_BUDGET = "16 images"
RESERVED = (
    "latents", "generator", "num_images_per_prompt", "output_type", "return_dict", "callback_on_step_end",
    "class_labels",
)  # fmt: skip
"""Arguments of a pipeline's call that the search sets, or that would change what it sees."""

NONE: tuple[list[str], ...] = ([], ["none"])
"""What asks for no judge at all, where the model's card names one."""


def load(model: str = "noisewright/shapes", *, device: str | None = None, dtype: str | None = None) -> Any:
    """Load a bundled model, a pipeline directory or a hub id as a diffusers pipeline (safetensors only).

    Raises:
        ValueError: in one line, what is wrong with the name or the files.
    """
    asked = check_arguments(device=device, dtype=dtype)
    name = registry.find_model(str(as_path("a model", model)))
    check_device(asked.device)
    with quiet():
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
