"""Kept speeds of pipelines: their type, and how they are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.schemas.checked import CLOSED, OPEN, Name, Text, checked, matching

Seconds = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
Choice = Annotated[Name, matching(r"[1-9]\d{0,4}|float32|bfloat16", "a number of images, float32 or bfloat16")]


class SpeedJson(TypedDict):
    """What a trial found; see :class:`noisewright.samplers.speeds.Speed`."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    choice: Choice
    seconds: Annotated[dict[Choice, Seconds], Field(strict=True, max_length=100)]


class DecidedJson(TypedDict):
    """How a setting that a request left open was decided; see :class:`noisewright.samplers.speeds.Decided`."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    choice: Name
    why: Text
    seconds: Annotated[dict[Name, Seconds], Field(strict=True, max_length=100)]


class KeptSpeedJson(TypedDict):
    """The file of a speed, with the key that it is of."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    key: Name
    speed: SpeedJson


KEPT_SPEED: TypeAdapter[Any] = TypeAdapter(KeptSpeedJson)


def check_kept_speed(value: Any, where: str) -> dict[str, Any]:
    """The file of a speed.

    Raises:
        ValueError: in one line.
    """
    found: dict[str, Any] = checked(KEPT_SPEED, value, where)
    return found
