"""A profile: what a model's settings and drafts were measured to be worth (``noisewright calibrate``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.schemas.checked import (
    CLOSED,
    MOST_SIDE,
    BatchSize,
    Count,
    Id,
    Name,
    Number,
    Seconds,
    Steps,
    Text,
    checked,
)
from noisewright.schemas.lineage import DraftText
from noisewright.schemas.reading import read_json

PROFILE_VERSION = 1

MOST_SETTINGS, MOST_DRAFTS, MOST_BYTES = 1000, 100, 2**22
MOST_MEASURED = 100_000

Side = Annotated[int, Field(strict=True, ge=1, le=MOST_SIDE)]
Correlation = Annotated[float, Field(strict=True, ge=-1, le=1)]


class DraftOfProfile(TypedDict):
    """A draft: the seconds and at most the NFE of one, and how it ranks (Spearman, the mean over prompts)."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    draft: DraftText
    seconds_each: Seconds
    nfe_each: NotRequired[Count]
    correlation: Correlation


class SettingOfProfile(TypedDict):
    """What full images of some settings cost, and their scores: the mean, and the deviation within a prompt."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    num_inference_steps: Steps
    guidance_scale: Number | None
    batch_size: BatchSize
    seconds_each: Seconds
    nfe_each: NotRequired[Count]
    mean: Number
    deviation: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    drafts: Annotated[list[DraftOfProfile], Field(strict=True, max_length=MOST_DRAFTS)]


class ProfileJson(TypedDict):
    """The file."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    profile_version: Annotated[int, Field(strict=True, ge=1, le=PROFILE_VERSION)]
    model: Name
    fingerprint: Name
    verifier: Name
    verifier_fingerprint: Text
    device: Name
    dtype: Name
    prompts: Count
    candidates: Count
    seed: Count
    height: NotRequired[Side | None]
    width: NotRequired[Side | None]
    warnings: NotRequired[Annotated[list[Text], Field(strict=True, max_length=100)]]
    settings: Annotated[list[SettingOfProfile], Field(strict=True, max_length=MOST_SETTINGS)]
    versions: NotRequired[Annotated[dict[Name, Text], Field(strict=True, max_length=100)]]


PROFILE: TypeAdapter[Any] = TypeAdapter(ProfileJson)


class MeasuredJson(TypedDict):
    """A line of what ``noisewright calibrate`` keeps while it measures: the images of one prompt, made one way."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    verb: Literal["measured"]
    key: Id
    scores: Annotated[list[Number | None], Field(strict=True, max_length=MOST_MEASURED)]
    seconds: Annotated[list[Seconds], Field(strict=True, max_length=MOST_MEASURED)]


MEASURED: TypeAdapter[Any] = TypeAdapter(MeasuredJson)


def check_profile(value: Any, where: str) -> dict[str, Any]:
    """A profile, all of it.

    Raises:
        ValueError: in one line.
    """
    checked(PROFILE, value, where)
    found: dict[str, Any] = value
    return found


def read_profile(path: str | Path) -> dict[str, Any]:
    """The profile in a file.

    Raises:
        ValueError: in one line, also where there is none.
    """
    try:
        return check_profile(read_json(path, "a profile that noisewright calibrate wrote", most=MOST_BYTES), str(path))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
