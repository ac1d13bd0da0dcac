"""The spec of a benchmark as ``benchmark.json`` holds it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from noisewright.outside.bounds import LONGEST_PROMPT, MOST_PROMPTS
from noisewright.schemas.checked import (
    CLOSED,
    LARGEST_SEED,
    Name,
    PlainObject,
    Sayable,
    Seed,
    Text,
    checked,
    whole,
    wrong,
)

MOST_AXES = 20
MOST_VALUES = 10_000
MOST_FIELDS = 100


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise wrong("one line of text")
    return text


Line = Annotated[Sayable, Field(max_length=1000), AfterValidator(_one_line)]
Label = Annotated[Name, AfterValidator(_one_line)]
Fields = Annotated[PlainObject, Field(max_length=MOST_FIELDS)]
Changes = Annotated[PlainObject, Field(min_length=1, max_length=MOST_FIELDS)]
Prompt = Annotated[Sayable, Field(min_length=1, max_length=LONGEST_PROMPT)]


class ValueJson(TypedDict):
    """A point of an axis."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    label: Label
    changes: Changes


class AxisJson(TypedDict):
    """What is varied."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    name: Label
    values: Annotated[list[ValueJson], Field(strict=True, min_length=1, max_length=MOST_VALUES)]


class SetPromptJson(TypedDict):
    """A prompt of a set."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    text: Prompt
    number: Annotated[int, whole(1)]
    category: Text | None


class SpecJson(TypedDict):
    """A benchmark, every prompt spelled out."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    name: Line
    title: Line
    base: Fields
    axes: Annotated[list[AxisJson], Field(strict=True, max_length=MOST_AXES)]
    prompts: Annotated[list[SetPromptJson], Field(strict=True, max_length=MOST_PROMPTS)]
    prompt_set: Text
    seeds: Annotated[int, whole(1)]
    seed: Seed
    seed_step: Annotated[int, whole(0, LARGEST_SEED)]
    reference: Annotated[dict[Name, Label], Field(strict=True, max_length=MOST_AXES)]
    across: Name | None
    notes: Annotated[list[Text], Field(strict=True, max_length=1000)]


SPEC: TypeAdapter[Any] = TypeAdapter(SpecJson)


def check_spec(value: Any, where: str) -> dict[str, Any]:
    """The spec of a ``benchmark.json``, but for what its fields mean.

    Raises:
        ValueError: in one line, on the first thing that is wrong.
    """
    checked(SPEC, value, where)
    found: dict[str, Any] = value
    for axis in found["axes"]:
        labels = [one["label"] for one in axis["values"]]
        if len(set(labels)) < len(labels):
            raise ValueError(f"expected each label of the axis {axis['name']} once in {where}, got one twice")
    names = [axis["name"] for axis in found["axes"]]
    if len(set(names)) < len(names):
        raise ValueError(f"expected axes of distinct names in {where}, got one twice")
    labels_by_axis = {axis["name"]: [one["label"] for one in axis["values"]] for axis in found["axes"]}
    for name, label in found["reference"].items():
        if label not in labels_by_axis.get(name, ()):
            raise ValueError(f"expected a label of an axis as reference in {where}, got {name}={label}")
    if found["across"] is not None and found["across"] not in labels_by_axis:
        raise ValueError(f"expected an axis as across in {where}, got {found['across']}")
    return found
