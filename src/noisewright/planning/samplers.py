"""The sampler of a request: the pipeline with prompt, settings, solver and levels, or a sampler that has its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from noisewright import registry
from noisewright.errors import out_of_memory
from noisewright.outside.messages import short
from noisewright.registry.builtins import BEGINS_ANEW, FULL_STEPS, GRADIENT, PREVIEWS, STEP_NOISE
from noisewright.registry.located import located_model
from noisewright.request import EMBEDS, LOADED_BY, RESERVED, Request, check_callback, recorded
from noisewright.run.ensembles import ensemble_weights
from noisewright.samplers.arguments import arguments_from_json, check_takes_image
from noisewright.samplers.drafts import drafted
from noisewright.samplers.identity import is_content
from noisewright.samplers.optional import (
    TakesLevels,
    begins_anywhere,
    can_preview,
    knows_levels,
    prediction_of,
    warnings_of,
)
from noisewright.samplers.pictures import from_record, names_file, opened
from noisewright.samplers.pipeline import LEVELS, PipelineSampler
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.recorded import COMPUTED
from noisewright.samplers.source import source_of
from noisewright.schemas.drafts import Draft, draft_of
from noisewright.schemas.reading import is_directory, is_file
from noisewright.schemas.request import CALLBACKS, Dtype
from noisewright.schemas.typed import as_files
from noisewright.verifiers.protocol import Verifier, WantsPreviews

NOT_TYPED = ("model", "given_pipeline", "pipeline_args")
BESIDES = ("out", "progress", "pictures")
"""Fields that no argument of a call is called, and arguments that are no fields."""


def check_given(request: Request, pipe: Any) -> None:
    """Refuse what says how to load a pipeline beside one that is loaded already, and one side of a size alone.

    Raises:
        ValueError: in one line.
    """
    if pipe is None and request.model is None:
        kind = request.given_pipeline or "pipeline"
        raise ValueError(f"expected a model by its name, or the pipeline itself as pipe, got a {kind} without a name")
    if pipe is not None and request.given_pipeline is None:
        for name in LOADED_BY[1:]:
            value = getattr(request, name)
            if value:
                raise ValueError(f"expected no {name} beside a pipeline that is loaded already, got {short(value)}")
    if (request.height is None) != (request.width is None):  # some pipelines ignore one without the other
        raise ValueError("expected height and width together, got one of them")


def records_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments of a pipeline's call as they are recorded.

    Raises:
        ValueError, TypeError: in one line, on one that noisewright sets itself, or that cannot be recorded.
    """
    for name, value in arguments.items():
        if name in RESERVED:
            raise ValueError(f"expected no {name}, which noisewright sets itself, got {short(value)}")
    found = {name: recorded(as_files(name, value), name) for name, value in arguments.items()}
    for name in CALLBACKS:
        check_callback(name, found.get(name))
    return found


def call_arguments(request: Request, given: Mapping[str, Any], pipe: Any) -> dict[str, Any]:
    """The further arguments of the pipeline's call: what was given, and of others what is recorded.

    Args:
        request: with the records.
        given: values by name.
        pipe: which must take them.

    Raises:
        ValueError, TypeError: in one line, on a name that the pipeline does not take (with the nearest), on a value
            that it does not take from JSON, on a record that is a hash where its value is not given, and on a file that
            is no image, or another one.
    """
    own = [one for one in Request.model_fields if one not in NOT_TYPED]
    registry.check_pipeline_args(pipe, request.pipeline_args, [*own, *BESIDES])
    for name, record in request.pipeline_args.items():
        if name not in given and is_content(record):
            raise ValueError(f"expected {name} itself, of which the request holds only a hash: {short(record)}")
    for name, record in request.pipeline_args.items():
        if names_file(record):
            check_takes_image(pipe, name, record)
    values = {name: from_record(record, name) for name, record in request.pipeline_args.items() if name not in given}
    of_json = {name: value for name, value in values.items() if value == request.pipeline_args[name]}
    values.update(arguments_from_json(pipe, of_json))
    values.update({name: opened(as_files(name, given[name]), name) for name in request.pipeline_args if name in given})
    return {name: values[name] for name in request.pipeline_args}


def make_sampler(
    request: Request, pipe: Any, condition: tuple[str, int | None], info: Mapping[str, Any],
    arguments: dict[str, Any], warnings: list[str],
) -> Sampler:  # fmt: skip
    """The sampler that renders results in full.

    Args:
        request: the settings.
        pipe: a pipeline, or a sampler.
        condition: the prompt, and the number of the class.
        info: the model's card, whose defaults count.
        arguments: further ones of the pipeline's call.
        warnings: what the user should know is added here.

    Raises:
        ValueError: in one line.
        UnsupportedPipeline: where the pipeline cannot be entered through its scheduler.
    """
    try:
        return _made(request, pipe, condition, info, arguments, warnings)
    except Exception as error:
        if not out_of_memory(error):
            raise
        size = "the model's own" if request.height is None else f"{request.height}x{request.width}"
        raise ValueError(f"expected a model and a size whose noise fit in memory, got size {size}") from None


def _made(
    request: Request, pipe: Any, condition: tuple[str, int | None], info: Mapping[str, Any],
    arguments: dict[str, Any], warnings: list[str],
) -> Sampler:  # fmt: skip
    needs, default = registry.entry("search", request.search).needs, info.get("default", {})
    takes_solver = "solver" in registry.settings_taken(pipe)
    rule = registry.make_solver(request.solver, request.eta)
    if STEP_NOISE in needs and rule is None and takes_solver:
        rule = registry.make_solver("ddim", 1.0)
        warnings.append(f"{request.search} needs step noise: solver ddim with eta 1, for the baseline too")
    given = request.guidance_scale
    settings = {
        "num_inference_steps": request.num_inference_steps or default.get("num_inference_steps"),
        "guidance_scale": given if given is not None else default.get("guidance_scale"),
        "negative_prompt": request.negative_prompt, "height": request.height, "width": request.width,
        "frames": _frames(request, pipe), "states": request.states, "solver": rule,
        "class_label": condition[1], "concurrency": _concurrency(request, pipe), "model": model_name(pipe),
        "pipe_kwargs": {key: value for key, value in arguments.items() if key not in EMBEDS},
        **{key: value for key, value in arguments.items() if key in EMBEDS},
    }  # fmt: skip
    if not takes_solver:  # these are refused then
        settings |= {"solver": request.solver, "eta": request.eta, "schedule": request.schedule}
        settings["force"] = request.force or None
    sampler: Sampler = registry.make_sampler(pipe, condition[0], settings)
    anew = BEGINS_ANEW in needs and not begins_anywhere(sampler)
    blind = PREVIEWS in needs and not knows_levels(sampler)
    if rule is None and isinstance(sampler, TakesLevels) and (anew or blind):
        why = f"solver ddim for {request.search}: {type(pipe.scheduler).__name__} cannot be entered on its way"
        sampler = sampler.with_levels("pipeline", registry.make_solver("ddim", request.eta))
        warnings.append(f"{why}; for the baseline too")
    return sampler if request.schedule is None else _on_levels(sampler, request, warnings)


def _concurrency(request: Request, pipe: Any) -> int | None:
    """How many requests a server is asked at once.

    Raises:
        ValueError: where the model is in this process.
    """
    if request.concurrency is not None and "concurrency" not in registry.settings_taken(pipe):
        kind = type(pipe).__name__
        raise ValueError(f"expected no concurrency for a {kind}, which is no server, got {request.concurrency}")
    return request.concurrency


def _frames(request: Request, pipe: Any) -> int | str | None:
    """Which frames are shown.

    Raises:
        ValueError: where there are none.
    """
    if request.frames is not None and "frames" not in registry.settings_taken(pipe):
        raise ValueError(f"expected no frames of {type(pipe).__name__}, which gives images, got {request.frames!r}")
    return request.frames


def _on_levels(sampler: Sampler, request: Request, warnings: list[str]) -> Sampler:
    """The sampler on the levels that a schedule names; a file's solver is used where none was asked for.

    Raises:
        ValueError: on a sampler that has its own levels, on a file for another model, unless by force, or for another
            number of steps than was asked for.
    """
    schedule, steps = str(request.schedule), request.num_inference_steps
    if not isinstance(sampler, TakesLevels):
        kind = type(sampler).__name__
        raise ValueError(f"expected no schedule beside a {kind}, which has its own, got {short(schedule)}")
    levels, solver = registry.schedule_from(schedule, sampler, request.force)
    rule = None
    if solver is not None:
        if steps is not None and steps != levels.steps:
            raise ValueError(f"expected the {levels.steps} steps of {schedule}, got {steps}")
        if sampler.given_solver is None and solver in registry.names("solver") and solver != "pipeline":
            rule = registry.make_solver(solver, request.eta)
            warnings.append(f"solver {solver}, which the schedule was made for")
    found: Sampler = sampler.with_levels(levels, rule)
    return found


def drafting(
    request: Request, final: Sampler, verifiers: Sequence[Verifier], warnings: list[str]
) -> tuple[Sampler, Draft | None]:
    """The sampler that the search samples with: ``final``, or one of drafts, with the draft that was asked for.

    Adds what has no effect to ``warnings``.

    Raises:
        ValueError: where the search cannot do with it.
    """
    steps = final.description["num_inference_steps"]
    warnings += _without_effect(request, final, len(verifiers), steps)
    warnings += warnings_of(final)
    sampler, needs = final, registry.entry("search", request.search).needs
    draft = draft_of(request.draft)
    if draft is not None:
        draft = draft.with_steps(steps)
        check_draft(request.search, draft)
        sampler = drafted(final, draft)
        looking = next((one.name for one in verifiers if isinstance(one, WantsPreviews)), None)
        if looking is not None and not can_preview(sampler):
            raise ValueError(f"expected a verifier that scores images alone with draft {draft.text}, got {looking}, "
                             "which wants previews")  # fmt: skip
    if request.search_steps is not None and request.search_steps != steps:
        sampler = final.with_steps(request.search_steps)
        if FULL_STEPS in needs:
            raise ValueError(f"expected no search_steps with {request.search}, which changes states on their way")
    if PREVIEWS in needs and not can_preview(sampler):
        got = repr(prediction_of(sampler))
        raise ValueError(f"expected a prediction that previews can be made of for {request.search}, got {got}")
    if BEGINS_ANEW in needs and not begins_anywhere(sampler):
        why = f"expected a solver that can be entered on its way for {request.search}"
        raise ValueError(f"{why}, got the pipeline's own")
    return sampler, draft


def check_draft(search: str, draft: Draft) -> None:
    """Refuse a draft whose images have no counterpart where a search changes states on their way.

    Raises:
        ValueError: in one line, with the searches that can.
    """
    entry = registry.entry("search", search)
    if GRADIENT in entry.needs:
        raise ValueError(f"expected a search that needs no gradient with a draft, got {search}")
    if "cache" in draft.parts and entry.splits:
        whole = [one.name for one in registry.entries() if one.kind == "search" and not one.splits]
        raise ValueError(f"expected a search that leaves states alone on their way ({', '.join(whole)}) with draft "
                         f"cache, got {search}")  # fmt: skip
    for kind in ("steps", "size"):
        if kind in draft.parts and FULL_STEPS in entry.needs:
            raise ValueError(f"expected no draft {kind} with {search}, which changes states on their way")


def _without_effect(request: Request, final: Sampler, verifiers: int, steps: int) -> list[str]:
    found = []
    own = isinstance(final, TakesLevels) and final.given_solver is None
    if request.states is not None and isinstance(final, PipelineSampler) and not final.rounds:
        found.append("states has no effect: the model's states are float32 anyway")
    if request.search_steps == steps:
        found.append(f"search_steps has no effect: the model takes {steps} steps anyway")
    if request.force and (request.schedule is None or not is_file(request.schedule)):
        found.append("force has no effect without a schedule file")
    if verifiers == 1 and request.ensemble != "rank" and not ensemble_weights(request.ensemble):
        found.append(f"ensemble {request.ensemble} has no effect with one verifier")
    if request.eta == 0 and own and final.stochastic:
        found.append("eta 0 has no effect: the pipeline's own scheduler draws its noise whatever eta is")
    if request.num_inference_steps is not None and any(request.pipeline_args.get(name) is not None for name in LEVELS):
        found.append(f"num_inference_steps has no effect beside {' or '.join(LEVELS)} of the pipeline")
    return found


def model_name(pipe: Any) -> str:
    """What a pipeline is called in records: a bundled model's name, where it lies, or its class."""
    path = str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)
    for name in registry.names("model"):
        if str(registry.bundled(name)) == path:
            return name
    return path


def record_of(pipe: Any) -> dict[str, Any]:
    """The fields of a request that say which pipeline was given as an object.

    Its name is recorded where a model can be loaded by it; that this is the same model is known by its fingerprint when
    a run is continued.
    """
    found: dict[str, Any] = dict.fromkeys(LOADED_BY)
    found["given_pipeline"] = type(pipe).__name__
    name = model_name(pipe)
    try:
        known = is_directory(name) or bool(registry.find_model(name))
    except ValueError:  # a class's name: it was put together by hand
        known = False
    if known:
        dtype = str(getattr(pipe, "dtype", "")).removeprefix("torch.")
        found["model"] = located_model(name)
        found["dtype"] = dtype if dtype in get_args(get_args(Dtype)[0]) else None
        found["device"] = str(pipe.device) if hasattr(pipe, "device") else None
        source = source_of(pipe)
        if source is not None:
            found |= {name: getattr(source, name) for name in COMPUTED}
    return found
