"""Axes: what is varied, as a spec file lists it and as it is typed in one line (``steps=10,25,50``)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from noisewright.benchmark.problems import Problems
from noisewright.benchmark.spec import Axis, Value
from noisewright.outside.messages import short, unknown
from noisewright.request import OPTIONS, Request, check_names

MOST_VALUES = 10_000
OWN = ("prompt", "seed", "given_pipeline")
"""Fields that no base and no axis sets: prompts and seeds have places of their own."""

MAPPINGS = ("search_args", "target", "ensemble", "pipeline_args")
"""Fields whose values may be tables themselves."""

FIELDS = tuple(name for name in Request.model_fields if name not in OWN)
LONGEST_LABEL = 200


def check_fields(
    given: Mapping[str, Any], problems: Problems, *path: str | int, beside: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fields that a request takes; a problem for each that it does not.

    Args:
        given: values by field name.
        problems: collects.
        path: where they stand in the file.
        beside: other fields that they are seen with.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in OWN:
            why = "prompts and seeds have keys of their own" if name != "given_pipeline" else "a spec names its model"
            problems.add(f"expected no {name} here: {why}", *path, name)
        elif name not in FIELDS:
            near = next((field for field, option in OPTIONS.items() if option == name.replace("-", "_")), None)
            hint = f"unknown field {short(name)}: its name here is {near}" if near else unknown("field", name, FIELDS)
            problems.add(hint, *path, name)
        elif said := _refused(name, value):
            problems.add(said, *path, name)
        else:
            found[name] = value
    if beside is not None and found and (said := _refused_together({**beside, **found})):
        problems.add(said, *path)
    return found


def _refused(name: str, value: Any) -> str:
    """Why a request does not take a value; "" where it does."""
    return _refused_together({name: value})


def _refused_together(fields: Mapping[str, Any]) -> str:
    try:
        check_names(Request(prompt="any", **fields))
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def axis_of(name: str, given: Any, base: Mapping[str, Any], problems: Problems, *path: str | int) -> Axis | None:
    """An axis of a spec file; None where it is wrong.

    Args:
        name: a field's, or any other where all its values are tables that set fields.
        given: the list of its values.
        base: the fields that they are seen with.
        problems: collects.
        path: where the axes stand in the file.
    """
    where = (*path, name)
    if name in OWN:
        problems.add(f"expected no axis {name}: prompts and seeds have keys of their own", *where)
        return None
    if not isinstance(given, list) or not given:
        got = "an empty list" if isinstance(given, list) else short(given)
        problems.add(f"expected a list of values as axis {name}, got {got}", *where)
        return None
    if len(given) > MOST_VALUES:
        problems.add(f"expected at most {MOST_VALUES} values of axis {name}, got {len(given)}", *where)
        return None
    values = [_value(name, one, base, problems, *where, place) for place, one in enumerate(given)]
    whole = [one for one in values if one is not None]
    labels: dict[str, int] = {}
    for place, one in enumerate(values):
        if one is not None and labels.setdefault(one.label, place) != place:
            problems.add(f"expected each label of axis {name} once, got {short(one.label)} twice", *where, place)
    return Axis(name, tuple(whole)) if whole and len(whole) == len(values) else None


def _value(
    name: str, given: Any, base: Mapping[str, Any], problems: Problems, *path: str | int
) -> Value | None:  # fmt: skip
    several = isinstance(given, dict) and (name not in MAPPINGS or "label" in given)
    if not several:
        if name not in FIELDS:
            problems.add(f"{unknown('field', name, FIELDS)}; or tables that set fields, got {short(given)}", *path)
            return None
        found = check_fields({name: given}, problems, *path, beside=base)
        return Value(label_of(given), found) if found else None
    changes = {key: one for key, one in given.items() if key != "label"}
    if not changes:
        problems.add(f"expected fields to set in a value of axis {name}, got none", *path)
        return None
    found = check_fields(changes, problems, *path, beside=base)
    label = given.get("label", ", ".join(f"{key} {label_of(one)}" for key, one in changes.items()))
    if not isinstance(label, str) or not label.strip() or "\n" in label or len(label) > LONGEST_LABEL:
        problems.add(f"expected a label as one line of text, got {short(label)}", *path, "label")
        return None
    return Value(label.strip(), found) if len(found) == len(changes) else None


def check_axes(axes: Sequence[Axis], problems: Problems, *path: str | int) -> None:
    """Two axes do not set one field."""
    setters: dict[str, str] = {}
    for axis in axes:
        for field in {field for one in axis.values for field in one.changes}:
            other = setters.setdefault(field, axis.name)
            if other != axis.name:
                problems.add(f"expected {field} on one axis, got it on {other} and {axis.name}", *path, axis.name)


def label_of(value: Any) -> str:
    """What a value is called where nobody named it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " + ".join(label_of(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {label_of(one)}" for key, one in value.items())
    return str(value)


# As typed


@cache
def fields_as_typed() -> dict[str, str]:
    """Fields by the names that options have, with ``-`` and with ``_``, and by their own."""
    found = {name: name for name in FIELDS}
    found.update({OPTIONS[name]: name for name in FIELDS if name in OPTIONS})
    return found | {name.replace("_", "-"): field for name, field in found.items()}


def typed_axis(text: str) -> Axis:
    """An axis as it is typed: ``FIELD=VALUE,VALUE,...``.

    A comma in a value is kept by double quotes around it. Several verifiers stand with ``+`` between them; a search has
    its arguments behind a colon: ``search=random,zero-order:neighbours=4``, several with ``;`` between them.

    Raises:
        ValueError, TypeError: in one line.
    """
    name, equals, rest = text.partition("=")
    known = fields_as_typed()
    field = known.get(name.strip())
    if not equals or not rest.strip():
        raise ValueError(f"expected an axis as FIELD=VALUE,VALUE, got {short(text)}")
    if field is None:
        raise ValueError(unknown("field", name.strip(), sorted(known)))
    try:
        cells = next(csv.reader([rest], skipinitialspace=True, strict=True))
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"expected values with commas between them, got {short(rest)}: {error}") from None
    problems = Problems()
    given = [_typed_search(one.strip()) if field == "search" else typed_value(field, one.strip()) for one in cells]
    if any(one == "" for one in cells):
        raise ValueError(f"expected a value between any two commas of {name.strip()}, got none in {short(rest)}")
    axis = axis_of(field, given, {}, problems)
    problems.raise_any()
    assert axis is not None  # noqa: S101 - nothing was wrong with it
    return axis


def typed_value(field: str, text: str) -> Any:
    """A field's value from text: as JSON where the field takes that and it is some, else as text.

    Raises:
        ValueError, TypeError: in one line, where no request takes it.
    """
    if field in ("verifier", "judge"):
        return [one.strip() for one in text.split("+")]
    tries: list[Any] = []
    try:
        value = json.loads(text)
        if not (isinstance(value, float) and not math.isfinite(value)):
            tries.append(value)
    except ValueError:
        pass
    tries.append({"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text))
    said = ""
    for value in tries:
        said = _refused(field, value)
        if not said:
            return value
    raise ValueError(said)


def _typed_search(text: str) -> Any:
    name, colon, rest = text.partition(":")
    if not colon:
        return text
    arguments: dict[str, Any] = {}
    for part in rest.split(";"):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"expected a search as NAME:KEY=VALUE;KEY=VALUE, got {short(text)}")
        arguments[key.strip().replace("-", "_")] = value.strip()
    return {"label": text, "search": name, "search_args": arguments}
