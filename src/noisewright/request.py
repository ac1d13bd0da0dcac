"""What a person asks for, as a value: every setting by the name it has everywhere, ready for JSON.

The names of the fields are those of :func:`noisewright.search`'s arguments, of ``noisewright generate``'s options (see
:data:`OPTIONS`) and of the ``request`` in a run's ``run.json``. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from noisewright import registry
from noisewright.images.frames import CHOICES, is_choice
from noisewright.outside.bounds import MOST_VERIFIERS, no_longer, no_more
from noisewright.outside.messages import short
from noisewright.registry.located import located_model, located_verifiers
from noisewright.schemas.checked import (
    CLOSED,
    LARGEST_SEED,
    MOST_BATCH,
    MOST_SIDE,
    MOST_STEPS,
    Plain,
    PlainObject,
    Sayable,
    Text,
    matching,
    wrong,
)
from noisewright.schemas.drafts import draft_of
from noisewright.schemas.profiles import read_profile
from noisewright.schemas.reading import is_directory, is_file
from noisewright.schemas.request import (
    CALLBACKS,
    AskedDtype,
    DeviceName,
    FilePath,
    Flag,
    Name,
    Negative,
    Real,
    States,
    Weights,
    Whole,
    check_prompt,
    is_,
    refusal,
)
from noisewright.schemas.typed import budget_texts, read_loras, read_search_args, read_target

MOST_PIXELS = 2**26
MOST_LORAS = 64
MOST_AT_ONCE = 1024
MOST_KEPT = 10_000
MOST_ARGUMENTS = 100

NOTHING: dict[str, Any] = {"search_args": {}, "pipeline_args": {}, "compile": False, "channels_last": False}
"""What None means for fields that cannot be None."""

NONE = ["none"]
"""What asks for no judge at all, where the model's card names one."""

RESERVED = (
    "latents", "generator", "num_images_per_prompt", "num_videos_per_prompt", "output_type", "return_dict",
    "class_labels",
)  # fmt: skip
"""Arguments of a pipeline's call that the search sets, or that would change what it sees."""

EMBEDS = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
"""Arguments of a pipeline's call in place of the texts that they were encoded from."""

LOADED_BY = ("model", "device", "dtype", "variant", "config", "loras", "compile", "channels_last")
"""What a pipeline is loaded by, where it is not given itself."""

OPTIONS = {"num_inference_steps": "steps", "search_args": "search_arg", "pipeline_args": "pipeline_arg",
           "loras": "lora"}  # fmt: skip
"""Fields whose option is called otherwise; of the last three it is repeated."""


class HeldJson(TypedDict):
    """A verifier that was given as a function or an object, which no file can hold."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    name: Annotated[Name, Field(min_length=1)]
    what: Text


class LoraJson(TypedDict):
    """Weights that are added to those of a pipeline."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    file: FilePath
    weight: NotRequired[Real]


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _one_or_more(value: Any) -> Any:
    return None if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _plain(value: Any) -> Any:
    """Tuples as lists, numpy's numbers as Python's: what JSON gives back."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _jsonable(value: dict[str, Any]) -> dict[str, Any]:
    """What comes back from JSON as it was: no other keys than texts, nothing but texts, numbers, lists and mappings."""
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise wrong("plain values")
    return value


def _without_default_schedule(value: Any) -> Any:
    return None if value == "pipeline" else value


def _own_names(value: dict[str, Any]) -> dict[str, Any]:
    for name in value:
        if name in Request.model_fields:
            raise wrong(f"{name} as a setting of its own")
    return value


def _frames(value: Any) -> Any:
    """Which frames of a video are shown: numpy's numbers as Python's."""
    found = _plain(value)
    if found is not None and not is_choice(found):
        raise wrong(CHOICES)
    return found


Names = Annotated[
    list[Annotated[Sayable, Field(max_length=20_000)] | HeldJson],
    BeforeValidator(_one_or_more), Field(max_length=MOST_VERIFIERS),
]  # fmt: skip
Values = Annotated[dict[Name, Plain], BeforeValidator(_plain), AfterValidator(_jsonable)]
Variant = Annotated[Sayable, Field(max_length=100), matching(r"\w[\w.-]*", "letters, digits, - and .")]


class Request(BaseModel):
    """What a search is asked for: frozen, and ready for JSON.

    :func:`noisewright.search` says what the fields mean. Verifiers and judges are names with their options, as they are
    typed; of what was given from Python and has no name there is a note of what it was (:class:`HeldJson`), and of
    tensors, arrays and images among ``pipeline_args`` a hash (:func:`noisewright.samplers.identity.canonical`).

    Raises:
        ValueError, TypeError: in one line, on the first field that is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: FilePath | None = is_("a model as a name or a directory")
    prompt: Sayable | None = is_("a prompt as text")
    class_label: Whole | Name | None = is_("a class_label as a name or a number")
    verifier: Names | None = is_("a verifier as its name, or a list of names")
    judge: Names | None = is_("a judge as its name, or a list of names")
    search: Name = is_("a search as a name", "random")
    search_args: Values = is_("search_args as a mapping from names to values", default_factory=dict)
    budget: list[str] | None = is_("a budget such as '64 images', or several")
    target: Real | Weights | None = is_("a target as a finite number, or one for each verifier by name")
    num_inference_steps: Whole | None = is_("num_inference_steps of at least 1", ge=1, le=MOST_STEPS)
    search_steps: Whole | None = is_("search_steps of at least 1", ge=1, le=MOST_STEPS)
    profile: FilePath | None = is_("a profile as a file")
    draft: Sayable | None = is_("a draft as text such as 'truncate,at=0.6'")
    guidance_scale: Real | None = is_("a finite number as guidance_scale")
    negative_prompt: Negative | None = is_("a negative_prompt as text")
    height: Whole | None = is_("a height above 0", ge=1, le=MOST_SIDE)
    width: Whole | None = is_("a width above 0", ge=1, le=MOST_SIDE)
    frames: Annotated[int | str | None, BeforeValidator(_frames)] = is_(f"{CHOICES} as frames")
    solver: Name | None = is_("a solver as a name")
    eta: Real | None = is_("a finite number as eta")
    schedule: Annotated[FilePath | None, AfterValidator(_without_default_schedule)] = is_(
        "a schedule as a name or a file"
    )
    force: Flag = is_("force as True or False", False)
    states: States | None = is_("states model or float32")
    no_check: Flag = is_("no_check as True or False", False)
    seed: Whole = is_("a seed in [0, 2**63 - 2**32)", 0, ge=0, le=LARGEST_SEED - 2**32)
    ensemble: Name | Weights = is_("an ensemble as a name, or a weight for each verifier by name", "rank")
    score_cache: FilePath | None = is_("a score_cache as a directory")
    batch_size: Whole | None = is_("batch_size of at least 1", ge=1, le=MOST_BATCH)
    concurrency: Whole | None = is_("concurrency of at least 1", ge=1, le=MOST_AT_ONCE)
    executor: Name = is_("an executor as a name", "local")
    device: DeviceName | None = is_("a device as its name")
    dtype: AskedDtype | None = is_("a dtype of float32, float16, bfloat16, float64 or auto")
    variant: Variant | None = is_("a variant as a name such as fp16")
    config: FilePath | None = is_("a config as a directory")
    loras: Annotated[list[LoraJson], Field(max_length=MOST_LORAS)] = is_(
        "loras as files, or (file, weight) of each", default_factory=list
    )
    compile: Flag = is_("compile as True or False", False)
    channels_last: Flag = is_("channels_last as True or False", False)
    pipeline_args: Annotated[
        PlainObject, BeforeValidator(_plain), AfterValidator(_jsonable), AfterValidator(_own_names),
        Field(max_length=MOST_ARGUMENTS),
    ] = is_("pipeline_args as a mapping from names to values", default_factory=dict)  # fmt: skip
    keep: Whole | None = is_("keep of at least 1", ge=1, le=MOST_KEPT)
    given_pipeline: Name | None = is_("the class of a pipeline that was given as an object")

    def __init__(self, **given: Any) -> None:
        if given.get("prompt") is not None:  # whether one is needed, the pipeline knows
            check_prompt(given["prompt"])
        no_longer(class_label=given.get("class_label"), negative_prompt=given.get("negative_prompt"))
        for name in given:
            if name not in type(self).model_fields:
                raise ValueError(registry.unknown("setting", name, list(type(self).model_fields)))
        given = {**given, **_read(given)}
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refusal(type(self), error, given) from None
        if self.height and self.width and self.height * self.width > MOST_PIXELS:
            raise ValueError(
                f"expected height x width of at most {MOST_PIXELS} pixels, got {self.height} x {self.width}"
            )

    def to_json(self) -> dict[str, Any]:
        """Every field by its name, defaults too."""
        found: dict[str, Any] = self.model_dump()
        return found

    @property
    def digest(self) -> str:
        """16 hex digits that two requests share exactly where all their fields are equal."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self, **changes: Any) -> Request:
        """The same with other values of some fields, checked as all are."""
        return Request(**{**self.to_json(), **changes})

    def located(self) -> Self:
        """The same with files and directories by their full paths, so that it means the same from elsewhere."""
        schedule, config = self.schedule, self.config
        changes = {
            "model": None if self.model is None else located_model(self.model),
            "verifier": located_verifiers(self.verifier),
            "judge": located_verifiers(self.judge),
            "schedule": str(Path(schedule).absolute()) if schedule is not None and is_file(schedule) else schedule,
            "score_cache": None if self.score_cache is None else str(Path(self.score_cache).resolve()),
            "config": None if config is None else str(Path(config).absolute()) if is_directory(config) else config,
            "loras": [{**one, "file": str(Path(one["file"]).absolute())} for one in self.loras],
        }
        return self.model_copy(update=changes)


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """What has forms of its own, as it is recorded: budgets as texts, no judge as ``none``, fewer kinds of nothing."""
    verifier, judge = given.get("verifier"), given.get("judge")
    for one, what in ((verifier, "verifiers"), (judge, "judges")):
        no_more(MOST_VERIFIERS, what, one if isinstance(one, (list, tuple)) else [one])
    if isinstance(verifier, (list, tuple)) and not verifier:
        raise ValueError("expected at least one verifier, got an empty list")
    if draft_of(given.get("draft")) is not None and given.get("search_steps") is not None:
        raise ValueError("expected search_steps or a draft (steps,n=N is one), got both")
    found: dict[str, Any] = {"budget": budget_texts(given.get("budget"))}
    if found["budget"] == []:
        raise ValueError("expected a budget such as '64 images', got none")
    if isinstance(judge, (list, tuple)) and not judge:
        found["judge"] = list(NONE)
    found["loras"] = read_loras(given.get("loras") or [])
    for name, nothing in NOTHING.items():
        if given.get(name, nothing) is None:
            found[name] = nothing
    return found


# As recorded


def recorded(value: Any, name: str) -> Any:
    """A value of a pipeline's argument as it is recorded: JSON, with hashes for tensors, arrays, images and functions.

    Paths (``pathlib``) name images (:mod:`noisewright.samplers.pictures`).

    Raises:
        TypeError, ValueError: in one line, on what cannot be recorded.
    """
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    from noisewright.samplers.pictures import as_recorded

    return as_recorded(value, name)


def read_request(value: Any, where: str) -> Request:
    """The request of a ``run.json``; requests of earlier versions are read as what they meant.

    Args:
        value: what was read.
        where: what it was read from, for messages.

    Raises:
        ValueError: in one line.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object as the request in {where}, got {short(value)}")
    strange = [name for name in value if name not in Request.model_fields]
    if strange:
        raise ValueError(f"expected the settings of a run in the request in {where}, got {short(strange[0])}")
    try:
        return Request(**_of_before(value))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{error} (the request in {where})") from None


def _of_before(value: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier versions kept arguments and targets as they were typed, and empty lists for what was not asked."""
    found = dict(value)
    for name, read in (("search_args", read_search_args), ("target", read_target)):
        given = found.get(name)
        if isinstance(given, list):
            if not all(isinstance(one, str) for one in given):
                raise TypeError(f"expected {name} as texts, got {short(given)}")
            found[name] = read(given)
    for name in ("verifier", "judge", "budget"):
        if found.get(name) == []:
            found[name] = None
    if "states" not in found and found.get("dtype") in ("bfloat16", "float16"):
        found["states"] = "float32"  # as solvers of ours kept them whatever the model's precision
    return found


# Names


def check_names(request: Request) -> None:
    """Refuse what needs nothing heavy to be refused: names that are not in the registry, files that are not there.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    registry.check_executor(request.executor)
    if request.schedule is not None and not is_file(request.schedule):
        registry.entry("schedule", request.schedule)
    registry.entry("search", request.search)
    judges = () if request.judge == NONE else request.judge or ()
    for name in (*(request.verifier or ()), *judges):
        if isinstance(name, str) and registry.from_file(name) is None:
            registry.entry("verifier", name.partition(":")[0])
    if request.solver is not None:
        registry.entry("solver", request.solver)
    if request.profile is not None:
        read_profile(request.profile)
    for lora in request.loras:
        if not is_file(lora["file"]) or not lora["file"].endswith(".safetensors"):
            why = ": LoRA weights are safetensors" if is_file(lora["file"]) else ", which is not there"
            raise ValueError(f"expected a LoRA as FILE.safetensors[:WEIGHT], got {short(lora['file'])}{why}")
    if request.config is not None and not is_directory(request.config):
        raise ValueError(f"expected a config as a directory, got {short(request.config)}")
    for name in RESERVED:
        if name in request.pipeline_args:
            value = short(request.pipeline_args[name])
            raise ValueError(f"expected no {name}, which noisewright sets itself, got {value}")
    for name in CALLBACKS:
        check_callback(name, request.pipeline_args.get(name))


def check_callback(name: str, record: Any) -> None:
    """Refuse a callback of the pipeline's call whose record is not that of a function: from text none is had.

    Raises:
        ValueError: in one line.
    """
    if record is not None and not (isinstance(record, Mapping) and set(record) == {"$function"}):
        raise ValueError(
            f"expected {name} as a function, which nw.search({name}=...) in Python takes, got {short(record)}"
        )
