"""Kept verdicts on pipelines: their type, and how they are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.schemas.checked import CLOSED, Name, PlainObject, Text, checked

Distance = Annotated[float, Field(strict=True, ge=0, le=255, allow_inf_nan=False)]
Yes = Annotated[bool, Field(strict=True)]


class VerdictJson(TypedDict):
    """What is known of a pipeline; see :class:`noisewright.samplers.verdict.Verdict`."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    solver: Name | None
    solver_apart: Distance | None
    native_apart: Distance | None
    tolerance: Distance
    split: Yes
    batch: Yes
    native: Yes
    whole: Yes
    stochastic: Yes
    repeatable: Yes
    refused: Text | None
    notes: Annotated[list[Text], Field(strict=True, max_length=100)]
    ran: PlainObject
    versions: Annotated[dict[Name, Text], Field(strict=True, max_length=100)]


class KeptVerdictJson(TypedDict):
    """The file of a verdict, with the key that it is of."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    key: Name
    verdict: VerdictJson


VERDICT: TypeAdapter[Any] = TypeAdapter(VerdictJson)
KEPT_VERDICT: TypeAdapter[Any] = TypeAdapter(KeptVerdictJson)


def check_verdict(value: Any, where: str) -> dict[str, Any]:
    """A verdict as JSON.

    Raises:
        ValueError: in one line.
    """
    found: dict[str, Any] = checked(VERDICT, value, where)
    return found


def check_kept_verdict(value: Any, where: str) -> dict[str, Any]:
    """The file of a verdict.

    Raises:
        ValueError: in one line.
    """
    found: dict[str, Any] = checked(KEPT_VERDICT, value, where)
    return found
