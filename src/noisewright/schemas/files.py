"""``run.json``, recipes of PNG files, schedule files, error tables: their types, and how they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.outside.messages import short
from noisewright.run.ensembles import ENSEMBLES, read_ensemble
from noisewright.run.lineage import from_compact
from noisewright.schemas.checked import (
    CLOSED,
    FRAME_NAMES,
    MOST_BATCH,
    MOST_FRAMES,
    MOST_SIDE,
    OPEN,
    PLAIN,
    BatchSize,
    Count,
    Hash,
    Id,
    Name,
    Number,
    Plain,
    PlainObject,
    Sayable,
    Seed,
    Share,
    Steps,
    Text,
    checked,
    matching,
    whole,
    wrong,
)
from noisewright.schemas.lineage import MOST_LINES, DraftText, check_lineage
from noisewright.schemas.speeds import DecidedJson
from noisewright.schemas.summary import Levels, Limit, PlainJson, Scores, SummaryJson
from noisewright.schemas.verdicts import KeptVerdictJson

DTYPES = ("float32", "float16", "bfloat16", "float64")
"""What a pipeline may be loaded in; float64 by those who hold one in Python."""

Digest = Annotated[Sayable, matching(r"[0-9a-f]{16}", "a hash of 16 hex digits")]
Device = Annotated[Sayable, matching(r"[a-z]{1,20}(:[0-9]{1,3})?", "a device such as cpu or cuda:0")]
ClassNumber = Annotated[int, whole(0, 2**31)]
Versions = Annotated[dict[Name, Text], Field(strict=True, max_length=100)]
Side = Annotated[int, whole(1, MOST_SIDE)]


# Samplers


class LevelsJson(TypedDict):
    """Levels one by one, as :meth:`noisewright.diffusion.schedule.Schedule.to_json` gives them."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    t: Levels
    alpha: Levels
    sigma: Levels
    start: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def _frames(value: Any) -> Any:
    if value not in FRAME_NAMES and not (type(value) is int and 1 <= value <= MOST_FRAMES):
        raise wrong(f"{', '.join(FRAME_NAMES)} or a number in [1, {MOST_FRAMES}]")
    return value


Frames = Annotated[Any, AfterValidator(_frames)]


class SamplerJson(TypedDict):
    """What any sampler says of itself, as far as it is shown; third parties' samplers may say anything besides."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: NotRequired[Text | None]
    prompt: NotRequired[Text | None]
    num_inference_steps: NotRequired[Steps]
    solver: NotRequired[Name | None]


class LoraOfSamplerJson(TypedDict):
    """A LoRA of a sampler, by its content and its file's own name."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    file: Name
    sha256: Hash
    weight: Number


class PipelineJson(TypedDict):
    """A pipeline's sampler, which can be built again; further keys are arguments of the pipeline's call."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: Name
    pipeline: Name
    fingerprint: Name
    prompt: Text
    class_label: NotRequired[ClassNumber | None]
    guidance_scale: NotRequired[Number | None]
    negative_prompt: NotRequired[Text | None]
    height: NotRequired[Side | None]
    width: NotRequired[Side | None]
    frames: NotRequired[Frames]
    num_inference_steps: Steps
    draft: NotRequired[DraftText]
    solver: Name
    eta: Share | None
    schedule: Digest
    levels: NotRequired[Name | LevelsJson]
    variant: NotRequired[Name]
    config: NotRequired[Text]
    loras: NotRequired[Annotated[list[LoraOfSamplerJson], Field(strict=True, max_length=100)]]
    compile: NotRequired[bool]
    channels_last: NotRequired[bool]
    dtype: Literal["float32", "float16", "bfloat16", "float64"]
    device: Device


# Recipes


class MadeByJson(TypedDict):
    """The sampler of a recipe, as far as the chunk ``parameters`` tells of it."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: Text
    prompt: Text
    num_inference_steps: Steps
    solver: Name


class MicroBatch(TypedDict):
    """How many images were made at once, and which of them this is."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    size: BatchSize
    place: Annotated[int, whole(0, MOST_BATCH - 1)]


class RecipeJson(TypedDict):
    """The chunk ``noisewright`` of a PNG."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    recipe_version: Limit
    id: Id
    seed: NotRequired[Seed | None]
    sampler: MadeByJson
    lineage: Plain
    micro_batch: MicroBatch
    search: NotRequired[Text]
    run: NotRequired[Text]
    versions: Versions
    pixels: NotRequired[Hash]
    scores: NotRequired[Scores]


RECIPE: TypeAdapter[Any] = TypeAdapter(RecipeJson)
PIPELINE: TypeAdapter[Any] = TypeAdapter(PipelineJson)


def check_recipe(value: Any, where: str) -> dict[str, Any]:
    """A recipe of any sampler; one of a pipeline has all that rebuilds it.

    Raises:
        ValueError: in one line, on a wrong type, a place outside its micro-batch, or a lineage that does not lead to
            the image.
    """
    checked(RECIPE, value, where)
    found: dict[str, Any] = value
    checked(PLAIN, {key: one for key, one in found.items() if key != "lineage"}, where)
    if "pipeline" in found["sampler"]:
        checked(PIPELINE, found["sampler"], f"the sampler of {where}")
        check_levels(found["sampler"], where)
    batch = found["micro_batch"]
    if batch["place"] >= batch["size"]:
        raise ValueError(f"expected a place inside the micro-batch of {batch['size']} in {where}, got {batch['place']}")
    if found["recipe_version"] >= 2:
        found = {**found, "lineage": _spelled_out(found["lineage"], where)}
    last, made = check_lineage(found["lineage"], where)
    if last != found["id"]:
        raise ValueError(f"expected a lineage that leads to {found['id']}, got one to {last} in {where}: it was edited")
    if made.at != made.steps:
        raise ValueError(f"expected an image of all {made.steps} steps in {where}, got one of {made.at}")
    if found.get("seed") != made.seed:
        raise ValueError(f"expected the seed {made.seed} of its lineage in {where}, got {found.get('seed')}")
    return found


def _spelled_out(lines: Any, where: str) -> list[dict[str, Any]]:
    """A lineage of version 2, which has no ids, as one of version 1."""
    if not isinstance(lines, list) or not 0 < len(lines) <= MOST_LINES:
        raise ValueError(f"expected 1 to {MOST_LINES} lines of a lineage in {where}, got {short(lines)}")
    try:
        if not all(type(up) is int for _, _, ups in lines for up in ups):
            raise TypeError
        return from_compact(lines).lineage()
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        raise ValueError(f"expected a lineage of verbs in {where}, got a damaged one") from None


def check_levels(sampler: dict[str, Any], where: str) -> None:
    """Refuse levels of which there are not N times and N + 1 scales, or whose scales are none."""
    levels = sampler.get("levels")
    if isinstance(levels, dict):
        counts = [len(levels[name]) for name in ("t", "alpha", "sigma")]
        if not 0 < counts[0] == counts[1] - 1 == counts[2] - 1:
            raise ValueError(f"expected N times and N + 1 alphas and sigmas in {where}, got {short(counts)}")
        for alpha, sigma in zip(levels["alpha"], levels["sigma"], strict=True):
            if alpha < 0 or sigma < 0 or alpha + sigma <= 0:
                raise ValueError(f"expected alpha and sigma of at least 0 in {where}, got {alpha:g} and {sigma:g}")


# run.json


class NamedJson(TypedDict):
    """A verifier or a judge."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    name: Name
    fingerprint: Text


class BudgetJson(TypedDict):
    """Limits; null or no key is none."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    images: NotRequired[Limit | None]
    nfe: NotRequired[Limit | None]
    seconds: NotRequired[Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None]


class SpecJson(TypedDict):
    """What a run is. Runs that are started by hand (tests, third parties) may say less."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    sampler: NotRequired[SamplerJson]
    search_steps: NotRequired[Steps]
    search_steps_taken: NotRequired[Steps]
    draft: NotRequired[DraftText]
    best: NotRequired[Steps]
    pilot: NotRequired[Count]
    search: NotRequired[Name]
    search_args: NotRequired[PlainObject]
    seed: NotRequired[Seed]
    verifiers: NotRequired[Annotated[list[NamedJson], Field(strict=True, min_length=1, max_length=100)]]
    judges: NotRequired[Annotated[list[NamedJson], Field(strict=True, max_length=100)]]
    ensemble: NotRequired[Text]
    budget: NotRequired[BudgetJson]
    target: NotRequired[Annotated[dict[Name, Number], Field(strict=True, max_length=100)]]
    batch_size: NotRequired[Limit]


class RunJson(TypedDict):
    """``run.json``."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    schema_version: Limit
    status: Literal["running", "done", "failed", "interrupted"]
    stopped: NotRequired[Text | None]
    created: NotRequired[Text | None]
    versions: Versions
    spec: SpecJson
    request: NotRequired[PlainObject | None]
    plain: NotRequired[PlainJson | None]
    checked: NotRequired[KeptVerdictJson]
    decided: NotRequired[Annotated[dict[Name, DecidedJson], Field(strict=True, max_length=100)]]
    summary: NotRequired[SummaryJson]


RUN: TypeAdapter[Any] = TypeAdapter(RunJson)
SHOWN_OF_SPEC = ("sampler", "search_steps", "search", "seed", "verifiers", "ensemble", "budget")
"""What a spec must say for a run to be shown."""

def check_run(value: Any, where: str) -> dict[str, Any]:
    """``run.json``, all that any reader of it looks at.

    Raises:
        ValueError: in one line.
    """
    checked(RUN, value, where)
    checked(PLAIN, value, where)
    found: dict[str, Any] = value
    return found


def check_shown(run: dict[str, Any], where: str) -> dict[str, Any]:
    """The spec of a run that is to be shown, or whose result is to be told.

    Raises:
        ValueError: in one line, where it does not say enough, or a finished run has no summary.
    """
    spec: dict[str, Any] = run["spec"]
    for key in SHOWN_OF_SPEC:
        if key not in spec:
            raise ValueError(f"expected spec.{key} in {where}, got none")
    if run["status"] == "done" and "summary" not in run:
        raise ValueError(f"expected the summary of a run that is done in {where}, got none")
    check_ensemble(spec, where)
    return spec


def check_ensemble(spec: dict[str, Any], where: str) -> None:
    """Refuse an ensemble that does not fit the verifiers of a spec."""
    names = [one["name"] for one in spec["verifiers"]]
    if len(set(names)) != len(names):
        raise ValueError(f"expected verifiers of distinct names in {where}, got {short(names)}")
    if spec["ensemble"] in ENSEMBLES:
        return
    try:
        right = read_ensemble(spec["ensemble"], names) == spec["ensemble"]
    except (ValueError, TypeError):
        right = False
    if not right or "=" not in spec["ensemble"]:
        raise ValueError(f"expected rank, zsum or a weight for each verifier as spec.ensemble in {where}, got "
                         f"{short(spec['ensemble'])}")  # fmt: skip


# Schedules


class ScheduleJson(TypedDict):
    """A schedule file, without ``diffusers``, which is made of the rest."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: Text | None
    fingerprint: Text | None
    prediction: Text | None
    solver: Name
    t: Levels
    alpha: Levels
    sigma: Levels
    start: Number
    made: PlainObject
    figures: PlainObject
    steps: Plain


SCHEDULE: TypeAdapter[Any] = TypeAdapter(ScheduleJson)
SCHEDULE_KEYS = tuple(sorted(ScheduleJson.__required_keys__))


class SettingsJson(TypedDict):
    """Of a measurement."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    levels: NotRequired[Count]
    stride: NotRequired[Count]
    seed: NotRequired[Seed]
    guidance_scale: NotRequired[Number | None]
    count: NotRequired[Count]
    prompts: NotRequired[Count]


class ErrorsJson(TypedDict):
    """An error table, without its rows."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: Text | None
    fingerprint: Text | None
    prediction: Text | None
    source: Text
    images: Count
    settings: SettingsJson


ERRORS: TypeAdapter[Any] = TypeAdapter(ErrorsJson)

ErrorRow = Annotated[dict[str, Annotated[float, Field(strict=True)]], Field(strict=True, max_length=100)]
ERROR_ROW: TypeAdapter[Any] = TypeAdapter(ErrorRow)
"""A row of numbers; which of them must be finite :class:`noisewright.trajectory.errors.LevelError` says."""
