"""What ``run.json`` says of a run that has ended: its summary, and what plain diffusers needs to make its best."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from noisewright.schemas.checked import (
    CLOSED,
    MOST_STEPS,
    OPEN,
    Count,
    Id,
    Name,
    Number,
    PlainObject,
    Sayable,
    Seconds,
    Seed,
    Text,
    matching,
    whole,
)

Picture = Annotated[Sayable, matching(r"(best|baseline)\.png", "best.png or baseline.png")]
KeptPicture = Annotated[Sayable, matching(r"kept/\d+-[0-9a-f]{16}\.png", "kept/PLACE-ID.png")]
ClassName = Annotated[Sayable, matching(r"[A-Za-z]\w{0,99}", "the name of a class")]
Limit = Annotated[int, whole(1)]
Scores = Annotated[dict[Name, Number | None], Field(strict=True, max_length=200)]
Texts = Annotated[list[Text], Field(strict=True, max_length=1000)]
Levels = Annotated[list[Number], Field(strict=True, max_length=MOST_STEPS + 1)]


class ShownJson(TypedDict):
    """Best or baseline, as a summary has it."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: Id
    seed: Seed | None
    scores: Scores
    file: Picture


class StandingJson(TypedDict):
    """One of the two that are compared."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: Id
    seed: Seed | None
    value: Number | None


class OpinionJson(TypedDict):
    """What a verifier says of the two."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    name: Name
    scores: Annotated[list[Number | None], Field(strict=True, min_length=2, max_length=2)]
    places: Annotated[list[Limit], Field(strict=True, min_length=2, max_length=2)]
    prefers: Literal["first", "second"] | None
    by: Number | None


class WhyJson(TypedDict):
    """The first against the second (:func:`noisewright.run.explain.explain`)."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    first: StandingJson
    second: StandingJson
    value_name: Text
    of: Count
    by: Number | None
    tie: bool
    verifiers: Annotated[list[OpinionJson], Field(strict=True, min_length=1, max_length=100)]


class KeptJson(TypedDict):
    """One of the best that was written as a file of its own."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: Id
    seed: Seed | None
    scores: Scores
    file: KeptPicture


class SecondsJson(TypedDict):
    """Of a whole run, by phase."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    encode: Seconds
    denoise: Seconds
    decode: Seconds
    verify: Seconds
    total: Seconds


class SummaryJson(TypedDict):
    """What a finished run came to."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    best: ShownJson
    baseline: ShownJson
    nfe: Count
    forwards: Count
    images: Count
    seconds: SecondsJson
    stopped: Text | None
    warnings: Texts
    verifiers: NotRequired[Texts]
    judges: NotRequired[Texts]
    value_name: NotRequired[Text]
    why: NotRequired[WhyJson | None]
    kept: NotRequired[Annotated[list[KeptJson], Field(strict=True, max_length=10_000)]]


class SchedulerJson(TypedDict):
    """A scheduler of diffusers."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    class_: Annotated[ClassName, Field(alias="class")]
    config: PlainObject | None


class PlainJson(TypedDict):
    """What plain diffusers needs to know of a sampler (:func:`noisewright.plain.plain_settings`)."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    solver: Name | None
    scheduler: SchedulerJson | None
    euler: NotRequired[Literal["EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"]]
    sigmas: NotRequired[Levels]
